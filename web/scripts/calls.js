// calls adds click-to-call: a click on a phone number in the page dials it with
// the web phone.
function calls(config) {
  const options = config.calltracker.calls;
  if (!options) {
    return;
  }

  // latinDigits replaces Arabic and Persian digits. The lowest four bits of their
  // code points are their values.
  const latinDigits = (written) => written.replace(/[٠-٩۰-۹]/g, (digit) => digit.charCodeAt(0) & 15);

  // international returns the international form of a number, or "" if the number
  // cannot be parsed.
  const international = (written) => {
    const digits = latinDigits(written).replace(/%20/g, " ").replace(/%2b/gi, "+").replace(/^tel:/i, "").split(";")[0].replace(/\(0\)/, "").replace(/[^\d+]/g, "");
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
    const plugin = window.ZIWO && window.ZIWO.calls; // the web phone that succeeds Jorel
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
      console.warn(`calltracker: ${JSON.stringify(selector)} is not a valid CSS selector`);
      return false;
    }
  });
  const links = options.links ? ['a[href^="tel:" i]'] : [];
  const wanted = [...links, ...selectors, "a[data-calltracker-call]"].join(",");

  // One listener on the document also covers elements that the page adds later. If
  // there is no web phone, or the number cannot be parsed, the click keeps its
  // usual effect.
  const follow = (event) => {
    const element = event.target.closest && event.target.closest(wanted);
    // Skip clicks that the page, or another copy of this script, has already handled.
    if (!element || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) {
      return;
    }
    const written = element.getAttribute("data-phone") || element.getAttribute("data-calltracker-call") ||
      (/^tel:/i.test(element.getAttribute("href") || "") && element.getAttribute("href")) || element.textContent;
    const number = international(written);
    if (number && call(number)) {
      event.preventDefault();
    } else if (number) {
      console.warn("calltracker: there is no web phone on this page");
    }
  };
  document.addEventListener("click", follow);
  document.addEventListener("keydown", (event) => event.key === "Enter" && event.target.role === "link" && follow(event));

  // Numbers in running text: international numbers, and national numbers that start
  // with the trunk prefix of the site's country and are too long to be dates.
  const start = options.trunk ? `(?:\\+|00|${options.trunk}(?=[1-9]))` : "(?:\\+|00)";
  const numbers = new RegExp(`(?<![\\w+.,/-])${start}\\d(?:[ \\u00a0().-]{0,2}\\d){6,14}(?![\\w/]|[.,]\\d)`, "g");
  const excluded = "a,button,input,textarea,select,option,script,style,noscript,code,pre,[contenteditable],calltracker-card";

  // linkNumbers turns the phone numbers in a text node into tel: links.
  const linkNumbers = (node) => {
    const content = node.nodeValue;
    const plain = latinDigits(content);
    const found = [...plain.matchAll(numbers)].filter(([match]) => international(match) && (/^(\+|00)/.test(match) || match.replace(/\D/g, "").length > 8));
    if (found.length === 0 || !node.parentElement || node.parentElement.closest(excluded)) {
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

  // prepare makes the phone numbers under root clickable.
  const prepare = (root) => {
    for (const element of selectors.length > 0 && root.querySelectorAll ? root.querySelectorAll(selectors.join(",")) : []) {
      // Other elements get the role of a link, for keyboards and screen readers.
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
      nodes.forEach(linkNumbers);
    }
  };

  const begin = () => {
    prepare(document.body);
    // Prepare what the page adds later, in batches.
    let changed = new Set();
    const observer = new MutationObserver((changes) => {
      if (changed.size === 0) {
        setTimeout(() => {
          const roots = changed;
          changed = new Set();
          [...roots].filter((root) => root.isConnected).forEach(prepare);
        }, 100);
      }
      changes.forEach((change) => changed.add(change.target));
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
