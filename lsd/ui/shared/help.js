// A control's help stands behind a small “?” beside its label. Runs once; what Gradio draws later is found by the observer.
const found = new WeakSet();
let due = false;

function furnish() {
  due = false;
  for (const info of document.querySelectorAll(".gradio-container .info-text")) {
    const label = info.previousElementSibling;
    if (found.has(info) || !label) continue;
    found.add(info);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "lsd-help";
    button.textContent = "?";
    button.setAttribute("aria-label", `About ${label.textContent.trim() || "this"}`);
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", event => {
      event.preventDefault();  // it may stand in the label of a control
      button.setAttribute("aria-expanded", String(info.classList.toggle("lsd-told")));
    });
    info.before(button);
  }
}

window.lsdHelp?.disconnect();
window.lsdHelp = new MutationObserver(() => {
  if (!due) requestAnimationFrame(furnish);
  due = true;
});
window.lsdHelp.observe(document.body, {childList: true, subtree: true});
document.body.classList.add("lsd-helped");
furnish();
