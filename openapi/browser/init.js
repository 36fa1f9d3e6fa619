"use strict";

SwaggerUIBundle({
  dom_id: "#api",
  url: "/openapi.json",
  // Nothing is sent to another host: there is no validator badge, and a link
  // cannot make the page show another document.
  validatorUrl: null,
  queryConfigEnabled: false,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  filter: true,
  // The admin token stays in memory and is lost when the page is closed.
  persistAuthorization: false,
});
