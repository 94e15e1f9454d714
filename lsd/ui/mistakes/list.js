// A mistake of the list is chosen: it is marked at once, and its explanation comes into view.
element.addEventListener("click", event => {
  const button = event.target.closest("button[data-picture]");
  if (!button) return;
  for (const other of element.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-pressed", "true");
  trigger("select", {picture: button.dataset.picture, by: button.dataset.by});
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const quiz = document.getElementById("quiz"), asking = quiz?.querySelector("input:checked");
  (asking ? quiz : document.getElementById("why"))?.scrollIntoView({behavior: calm ? "auto" : "smooth"});
});
