// What the results do by themselves: a slider uncovers the picture under a map, a mark shows one place on all maps, with each
// map's value there, and a map fills the screen. Their HTML is made anew with every drawing, so what a visitor has done is kept
// on the columns, which stay, as CSS variables.
window.lsdSaliency?.stop();
const off = new AbortController();
const on = (target, name, handler, options) => target.addEventListener(name, handler, {signal: off.signal, ...options});
const STEP = 0.02;  // of the picture, for an arrow key
const columns = () => [...document.querySelectorAll(".lsd-result")];
const stageOf = column => column.querySelector(".lsd-stage[data-values]");
const read = new Map();  // what lies at an address of a map's values: {width, height, data}, or a promise of it
let mark = null, writing = 0;

on(document, "input", event => {
  const slider = event.target.closest?.(".lsd-wipe input");
  if (slider) slider.closest(".lsd-result").style.setProperty("--wipe", `${slider.value}%`);
});

async function values(address) {
  if (read.has(address)) return read.get(address);
  if (read.size > 40) read.clear();
  const promise = (async () => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  })();
  read.set(address, promise);
  promise.catch(() => read.delete(address));
  return promise;
}

async function tell(stage) {
  const at = mark, label = stage.querySelector(".lsd-value");
  try {
    const {width, height, data} = await values(stage.dataset.values);
    if (at !== mark || !mark) return;
    const column = Math.min(width - 1, Math.floor(at.x * width)), row = Math.min(height - 1, Math.floor(at.y * height));
    const [grey, , , alpha] = data.subarray(4 * (row * width + column));
    const value = stage.dataset.signed === "1" ? grey / 127.5 - 1 : grey / 255;
    label.textContent = alpha ? value.toFixed(2).replace("-", "−") : "not seen";
  } catch { label.textContent = ""; }
}

function show(place) {
  mark = place;
  for (const column of columns()) {
    const stage = stageOf(column);
    column.toggleAttribute("data-marked", Boolean(place && stage));
    if (!place || !stage) continue;
    column.style.setProperty("--x", place.x);
    column.style.setProperty("--y", place.y);
    tell(stage);
  }
}

function placeIn(stage, event) {
  const box = stage.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  return x >= 0 && x < 1 && y >= 0 && y < 1 ? {x, y} : null;
}

for (const name of ["pointermove", "pointerdown"]) {
  on(document, name, event => {
    const stage = event.target.closest?.(".lsd-stage[data-values]");
    if (stage && !document.fullscreenElement) show(placeIn(stage, event));
    else if (mark && (name === "pointerdown" || event.pointerType === "mouse")) show(null);
  });
}
on(document, "keydown", event => {
  if (!event.target.matches?.(".lsd-stage[data-values]")) return;
  const [x, y] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] || [];
  if (event.key === "Escape") return show(null);
  if (x === undefined) return;
  event.preventDefault();
  const from = mark || {x: 0.5, y: 0.5}, within = value => Math.min(0.999, Math.max(0, value));
  show({x: within(from.x + x * STEP), y: within(from.y + y * STEP)});
});
on(document, "focusout", event => { if (event.target.matches?.(".lsd-stage")) show(null); });
on(document, "click", event => {
  const stage = event.target.closest?.(".lsd-full")?.closest(".lsd-stage");
  if (stage) document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen();
});

// What is shown becomes the address; many steps of a slider, the last of which counts, become one step of the history.
function shown(address, wait) {
  clearTimeout(writing);
  if (address) writing = setTimeout(() => lsd.write("saliency", address), wait);
}

window.lsdSaliency = {shown: shown, stop: () => off.abort()};
