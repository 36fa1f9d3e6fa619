// The script of a site's page: copy buttons, and the preview's languages and states.
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // The browser denies access to the clipboard, for example without https. Select
      // the line so that the user can copy it.
      window.getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      return;
    }
    const label = button.textContent;
    button.textContent = button.getAttribute("data-done");
    setTimeout(() => (button.textContent = label), 1500);
  });
}

for (const name of ["language", "state"]) {
  const buttons = [...document.querySelectorAll(`button[data-${name}]`)];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const wanted = button.getAttribute("data-" + name);
      for (const other of buttons) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      for (const shown of document.querySelectorAll(`.preview [data-${name}]`)) {
        shown.hidden = shown.getAttribute("data-" + name) !== wanted;
      }
    });
  }
}

// The server formats times in the site's time zone. The tooltip shows the browser's
// time zone. When the time arrives, the page is out of date and reloads.
for (const time of document.querySelectorAll("time")) {
  time.title = new Date(time.dateTime).toLocaleString();
  const wait = Date.parse(time.dateTime) - Date.now();
  const maxDelay = 2147483647; // ms; a longer timer fires immediately
  if (wait > 0 && wait + 1000 < maxDelay) {
    setTimeout(() => location.reload(), wait + 1000);
  }
}
