// A click on a seed shows its picture large, in all columns. Runs once in each column's strip.
element.addEventListener("click", event => {
  const chosen = event.target.closest("button[data-seed]");
  if (!chosen) return;
  for (const button of document.querySelectorAll(".lsd-seeds button[data-seed]")) {
    button.setAttribute("aria-pressed", button.dataset.seed === chosen.dataset.seed);
  }
  trigger("chosen", {seed: Number(chosen.dataset.seed)});
  lsd.amend("features", {seed: Number(chosen.dataset.seed) || null});
});
