// A square on the picture: dragged, enlarged at its corner, or moved with the arrow keys, and with + and - made larger and
// smaller. Its place is in the value, in the picture's own pixels.
const place = element.querySelector(".lsd-square");
place.innerHTML = `<div class="lsd-square-picture"><img alt="">
  <div class="lsd-square-box" tabindex="0" role="group"><span></span></div></div><div class="lsd-note" role="status"></div>`;
const [image, box, corner, said] = ["img", ".lsd-square-box", ".lsd-square-box span", ".lsd-note"].map(
  css => place.querySelector(css));
const STEP = 0.02;  // of the shorter edge, for a key
let now = null, drag = null;

const shorter = () => Math.min(now.width, now.height);
const within = (value, least, most) => Math.round(Math.min(Math.max(value, least), most));

function show() {
  place.hidden = !now;
  if (!now) return;
  if (image.getAttribute("src") !== now.url) image.src = now.url;
  image.parentElement.style.aspectRatio = `${now.width} / ${now.height}`;
  box.style.left = `${100 * now.left / now.width}%`;
  box.style.top = `${100 * now.top / now.height}%`;
  box.style.width = `${100 * now.side / now.width}%`;
  said.textContent = `${now.side} × ${now.side} pixels, ${now.left} from the left, ${now.top} from the top`;
  box.setAttribute("aria-label", `The square: ${said.textContent}. Arrow keys move it, plus and minus change its size.`);
}

function change({left = now.left, top = now.top, side = now.side}) {
  const size = within(side, Math.max(1, shorter() / 10), shorter());
  now = {...now, side: size, left: within(left, 0, now.width - size), top: within(top, 0, now.height - size)};
  show();
}

const keep = () => { props.value = {...now}; };

box.addEventListener("pointerdown", event => {
  event.preventDefault();
  box.focus();
  box.setPointerCapture(event.pointerId);
  drag = {x: event.clientX, y: event.clientY, from: now, sizes: event.target === corner};
});
box.addEventListener("pointermove", event => {
  if (!drag) return;
  const scale = now.width / image.clientWidth;
  const x = (event.clientX - drag.x) * scale, y = (event.clientY - drag.y) * scale;
  const {left, top, side, width, height} = drag.from;
  if (drag.sizes) change({left, top, side: Math.min(side + Math.max(x, y), width - left, height - top)});
  else change({left: left + x, top: top + y});
});
for (const name of ["pointerup", "pointercancel"]) box.addEventListener(name, () => { if (drag) { drag = null; keep(); } });
box.addEventListener("keydown", event => {
  const step = Math.max(1, STEP * shorter()), {left, top, side} = now;
  const moves = {
    ArrowLeft: {left: left - step}, ArrowRight: {left: left + step}, ArrowUp: {top: top - step}, ArrowDown: {top: top + step},
    "+": {side: side + step}, "=": {side: side + step}, "-": {side: side - step},
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  change(moves[event.key]);
  keep();
});

watch("value", () => { now = props.value && {...props.value}; show(); });
now = props.value && {...props.value};
show();
