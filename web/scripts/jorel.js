// Jorel puts Ziwo's web phone on the page. Its configuration is what Ziwo's
// snippet writes into localStorage before the loader is added.
function jorel(config, context) {
  const set = (key, value) => {
    try {
      localStorage.setItem("_jorel-" + key, value);
    } catch (error) {
      console.warn("calltracker: the browser keeps no settings for this page.", error);
    }
  };
  // Without a contact center the agent types one, and that one must survive.
  if (config.contactCenterName) {
    set("ccName", config.contactCenterName);
  }
  // With a token of Ziwo's that the page has for its agent, nobody has to log in.
  if (context.attribute("ziwo-token")) {
    set("token", context.attribute("ziwo-token"));
  }
  set("default-position", config.defaultPosition);
  set("default-size", config.defaultSize);
  set("default-phone-number-region-code", config.defaultRegionCode);
  set("fixed", String(config.fixedPositionAndSize));
  set("no-minimization", String(config.deactivateMinimization));
  set("no-console-output", String(config.deactivateConsoleOutput));

  const add = () => {
    if (!document.getElementById("jorelScriptLoader")) {
      load("jorelScriptLoader", "https://jorel.ziwo.io/master/latest/jorel.js?v=" + Date.now(), document.body);
    }
  };
  if (document.body) {
    add();
  } else {
    document.addEventListener("DOMContentLoaded", add, { once: true });
  }
}
