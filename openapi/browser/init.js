"use strict";

SwaggerUIBundle({
  dom_id: "#api",
  url: "/openapi.json",
  // Nothing may leave this host: no validator badge, and no link that makes
  // the page show another document.
  validatorUrl: null,
  queryConfigEnabled: false,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  filter: true,
  // The admin token stays in memory and goes with the page.
  persistAuthorization: false,
});
