// Every script of calltracker starts here. `parts` are the functions that do the
// work, `config` is the site's configuration, `script` the <script> that brought
// them, and `up` the way from its address to the server's.
//
// Nothing that goes wrong in here may reach the page: it ends in the console.
function boot(parts, config, script, up) {
  const context = {
    site: config.calltracker.site,
    // Where the server is: whatever the page's own line says, so that a server
    // behind another name or path needs no setting for it. The browser knows the
    // line no more when the code was pasted inline, or is a module.
    base: script && script.src ? new URL(up, script.src).href : config.calltracker.server,
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
