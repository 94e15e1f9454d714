const root = () => document.querySelector("#lsd-gallery");
const search = element.querySelector("input"), sort = element.querySelector("select");
const filter = element.querySelector("#lsd-g-filter");
const placeholders = {
  browse: "Search: dog, layer3 channel, a model's name …", classes: "Search classes: dog, fruit, a name …",
  compare: "Search classes to add: dog, fruit, a name …",
};
// Before the first answer the page has the front's shape; an address of another view has no column for filters.
document.documentElement.classList.toggle("lsd-g-wide", ["u", "view"].some(key => new URLSearchParams(location.search).has(key)));
let typed = 0, typing = false, scroll = null, focus = false, waiting = 0;

window.lsdGallery?.stop();
const off = new AbortController();
const on = (target, name, handler, options) => target.addEventListener(name, handler, {signal: off.signal, ...options});
const ours = query => lsd.tabOf(query) === "gallery" && query.size > 0;

on(document, "lsd:show", event => {
  if (event.detail.tab !== "gallery") return;
  waiting += 1;
  root()?.setAttribute("aria-busy", "true");
});

// What the way back from a picture leads to is kept with the page in the browser's history, so a reload keeps it too.
function go(query, {replace = false, top = true, state = null} = {}) {
  const here = lsd.params(location.search), now = history.state || {};
  const known = state || (here.has("u") ? {back: now.lsd?.back, y: now.lsd?.y} : {back: location.search, y: scrollY});
  history.replaceState({...now, here: scrollY}, "");
  scroll = top ? 0 : null;
  lsd.go(query, {replace: replace, state: {lsd: known}});
}

on(document, "click", event => {
  const copy = event.target.closest("#lsd-gallery [data-copy]");
  if (copy) return copied(copy);
  if (event.target.closest("#lsd-gallery [data-skip]")) return document.querySelector("#lsd-g-main .lsd-g-card")?.focus();
  const link = event.target.closest("#lsd-gallery a[href^='?']");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const query = lsd.params(link.getAttribute("href"));
  if (!ours(query)) return;
  event.preventDefault();
  filter.setAttribute("aria-expanded", "false");
  root().classList.remove("lsd-g-open");
  typing = false;
  focus = query.has("u");
  const from = history.state?.lsd;
  if (link.hasAttribute("data-back") && from) {
    go(ours(lsd.params(from.back || "")) ? lsd.params(from.back).toString() : "tab=gallery", {state: {}});
    scroll = from.y;
  } else go(link.getAttribute("href").slice(1), {top: !link.closest(".lsd-g-pick, .lsd-g-facets")});
}, {capture: true});  // before address.js, which follows all other links

on(window, "popstate", event => {
  scroll = event.state?.here ?? 0;
  typing = false;
});

on(search, "input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    const here = lsd.params(location.search), query = here.has("u") || !ours(here) ? new URLSearchParams({tab: "gallery"}) : here;
    if (query.get("view") === "class") { query.delete("view"); query.delete("class"); }
    search.value.trim() ? query.set("q", search.value.trim()) : query.delete("q");
    query.delete("page");
    go(query.toString(), {replace: typing, top: false});  // one step of the history for all of a word's letters
    typing = true;
  }, 250);
});
on(search, "blur", () => { typing = false; });

on(sort, "change", () => {
  const here = lsd.params(location.search), query = ours(here) && !here.has("u") ? here : new URLSearchParams({tab: "gallery"});
  query.set("sort", sort.value);
  query.delete("page");
  go(query.toString());
});

on(filter, "click", () => {
  const open = root().classList.toggle("lsd-g-open");
  filter.setAttribute("aria-expanded", String(open));
});

async function copied(button) {
  const code = button.parentElement.querySelector("pre");
  const text = button.dataset.copy === "address" ? location.href : code.textContent, name = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // not allowed, or not over https: leave it marked, to be copied by hand
    if (code) getSelection().selectAllChildren(code);
    button.textContent = code ? "Marked" : "See the address bar";
  }
  setTimeout(() => { button.textContent = name; }, 1500);
}

function shown() {
  const view = document.querySelector("#lsd-g-main [data-view]"), query = lsd.params(location.search);
  const what = view?.dataset.view || "browse";
  lsd.answered("gallery");
  waiting = Math.max(0, waiting - 1);
  if (!waiting) root().removeAttribute("aria-busy");
  root().dataset.view = what;
  if (document.activeElement !== search) search.value = ours(query) ? query.get("q") || "" : "";
  search.placeholder = placeholders[what] || placeholders.browse;
  sort.value = view?.dataset.sort || "agreement";
  for (const link of element.querySelectorAll(".lsd-g-views a")) {
    link.dataset.view === view?.dataset.tab ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (scroll !== null) window.scrollTo(0, scroll);
  if (focus) document.querySelector("#lsd-g-main h2")?.focus({preventScroll: true});
  scroll = null; focus = false;
}
window.lsdGallery = {shown: shown, stop: () => off.abort()};
if (document.querySelector("#lsd-g-main [data-view]")) shown();
