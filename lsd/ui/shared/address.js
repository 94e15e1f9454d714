// The page's address says what is shown, links within the page are followed without a reload, and both are steps of the
// browser's history. `lsd/ui/shared/address.py` is the other half. Runs once, in an element that no tab holds; TABS, its names
// by their labels, stands before it.
const shown = {};  // the address that each tab shows, without the "?"
const spelt = {};  // the same as it stood in the address bar
const wanted = {};  // by tab, the address that it is to show, until it has said what it makes of it
const telling = {};  // by tab, what it was told and has not answered: {text, answer: a promise, answered: fulfils it}
const PATIENCE = 4000;  // ms for which another address waits for an answer

window.lsd?.stop();
const off = new AbortController();
const on = (target, name, handler, options) => target.addEventListener(name, handler, {signal: off.signal, ...options});
const BUTTONS = "[role=tab][data-tab-id], .overflow-dropdown button";
const params = text => new URLSearchParams(text.split("#")[0].split("?")[1] || "");
const panel = tab => document.getElementById(`lsd-${tab}-tab`);

function tabOf(query) {
  if (query.has("u")) return "gallery";
  if (query.get("tab") in TABS) return query.get("tab");
  return query.has("model") && !query.has("tab") ? "saliency" : "gallery";
}

// The tab that a button leads to, in the row or behind its "…".
const leadsTo = button => button.dataset.tabId || Object.keys(TABS).find(tab => TABS[tab] === button.textContent.trim());
const selected = () => document.querySelector("[role=tab][aria-selected=true]")?.dataset.tabId;

function select(tab) {
  const button = [...document.querySelectorAll(BUTTONS)].find(button => leadsTo(button) === tab);
  if (selected() !== tab) button?.click();
}

// What is told to a tab before it is on the page can get lost.
async function opened(tab) {
  for (let tries = 0; tries < 200 && !panel(tab)?.querySelector("button, input, a"); tries++) {
    await new Promise(resolve => setTimeout(resolve, 50));
    if (tabOf(params(location.search)) === tab) select(tab);  // Gradio, still at its start, may have gone back to the first
  }
  await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}

// Show what the address says.
async function show(state) {
  const query = params(location.search), tab = tabOf(query), text = query.toString();
  select(tab);
  if (shown[tab] === text) return;
  shown[tab] = wanted[tab] = text;
  spelt[tab] = location.search.slice(1);
  document.dispatchEvent(new CustomEvent("lsd:show", {detail: {tab: tab, query: query, state: state}}));
  await opened(tab);
  await telling[tab]?.answer;  // one at a time: two answers may come in either order
  if (wanted[tab] !== text) return;  // another address is wanted by now
  const one = telling[tab] = {text: text};
  one.answer = new Promise(resolve => one.answered = resolve);
  setTimeout(one.answered, PATIENCE);
  trigger(tab, {query: text});
}

// The tab has made something of what it was told. Returns whether that is still what it is to show.
function answered(tab) {
  if (!(tab in telling)) return false;
  const {text, answered} = telling[tab];
  delete telling[tab];
  answered();
  if (wanted[tab] !== text) return false;
  delete wanted[tab];
  return true;
}

// A step to another address, `query` without its "?".
function go(query, {replace = false, state = null} = {}) {
  if (tabOf(params("?" + query)) !== tabOf(params(location.search))) window.scrollTo(0, 0);
  history[replace ? "replaceState" : "pushState"](state, "", "?" + query);
  return show(state);
}

// What a tab shows now: a step of the history if the visitor did something in it, another spelling of what it was told else.
function write(tab, query) {
  const told = tab in telling;
  if (told ? answered(tab) : !(tab in wanted)) note(tab, query, told);  // else another address is on its way to the tab
}

function note(tab, query, replace) {
  const text = params("?" + query).toString();  // as `show` spells it
  if (shown[tab] === text) return;
  shown[tab] = text;
  spelt[tab] = query;
  if (tabOf(params(location.search)) !== tab) return;  // the visitor is elsewhere by now
  history[replace ? "replaceState" : "pushState"](history.state, "", "?" + query);
}

// Of what a tab shows something is looked at that needs no other answer: the address says so, and it is no step of the history.
// Names of `changes` whose value is null are left out of the address.
function amend(tab, changes) {
  const query = params("?" + (spelt[tab] ?? `tab=${tab}`));
  for (const [name, value] of Object.entries(changes)) value === null ? query.delete(name) : query.set(name, value);
  note(tab, query.toString().replaceAll("%2F", "/").replaceAll("%3A", ":"), true);
}

// The visitor goes to a tab.
function turnTo(tab) {
  if (!tab || tab === tabOf(params(location.search))) return;
  const first = !(tab in shown);
  history.pushState(null, "", "?" + (spelt[tab] ?? `tab=${tab}`));
  if (first) show(null);
}

on(document, "click", event => {
  const button = event.isTrusted && event.target.closest?.(BUTTONS);  // `select` clicks, too
  if (button) turnTo(leadsTo(button));
}, {capture: true});
on(document, "click", event => {
  const link = event.target.closest?.(".gradio-container a[href^='?']");
  if (!link || event.defaultPrevented || event.button) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;  // a new page is wanted
  event.preventDefault();
  go(link.getAttribute("href").slice(1));
});
on(window, "popstate", event => show(event.state));

window.lsd = {go: go, write: write, amend: amend, answered: answered, params: params, tabOf: tabOf, stop: () => off.abort()};
show(history.state);
