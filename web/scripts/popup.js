// popup opens the caller's page in the CRM when the phone rings. It listens to the
// call events of Ziwo's phones, asks the server for the customer, and opens the
// page in one window that all calls share.
function popup(config, context) {
  const options = config.calltracker.popup;
  if (!options || options.on.length === 0) {
    return;
  }

  // Ziwo's phones emit three families of events. They differ in the prefix of the
  // event's name and in the location of the call's details. One call may emit
  // events of several families.
  const prefixes = ["_jorel-dialog-state-", "ziwo-", "ziwo-call-"];
  const lookupTimeout = 4000; // ms; the server answers within 1.5 s
  const windowName = "calltracker-" + context.site;
  let latest = 0; // number of the newest call; a late answer must not replace a newer call's page

  // readCall returns the call that an event of any family describes.
  const readCall = (event) => {
    const detail = object(event.detail);
    const call = object(detail.call);
    const people = Array.isArray(call.participants) ? call.participants.map(object) : [];
    const outside = object(people.find((person) => text(person.number) && !person.isInternal));
    return {
      ids: [detail.primaryCallID, detail.callID, call.vertoPrimaryCallId, call.callId].map(text).filter(Boolean),
      number: text(detail.customerNumber) || text(outside.number) || text(object(call.origin).number),
      direction: text(detail.direction || call.direction).toLowerCase(),
    };
  };

  // Colleagues, extensions such as 1001 or agent-0029, and withheld numbers have
  // no page in the CRM. isPublic reports whether a call has any other number.
  const isPublic = (call) =>
    call.direction !== "internal" && call.direction !== "service" && !/[a-z]/i.test(call.number) && call.number.replace(/\D/g, "").length > 4;

  const lookUp = async (number) => {
    // If the page defines this function, documented on Ziwo's developer page, it
    // takes precedence.
    if (typeof window.getCrmUrlFromPhoneNumber === "function") {
      const url = text(await window.getCrmUrlFromPhoneNumber(number));
      return { status: url ? "found" : "none", url, own: true };
    }
    const query = new URLSearchParams({ site: context.site, number });
    for (const name of ["token", "key"]) {
      if (context.attribute(name)) {
        query.set(name, context.attribute(name));
      }
    }
    const response = await fetch(`${context.base}crm/url?${query}`, { credentials: "omit", signal: AbortSignal.timeout(lookupTimeout) }).catch((error) => {
      throw new Error(`no answer that ${location.origin} can read: check that the origins of ${context.site} include it. ${error}`);
    });
    if (!response.ok) {
      throw new Error(response.status === 401 ? "data-token or data-key is missing, invalid, or expired" : `the server answered ${response.status}`);
    }
    return object(await response.json());
  };

  // safe returns the URL if it uses https, and "" otherwise. The page's own function
  // may also return an http URL.
  const safe = (value, own) => {
    try {
      const url = text(value) && new URL(text(value), location.href);
      return url && (url.protocol === "https:" || (own && url.protocol === "http:")) ? url.href : "";
    } catch {
      return "";
    }
  };

  const answerFor = async (number) => {
    let timer = 0;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${lookupTimeout} ms`)), lookupTimeout);
    });
    let answer;
    try {
      answer = await Promise.race([lookUp(number), late]);
    } catch (error) {
      console.warn("calltracker: customer lookup failed.", error);
      answer = { status: "unavailable" };
    }
    clearTimeout(timer);
    const customers = (Array.isArray(answer.customers) ? answer.customers : []).map(object).map((customer) => ({
      ...customer,
      name: text(customer.name),
      url: safe(customer.url),
    }));
    return { status: text(answer.status) || "unavailable", url: safe(answer.url, answer.own), customers };
  };

  // plan returns what to do with an answer: open a URL, show a card, or nothing.
  const plan = ({ status, url, customers }) => {
    const first = url || object(customers.find((customer) => customer.url)).url || "";
    const choices = { many: options.many, none: options.none, unavailable: options.unavailable, skipped: "nothing" };
    const choice = choices[status] || "open";
    if (choice === "nothing") {
      return {};
    }
    const chooser = choice === "choose" && customers.some((customer) => customer.url);
    return chooser ? { card: true } : { open: first, card: !first };
  };

  // isBlank reports whether a window is new. It cannot read the URL of a window that
  // shows a page of the CRM.
  const isBlank = (opened) => {
    try {
      return opened.location.href === "about:blank";
    } catch {
      return false;
    }
  };

  const handle = async (state, event) => {
    const call = readCall(event);
    if (!isPublic(call) || !claim(call)) {
      return;
    }
    latest += 1;
    const turn = latest;
    // Browsers allow a window only shortly after a click, so open it before the
    // answer arrives and set its URL later. An existing window is reused.
    const opened = options.open === "window" ? window.open("", windowName) : null;
    if (opened && isBlank(opened)) {
      opened.document.title = opened.document.body.textContent = `${cardTexts(options.texts).looking} ${call.number}`;
    }
    const answer = await answerFor(call.number);
    const next = plan(answer);
    const discard = () => opened && turn === latest && isBlank(opened) && opened.close();
    const detail = { site: context.site, state, callID: call.ids[0] || "", number: call.number, direction: call.direction, ...answer };
    const wanted = window.dispatchEvent(new CustomEvent("calltracker-popup", { cancelable: true, detail }));
    if (!wanted || options.open === "event") {
      discard();
      return;
    }
    if (next.open && options.open === "window" && turn === latest && window.open(next.open, windowName)) {
      return;
    }
    discard();
    if (next.open || next.card) {
      card(options, call, answer, next.open, windowName);
    }
  };

  for (const state of new Set(options.on)) {
    for (const prefix of prefixes) {
      window.addEventListener(prefix + state, (event) => {
        handle(state, event).catch((error) => console.error("calltracker:", error));
      });
    }
  }
}

// Events and answers may contain anything. text and object convert a value to the
// expected type.
const text = (value) => (typeof value === "string" || typeof value === "number" ? String(value).trim() : "");
const object = (value) => (value && typeof value === "object" ? value : {});

// claim reports whether a call is new, and records it. One call emits several
// events, possibly from several phones, with the ID of any of its legs. The events
// repeat if the page is reloaded, or open in another tab, while the phone rings.
function claim(call) {
  const key = "calltracker-calls";
  const maxAge = 6 * 3600000; // ms
  const maxCalls = 100;
  const memory = (window[Symbol.for(key)] = window[Symbol.for(key)] || new Map());
  const now = Date.now();
  let stored = [];
  try {
    stored = JSON.parse(localStorage.getItem(key)) || [];
  } catch {
    // Without storage, only this page remembers the call.
  }
  stored = (Array.isArray(stored) ? stored : []).filter((entry) => Array.isArray(entry) && now - entry[1] < maxAge);
  // A call without an ID is identified by its number for one minute.
  const minute = 60000;
  const anonymous = call.ids.length === 0 ? ["number " + call.number] : [];
  const repeated =
    call.ids.some((id) => memory.has(id) || stored.some((entry) => entry[0] === id)) ||
    anonymous.some((id) => now - (memory.get(id) || 0) < minute);
  for (const id of [...call.ids, ...anonymous]) {
    memory.set(id, now);
  }
  for (const id of memory.keys()) {
    if (memory.size > maxCalls) {
      memory.delete(id);
    }
  }
  const fresh = call.ids.filter((id) => !stored.some((entry) => entry[0] === id)).map((id) => [id, now]);
  try {
    localStorage.setItem(key, JSON.stringify([...stored, ...fresh].slice(-maxCalls)));
  } catch {
    // Without storage, only this page remembers the call.
  }
  return !repeated;
}

// cardTexts returns the texts of the card in the language of the page.
function cardTexts(texts) {
  const chosen = language(Object.keys(texts));
  return { ...texts[chosen], language: chosen };
}

// STYLE is the stylesheet of the card. Colors follow the browser's light or dark
// mode.
const STYLE = `
:host { all: initial; --ink: #1d2530; --dim: #5b6675; --paper: #fff; --line: #dfe3e9; --blue: #0b5cad; --hover: #f1f5fa; }
@media (prefers-color-scheme: dark) {
  :host { --ink: #edf1f6; --dim: #a3afbd; --paper: #1c232d; --line: #38424f; --blue: #7db8f5; --hover: #27303c; }
}
.card { position: fixed; bottom: 16px; z-index: 2147483647; box-sizing: border-box; width: 300px; max-width: calc(100vw - 32px);
  max-height: calc(100vh - 32px); overflow: auto; padding: 12px 14px; border: 1px solid var(--line); border-radius: 10px;
  background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; box-shadow: 0 6px 24px rgb(0 0 0 / .22); }
.left { left: 16px; }
.right { right: 16px; }
header { display: flex; align-items: baseline; gap: 8px; }
.what { color: var(--dim); }
.number { flex: 1; font-variant-numeric: tabular-nums; }
:host([dir="rtl"]) .number { text-align: right; }
p { margin: 6px 0 0; }
ul { margin: 6px -6px 0; padding: 0; list-style: none; }
a { display: flex; justify-content: space-between; align-items: baseline; gap: 10px; margin-top: 4px; padding: 6px; border-radius: 6px; color: var(--blue); text-decoration: none; }
a:hover { background: var(--hover); text-decoration: underline; }
.name { overflow: hidden; text-overflow: ellipsis; font-weight: 600; }
.from { color: var(--dim); font-size: 12px; }
.close { border: 0; border-radius: 6px; padding: 0 7px; background: none; color: var(--dim); font: 18px/1.3 system-ui, sans-serif; cursor: pointer; }
.close:hover { background: var(--hover); color: var(--ink); }
a:focus-visible, .close:focus-visible { outline: 2px solid var(--blue); outline-offset: 1px; }
`;

// card shows a small card in a corner of the page with the caller and links. The
// card is in a shadow tree, so the page's styles do not affect it. Its stylesheet
// is built by script, because strict policies block style elements.
function card(options, call, answer, url, windowName) {
  const say = cardTexts(options.texts);
  const make = (name, className, content) => {
    const element = document.createElement(name);
    element.className = className;
    element.append(...content);
    return element;
  };
  const link = (href, content) => {
    const element = make("a", "open", content);
    element.href = href;
    element.target = windowName;
    return element;
  };

  for (const old of document.querySelectorAll("calltracker-card")) {
    old.remove();
  }
  const host = document.createElement("calltracker-card");
  host.lang = say.language;
  host.dir = direction(say.language);
  const tree = host.attachShadow({ mode: "open" });
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    tree.adoptedStyleSheets = [sheet];
  } catch {
    // An old browser shows the card without styles.
  }

  const close = make("button", "close", ["×"]);
  close.type = "button";
  close.setAttribute("aria-label", say.close);
  close.addEventListener("click", () => host.remove());
  const number = make("bdi", "number", [call.number]);
  number.dir = "ltr";
  const box = make("section", "card " + options.side, [
    make("header", "", [make("span", "what", [call.direction === "outbound" ? say.outbound : say.inbound]), number, close]),
  ]);
  box.setAttribute("role", "status");
  const people = answer.customers.filter((customer) => customer.url);
  const message = answer.status === "many" ? say.choose : say[answer.status === "none" ? "none" : "unavailable"];
  if (answer.status !== "found") {
    box.append(make("p", "", [message]));
  }
  if (people.length > 0) {
    const rows = people.slice(0, 20).map((customer) => {
      const row = link(customer.url, [make("bdi", "name", [customer.name || call.number])]);
      row.append(make("span", "from", [text(customer.connection)]));
      return make("li", "", [row]);
    });
    box.append(make("ul", "", rows));
  } else if (url) {
    box.append(link(url, [answer.status === "found" ? say.open : say.search]));
  }
  tree.append(box);
  (document.body || document.documentElement).append(host);
}
