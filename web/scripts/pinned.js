// pinned starts a versioned script. A script at a stable URL (/webcallback/shop.js)
// contains its configuration. A script at a versioned URL
// (/webcallback/shop/1a2b3c.js) never changes, so a page can pin it with
// `integrity`; it fetches its configuration from /webcallback/shop.json.
function pinned(parts) {
  // document.currentScript is set only while the script first runs.
  const script = document.currentScript;
  if (!script || !script.src) {
    console.error("calltracker: load a versioned script with <script src=…>");
    return;
  }
  const url = new URL(script.src);
  url.pathname = url.pathname.replace(/\/[^/]*$/, ".json");
  url.search = "";
  fetch(url, { credentials: "omit", signal: AbortSignal.timeout(10000) })
    .then((response) => {
      if (!response.ok) {
        throw new Error(`status ${response.status}`);
      }
      return response.json();
    })
    .then((config) => boot(parts, config, script, "../.."))
    .catch((error) => console.error(`calltracker: no configuration from ${url}: check that the site exists and that its origins include ${location.origin}.`, error));
}
