// Click-to-call: phone numbers of the page call through the web phone.
function calls(config) {
  const options = config.calltracker.calls;
  if (!options) {
    return;
  }

  // latin digits in place of Arabic and Persian ones, whose last four bits are their value.
  const latin = (written) => written.replace(/[٠-٩۰-۹]/g, (digit) => digit.charCodeAt(0) & 15);

  // international form of a number, or "" when there is no telling.
  const international = (written) => {
    const digits = latin(written).replace(/%20/g, " ").replace(/%2b/gi, "+").replace(/^tel:/i, "").split(";")[0].replace(/\(0\)/, "").replace(/[^\d+]/g, "");
    const { code, trunk } = options;
    let number = "";
    if (digits.startsWith("+")) {
      number = digits.slice(1);
    } else if (digits.startsWith("00")) {
      number = digits.slice(2);
    } else if (code === "1" && /^(011)?\d{11,}$/.test(digits)) {
      number = digits.replace(/^011/, "");
    } else if (code && digits.length > 5) {
      number = code + (trunk && digits.startsWith(trunk) ? digits.slice(trunk.length) : digits);
    }
    return /^[1-9]\d{6,14}$/.test(number) ? "+" + number : "";
  };

  const call = (number) => {
    const jorel = window["_jorel-callPhoneNumber"];
    const plugin = window.ZIWO && window.ZIWO.calls; // of the web phone that follows Jorel
    if (typeof jorel === "function") {
      jorel(number);
    } else if (plugin && typeof plugin.startCall === "function") {
      plugin.startCall(number);
    } else {
      return false;
    }
    return true;
  };

  const selectors = options.selectors.filter((selector) => {
    try {
      document.querySelector(selector);
      return true;
    } catch {
      console.warn(`calltracker: ${JSON.stringify(selector)} is no CSS selector`);
      return false;
    }
  });
  const links = options.links ? ['a[href^="tel:" i]'] : [];
  const wanted = [...links, ...selectors, "a[data-calltracker-call]"].join(",");

  // One listener serves the whole page, whatever comes and goes in it. Without a
  // web phone, or with a number that cannot be read, the click does what it did.
  const follow = (event) => {
    const element = event.target.closest && event.target.closest(wanted);
    // What the page, or this script's twin on it, has answered already is not called again.
    if (!element || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) {
      return;
    }
    const written = element.getAttribute("data-phone") || element.getAttribute("data-calltracker-call") ||
      (/^tel:/i.test(element.getAttribute("href") || "") && element.getAttribute("href")) || element.textContent;
    const number = international(written);
    if (number && call(number)) {
      event.preventDefault();
    } else if (number) {
      console.warn("calltracker: no web phone on this page");
    }
  };
  document.addEventListener("click", follow);
  document.addEventListener("keydown", (event) => event.key === "Enter" && event.target.role === "link" && follow(event));

  // Numbers in running text: international ones, and national ones that begin as
  // the site's country has it and are too long for a date.
  const start = options.trunk ? `(?:\\+|00|${options.trunk}(?=[1-9]))` : "(?:\\+|00)";
  const numbers = new RegExp(`(?<![\\w+.,/-])${start}\\d(?:[ \\u00a0().-]{0,2}\\d){6,14}(?![\\w/]|[.,]\\d)`, "g");
  const untouched = "a,button,input,textarea,select,option,script,style,noscript,code,pre,[contenteditable],calltracker-card";

  const mark = (node) => {
    const content = node.nodeValue;
    const plain = latin(content);
    const found = [...plain.matchAll(numbers)].filter(([match]) => international(match) && (/^(\+|00)/.test(match) || match.replace(/\D/g, "").length > 8));
    if (found.length === 0 || !node.parentElement || node.parentElement.closest(untouched)) {
      return;
    }
    const pieces = [];
    let end = 0;
    for (const match of found) {
      const link = document.createElement("a");
      link.href = "tel:" + international(match[0]);
      link.setAttribute("data-calltracker-call", international(match[0]));
      const stop = match.index + match[0].length;
      link.append(content.slice(match.index, stop));
      pieces.push(content.slice(end, match.index), link);
      end = stop;
    }
    node.replaceWith(...pieces, content.slice(end));
  };

  const dress = (root) => {
    for (const element of selectors.length > 0 && root.querySelectorAll ? root.querySelectorAll(selectors.join(",")) : []) {
      // What is no link by nature is made one for the keyboard and for screen readers.
      if (!element.matches("a[href],button") && !element.hasAttribute("role")) {
        element.setAttribute("role", "link");
        element.tabIndex = 0;
      }
    }
    if (options.text) {
      const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
      const nodes = [];
      while (walker.nextNode()) {
        nodes.push(walker.currentNode);
      }
      nodes.forEach(mark);
    }
  };

  const begin = () => {
    dress(document.body);
    // What the page adds later, all of it together once the browser has time.
    let waiting = new Set();
    const observer = new MutationObserver((changes) => {
      if (waiting.size === 0) {
        setTimeout(() => {
          const roots = waiting;
          waiting = new Set();
          [...roots].filter((root) => root.isConnected).forEach(dress);
        }, 100);
      }
      changes.forEach((change) => waiting.add(change.target));
    });
    if (options.text || selectors.length > 0) {
      observer.observe(document.body, { childList: true, subtree: true });
    }
  };
  if (document.body && document.readyState !== "loading") {
    begin();
  } else {
    document.addEventListener("DOMContentLoaded", begin, { once: true });
  }
}
