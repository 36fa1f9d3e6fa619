// boot starts an embed script. `parts` are the functions to run, `config` is the
// site's configuration, `script` is the <script> element that loaded this code,
// and `up` is the relative path from the script's URL to the server's base URL.
//
// An error in a part never reaches the page: boot logs it to the console.
function boot(parts, config, script, up) {
  const context = {
    site: config.calltracker.site,
    // The server's base URL. It comes from the page's own script tag, so a server
    // behind another host name or path needs no setting. Inline scripts and
    // modules have no such tag; they use the configured URL.
    base: script && script.src ? new URL(up, script.src).href : config.calltracker.server,
    // Read on every use, because a page may renew data-token while it is open.
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

// language returns one of the available languages: the page's language, the first
// match among the browser's preferences, or English, in this order. "fr-CA" matches "fr".
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

// direction returns the direction in which a language is written.
function direction(name) {
  return /^(ar|dv|fa|he|ku|ps|ug|ur|yi)\b/i.test(name) ? "rtl" : "ltr";
}

// load adds one of Ziwo's scripts to the page. Pages that enforce Trusted Types
// accept a script URL only from a policy
// (https://developer.mozilla.org/docs/Web/API/Trusted_Types_API).
function load(id, url, parent) {
  const loader = document.createElement("script");
  loader.id = id;
  loader.type = "text/javascript";
  loader.async = true;
  loader.addEventListener("error", () => console.error(`calltracker: failed to load ${url}`));
  let source = url;
  if (window.trustedTypes) {
    try {
      source = window.trustedTypes.createPolicy("calltracker", { createScriptURL: (input) => input }).createScriptURL(url);
    } catch {
      // The page does not allow a policy with this name. The plain URL may still work.
    }
  }
  loader.src = source;
  parent.prepend(loader);
  return loader;
}
