window.lsdChoices?.abort();
window.lsdChoices = new AbortController();
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='?tab=choices']");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.getAttribute("href"));
  trigger("show", {factor: new URLSearchParams(link.getAttribute("href")).get("factor")});
}, {signal: window.lsdChoices.signal});
