// WebCallback puts Ziwo's call-me-back button on the page, as the snippet of
// Ziwo's developer page does: add the loader, hand the configuration to the
// element that the loaded script makes, then place the button.
function webcallback(config) {
  const { calltracker: own, ...settings } = config;
  if (document.getElementById("webcallbackScriptLoader")) {
    console.warn(`calltracker: there is a WebCallback button on this page already; that of ${own.site} is left out`);
    return;
  }
  const chosen = language(Object.keys(own.texts));
  settings.customTexts = own.texts[chosen] || settings.customTexts;

  // Whether the button shows as offline, by the page's own clock.
  const isOffline = () =>
    own.changes.reduce((offline, change) => (Date.parse(change.at) <= Date.now() ? change.offline : offline), settings.offline);
  // The state that Ziwo's script was given last.
  let shown;

  // Ziwo's script makes #webcallbackConfig and reads the configuration from its content.
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
      console.warn(`calltracker: the page has no element with the id ${JSON.stringify(settings.replacementTargetId)}; the button stands in its corner`);
    }
    root.classList.add(...settings.positionClass.split(/\s+/).filter(Boolean));
  };

  const follow = (element, root) => {
    // A timer of more than 24 days would fire at once, and none runs while a
    // laptop sleeps: look again every hour and when the page is seen again.
    const hour = 3600000;
    let timer = 0;
    const look = () => {
      clearTimeout(timer);
      if (isOffline() !== shown) {
        configure(element, root);
        root.dispatchEvent(new CustomEvent("calltracker-offline", { bubbles: true, detail: { offline: shown } }));
      }
      const next = own.changes.map((change) => Date.parse(change.at) - Date.now()).find((wait) => wait > 0);
      if (next !== undefined) {
        timer = setTimeout(look, Math.min(next + 50, hour));
      }
    };
    look();
    document.addEventListener("visibilitychange", look);
    window.addEventListener("pageshow", look);
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
    // The place for the button may stand further down in a page that still loads.
    if (document.readyState === "loading") {
      await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
    }
    if (begin()) {
      return;
    }
    // Not made yet: wait for it, but not for ever.
    const observer = new MutationObserver(() => begin() && observer.disconnect());
    observer.observe(document.documentElement, { childList: true, subtree: true });
    setTimeout(() => {
      observer.disconnect();
      if (shown === undefined) {
        console.error("calltracker: Ziwo's script came, and made no button within 10 s");
      }
    }, 10000);
  });
}
