// jorel adds Ziwo's web phone to the page. Like Ziwo's own snippet, it writes the
// configuration to localStorage before it adds the loader.
function jorel(config, context) {
  const set = (key, value) => {
    try {
      localStorage.setItem("_jorel-" + key, value);
    } catch (error) {
      console.warn("calltracker: cannot store the settings of the web phone in this browser.", error);
    }
  };
  // If no contact center is configured, the agent enters one. Do not overwrite it.
  if (config.contactCenterName) {
    set("ccName", config.contactCenterName);
  }
  // If the page provides the agent's Ziwo token, the agent does not have to log in.
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
