// The page for a site's owner: copy buttons, and the preview's languages and states.
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Not allowed, or no https: the line is selected, ready for the keyboard.
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

// The server writes times in the site's zone; the reader's own is a hover away.
// When one has come, what the page shows has changed: it is loaded anew.
for (const time of document.querySelectorAll("time")) {
  time.title = new Date(time.dateTime).toLocaleString();
  const wait = Date.parse(time.dateTime) - Date.now();
  const longest = 2147483647; // ms; a longer timer would fire at once
  if (wait > 0 && wait + 1000 < longest) {
    setTimeout(() => location.reload(), wait + 1000);
  }
}
