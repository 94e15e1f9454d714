// A square is guessed, or the next mistake asked for. What comes in place of a pressed button takes the focus over.
element.addEventListener("click", event => {
  const square = event.target.closest("button[data-guess]"), next = event.target.closest("button[data-picture]");
  if (!square && !next) return;
  new MutationObserver((_, watch) => {
    const place = element.querySelector("button[data-picture], button[data-guess]");
    if (!place) return;
    watch.disconnect();
    place.focus({preventScroll: Boolean(square)});
  }).observe(element, {childList: true, subtree: true});
  if (square) trigger("submit", {guess: Number(square.dataset.guess)});
  else trigger("select", {picture: next.dataset.picture, by: next.dataset.by});
});
