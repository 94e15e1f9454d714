() => {  // the choice that an address names comes into view
  const chip = document.querySelector("#choices-factor input:checked")?.closest("label"), row = chip?.parentElement;
  if (row) row.scrollLeft = chip.offsetLeft - row.offsetLeft - 40;
  const head = document.querySelector("#choices-head");
  if (!head || !new URLSearchParams(location.search).has("factor")) return;
  const top = head.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight * 0.7) document.querySelector("#choices-factor")?.scrollIntoView();
}
