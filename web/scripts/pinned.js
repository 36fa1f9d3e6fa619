// The stable address of a script (/webcallback/shop.js) carries its configuration.
// A versioned one (/webcallback/shop/1a2b3c.js) never changes, so that a page can
// pin it with `integrity`: it starts here, and fetches /webcallback/shop.json.
function pinned(parts) {
  // Only now, while the script runs for the first time, the browser tells which it is.
  const script = document.currentScript;
  if (!script || !script.src) {
    console.error("calltracker: a versioned script has to be loaded by <script src=…>");
    return;
  }
  const address = new URL(script.src);
  address.pathname = address.pathname.replace(/\/[^/]*$/, ".json");
  address.search = "";
  fetch(address, { credentials: "omit", signal: AbortSignal.timeout(10000) })
    .then((response) => {
      if (!response.ok) {
        throw new Error(`it answered ${response.status}`);
      }
      return response.json();
    })
    .then((config) => boot(parts, config, script, "../.."))
    .catch((error) => console.error(`calltracker: no configuration from ${address}; is there such a site, with ${location.origin} among its origins?`, error));
}
