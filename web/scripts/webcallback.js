// webcallback adds Ziwo's callback button to the page, like the snippet on Ziwo's
// developer page: it adds the loader, passes the configuration to the element that
// the loaded script creates, and then positions the button.
function webcallback(config) {
  const { calltracker: own, ...settings } = config;
  if (document.getElementById("webcallbackScriptLoader")) {
    console.warn(`calltracker: this page already has a callback button; ignoring the button of ${own.site}`);
    return;
  }
  const chosen = language(Object.keys(own.texts));
  settings.customTexts = own.texts[chosen] || settings.customTexts;

  // isOffline reports whether the button is offline now, by the browser's clock.
  const isOffline = () =>
    own.changes.reduce((offline, change) => (Date.parse(change.at) <= Date.now() ? change.offline : offline), settings.offline);
  // The state last passed to Ziwo's script.
  let shown;

  // Ziwo's script creates #webcallbackConfig and reads the configuration from its content.
  const configure = (element, root) => {
    shown = isOffline();
    element.content = JSON.stringify({ ...settings, offline: shown });
    root.classList.toggle("calltracker-offline", shown);
  };

  const place = (root) => {
    root.lang = chosen;
    root.dir = direction(chosen);
    const target = settings.replacementTargetId && document.getElementById(settings.replacementTargetId);
    if (target) {
      target.replaceWith(root);
      root.classList.add("replaced");
      return;
    }
    if (settings.replacementTargetId) {
      console.warn(`calltracker: no element with the id ${JSON.stringify(settings.replacementTargetId)} on this page; positioning the button by positionClass`);
    }
    root.classList.add(...settings.positionClass.split(/\s+/).filter(Boolean));
  };

  const follow = (element, root) => {
    // A timer of more than 24 days fires immediately, and no timer runs while a
    // laptop sleeps. So check every hour, and whenever the page becomes visible.
    const hour = 3600000;
    let timer = 0;
    const update = () => {
      clearTimeout(timer);
      if (isOffline() !== shown) {
        configure(element, root);
        root.dispatchEvent(new CustomEvent("calltracker-offline", { bubbles: true, detail: { offline: shown } }));
      }
      const next = own.changes.map((change) => Date.parse(change.at) - Date.now()).find((wait) => wait > 0);
      if (next !== undefined) {
        timer = setTimeout(update, Math.min(next + 50, hour));
      }
    };
    update();
    document.addEventListener("visibilitychange", update);
    window.addEventListener("pageshow", update);
  };

  const begin = () => {
    const element = document.getElementById("webcallbackConfig");
    const root = document.getElementById("__webcallback");
    if (!element || !root) {
      return false;
    }
    configure(element, root);
    place(root);
    follow(element, root);
    return true;
  };

  const loader = load("webcallbackScriptLoader", "https://webcallback.ziwo.io/master/latest/webcallback.js", document.head || document.documentElement);
  loader.addEventListener("load", async () => {
    // While the page loads, the element to replace may not exist yet.
    if (document.readyState === "loading") {
      await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
    }
    if (begin()) {
      return;
    }
    // Ziwo's script has not created the button yet. Wait up to 10 s.
    const observer = new MutationObserver(() => begin() && observer.disconnect());
    observer.observe(document.documentElement, { childList: true, subtree: true });
    setTimeout(() => {
      observer.disconnect();
      if (shown === undefined) {
        console.error("calltracker: Ziwo's script loaded but created no button within 10 s");
      }
    }, 10000);
  });
}
