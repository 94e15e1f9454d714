// A reason shows its places on the picture, a place of the picture lists the reasons there, and switches are told to the page.
// Rows are made anew while pictures come, so everything is heard on the document. A row's map is a picture of as many pixels as the
// layer has places: how opaque one is says how much, its colour which way (`html.map_png`).
window.lsdReasons?.stop();
const off = new AbortController();
const on = (name, handler) => document.addEventListener(name, handler, {signal: off.signal});
const STEP = 0.04, LISTED = 5;
const tab = () => document.getElementById("lsd-reasons-tab");
const stage = () => element.querySelector(".lsd-r-stage");
const rows = () => [...(tab()?.querySelectorAll(".lsd-r-row[data-name]") || [])];
const read = new Map();  // address of a map → its pixels, or a promise of them
let mark = null, shown = null, focused = null;

async function pixels(image) {
  if (read.has(image.src)) return read.get(image.src);
  if (read.size > 400) read.clear();
  const promise = (async () => {
    const copy = new Image();
    copy.src = image.src;
    await copy.decode();
    const canvas = new OffscreenCanvas(copy.naturalWidth, copy.naturalHeight), context = canvas.getContext("2d");
    context.drawImage(copy, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  })();
  read.set(image.src, promise);
  promise.catch(() => read.delete(image.src));
  return promise;
}

// The share of a row at a place, from 0 to 1 each way, of the picture; null where the network did not look.
async function shareAt(row, {x, y}) {
  const map = row.querySelector(".lsd-r-map");
  if (!map) return null;
  const {left, top, width, height} = map.style, per = text => parseFloat(text) / 100;
  const u = (x - per(left)) / per(width), v = (y - per(top)) / per(height);
  if (u < 0 || u >= 1 || v < 0 || v >= 1) return null;
  const data = await pixels(map), at = 4 * (Math.floor(v * data.height) * data.width + Math.floor(u * data.width));
  const [red, , blue, alpha] = data.data.subarray(at, at + 4);
  return (blue > red ? -1 : 1) * alpha / 255 * Number(map.dataset.most);
}

function light(row) {
  const map = row?.querySelector(".lsd-r-map"), place = stage(), over = place?.querySelector(".lsd-r-lit");
  if (!over) return;
  shown = map ? row : null;
  place.classList.toggle("lsd-r-shows", Boolean(map));
  over.hidden = !map;
  if (map) {
    over.src = map.src;
    over.style.cssText = map.style.cssText;
  }
  if (!mark) for (const other of rows()) other.classList.toggle("lsd-r-at", other === row);
}

async function list(place) {
  mark = place;
  const dot = stage()?.querySelector(".lsd-r-mark"), here = element.querySelector(".lsd-r-here");
  if (!dot) return;
  dot.hidden = !place;
  if (!place) {
    for (const row of rows()) row.classList.remove("lsd-r-at");
    return;
  }
  dot.style.left = `${100 * place.x}%`;
  dot.style.top = `${100 * place.y}%`;
  const all = rows(), several = new Set(all.map(row => row.dataset.place)).size > 1;
  const found = [];
  for (const row of all) {
    const share = await shareAt(row, place).catch(() => null);
    if (share) found.push({row, share});
  }
  if (mark !== place) return;
  found.sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
  const items = found.slice(0, LISTED).map(({row, share}) => {
    const item = document.createElement("li"), name = document.createElement("span"), value = document.createElement("span");
    name.textContent = several ? `${row.dataset.title}, ${row.dataset.model}` : row.dataset.title;
    value.textContent = `${share < 0 ? "−" : "+"}${Math.abs(share).toFixed(3)} nats`;
    item.append(name, value);
    return item;
  });
  const first = new Set(found.slice(0, LISTED).map(({row}) => row));
  for (const row of all) row.classList.toggle("lsd-r-at", first.has(row));
  const told = document.createElement(items.length ? "ol" : "p");
  if (items.length) told.append(...items); else told.textContent = "Nothing of what is listed lies here.";
  here.replaceChildren(told);
}

// A region is drawn from corner to corner: by dragging, or with the arrow keys and Enter at each corner.
const only = () => element.querySelector(".lsd-r-only");
const drawing = () => only()?.getAttribute("aria-pressed") === "true";
let corner = null;

function frame(a, b) {
  const box = element.querySelector(".lsd-r-region");
  box.hidden = !a;
  if (!a) return;
  const part = value => `${100 * value}%`;
  Object.assign(box.style, {
    left: part(Math.min(a.x, b.x)), top: part(Math.min(a.y, b.y)),
    width: part(Math.abs(a.x - b.x)), height: part(Math.abs(a.y - b.y)),
  });
}

function finish(place) {
  if (corner && corner.x !== place.x && corner.y !== place.y) {
    frame(corner, place);
    trigger("region", {corners: [corner.x, corner.y, place.x, place.y]});
  }
  corner = null;
}

function ask(wanted) {
  only().setAttribute("aria-pressed", String(wanted));
  element.querySelector(".lsd-r-look").classList.toggle("lsd-r-drawing", wanted);
  corner = null;
  if (!wanted) {
    frame(null);
    trigger("region", {corners: []});
  } else {
    const told = document.createElement("p");
    told.className = "lsd-note";
    told.textContent = "Drag over the picture, or move the mark with the arrow keys and press Enter at two corners.";
    element.querySelector(".lsd-r-here").replaceChildren(told);
  }
}

on("click", event => { if (event.target === only()) ask(!drawing()); });
on("pointerdown", event => {
  if (!drawing() || !event.target.closest?.(".lsd-r-stage")) return;
  corner = placeIn(event);
  event.preventDefault();
});
on("pointermove", event => { if (corner && event.buttons) frame(corner, clipped(event)); });
on("pointerup", event => { if (corner && drawing()) finish(clipped(event)); });

// Where the pointer is, moved into the picture.
function clipped(event) {
  const box = stage().getBoundingClientRect(), within = value => Math.min(1, Math.max(0, value));
  return {x: within((event.clientX - box.left) / box.width), y: within((event.clientY - box.top) / box.height)};
}

function placeIn(event) {
  const box = stage().getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  return x >= 0 && x < 1 && y >= 0 && y < 1 ? {x, y} : null;
}

for (const name of ["pointermove", "pointerdown"]) {
  on(name, event => {
    if (event.target.closest?.(".lsd-r-stage")) {
      light(null);
      list(placeIn(event));
    } else if (mark && event.pointerType === "mouse") list(null);
  });
}
on("pointerover", event => {
  const row = event.target.closest?.(".lsd-r-row[data-name]");
  if (row) {
    if (mark) list(null);
    light(row);
  } else if (shown && event.pointerType === "mouse" && !event.target.closest?.(".lsd-r-stage")) light(null);
});
on("focusin", event => {
  const row = event.target.closest?.(".lsd-r-row[data-name]");
  focused = event.target.matches?.(".lsd-r-switch") ? [row.dataset.place, row.dataset.name] : null;
  if (row) light(row);
});
on("keydown", event => {
  if (!event.target.matches?.(".lsd-r-stage")) return;
  const [x, y] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] || [];
  if (event.key === "Escape") return list(null);
  if (event.key === "Enter" && drawing()) {
    const here = mark || {x: 0.5, y: 0.5};
    if (corner) finish(here); else corner = here;
    return event.preventDefault();
  }
  if (x === undefined) return;
  event.preventDefault();
  const from = mark || {x: 0.5, y: 0.5}, within = value => Math.min(0.999, Math.max(0, value));
  light(null);
  list({x: within(from.x + x * STEP), y: within(from.y + y * STEP)});
  if (corner && drawing()) frame(corner, mark);
});
on("focusout", event => { if (event.target.matches?.(".lsd-r-stage")) list(null); });

on("click", event => {
  const button = event.target.closest?.(".lsd-r-switch, .lsd-r-button, .lsd-r-name");
  if (!button || !tab()?.contains(button)) return;
  const row = button.closest(".lsd-r-row");
  if (row) {
    const isOn = button.getAttribute("aria-checked") === "true";
    button.setAttribute("aria-checked", String(!isOn));
    row.classList.toggle("lsd-r-off", isOn);
    trigger("switched", {place: Number(row.dataset.place), names: [row.dataset.name], off: isOn});
  } else if (button.matches(".lsd-r-name")) {
    event.preventDefault();
    const panel = button.closest(".lsd-r-panel"), name = CSS.escape(button.dataset.name);
    const wanted = panel.querySelector(`.lsd-r-row[data-name="${name}"]`);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    wanted?.scrollIntoView({block: "center", behavior: calm ? "auto" : "smooth"});
    wanted?.querySelector(".lsd-r-switch").focus({preventScroll: true});
  } else {
    const names = button.dataset.names ? button.dataset.names.split(" ") : [];
    trigger("switched", {place: Number(button.dataset.place), names: names, off: !button.dataset.on});
  }
});

// Who had a switch in focus has it still when the rows were made anew.
const watcher = new MutationObserver(() => {
  if (!focused || document.activeElement !== document.body) return;
  const [place, name] = focused;
  rows().find(row => row.dataset.place === place && row.dataset.name === name)
    ?.querySelector(".lsd-r-switch").focus({preventScroll: true});
});
watcher.observe(document.body, {childList: true, subtree: true});
on("pointerdown", event => { if (!event.target.closest?.(".lsd-r-switch")) focused = null; });

window.lsdReasons = {stop: () => { off.abort(); watcher.disconnect(); }};
