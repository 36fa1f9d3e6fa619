// Every script of calltracker starts here. `parts` are the functions that do the
// work, `embedded` is the site's configuration. The stable address of a script
// (/webcallback/shop.js) carries its configuration; a versioned one
// (/webcallback/shop/1a2b3c.js) never changes, so that a page can pin it with
// `integrity`, and fetches its configuration from /webcallback/shop.json.
//
// Nothing that goes wrong in here may reach the page: it ends in the console.
function boot(parts, embedded) {
  // Only now, while the script runs for the first time, the browser tells which
  // <script> it is. It is null in a module or when the code was pasted inline.
  const script = document.currentScript;

  const start = (config) => {
    const context = {
      site: config.calltracker.site,
      // Where the server is: whatever the page's own line says, so that a
      // server behind another name or path needs no setting for it.
      base: script && script.src ? new URL(embedded ? ".." : "../..", script.src).href : config.calltracker.server,
      // Read at each use: a page may renew data-token while it is open.
      attribute: (name) => (script && script.getAttribute("data-" + name)) || "",
    };
    for (const part of parts) {
      try {
        part(config, context);
      } catch (error) {
        console.error("calltracker:", error);
      }
    }
  };

  if (embedded) {
    start(embedded);
    return;
  }
  if (!script || !script.src) {
    console.error("calltracker: a versioned script has to be loaded by <script src=…>");
    return;
  }
  const address = new URL(script.src);
  address.pathname = address.pathname.replace(/\/[^/]*$/, ".json");
  address.search = "";
  fetch(address, { credentials: "omit" })
    .then((response) => {
      if (!response.ok) {
        throw new Error(`${address} answered ${response.status}`);
      }
      return response.json();
    })
    .then(start)
    .catch((error) => console.error("calltracker: no configuration.", error));
}

// language picks one of the available languages: that of the page, else the
// first that the visitor's browser prefers, else English. "fr-CA" takes "fr".
function language(available) {
  const browser = navigator.languages || [navigator.language];
  for (const wanted of [document.documentElement.lang, ...browser]) {
    const tag = String(wanted || "").toLowerCase();
    const found =
      available.find((name) => name.toLowerCase() === tag) ||
      available.find((name) => name.toLowerCase() === tag.split("-")[0]);
    if (found) {
      return found;
    }
  }
  return "en";
}

// direction of writing of a language.
function direction(name) {
  return /^(ar|dv|fa|he|ku|ps|ug|ur|yi)\b/i.test(name) ? "rtl" : "ltr";
}

// load adds a script of Ziwo's to the page. Pages that enforce Trusted Types take
// its address only from a policy (https://developer.mozilla.org/docs/Web/API/Trusted_Types_API).
function load(id, address, parent) {
  const loader = document.createElement("script");
  loader.id = id;
  loader.type = "text/javascript";
  loader.async = true;
  loader.addEventListener("error", () => console.error(`calltracker: ${address} could not be loaded`));
  let source = address;
  if (window.trustedTypes) {
    try {
      source = window.trustedTypes.createPolicy("calltracker", { createScriptURL: (url) => url }).createScriptURL(address);
    } catch {
      // The page allows no policy of this name; the plain address may still do.
    }
  }
  loader.src = source;
  parent.prepend(loader);
  return loader;
}
