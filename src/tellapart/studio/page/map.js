// The map of all images: a canvas of points, coloured by class, split or rightness; what is drawn around fills the list.
// Points are written into the pixels of one image: a hundred thousand take some milliseconds, so that they move smoothly.

import { $, alertWith, ask, fill, make, pixels } from "./studio.js";

const NOWHERE = 65535;
const CLOSEST = 40;
const INNER = 0.96; // of the canvas, so that points at the edge are whole
const HUES = ["#2f6fd0", "#d9662c", "#2d9d5c", "#a050c8", "#c8a21e", "#d0436f", "#1fa3b5", "#8a6a4a", "#7d8b2f", "#5b5fe0", "#e08a8a", "#4f7f7a"];
const NONE = "#8a949f";
const SPLITS = ["train", "validation", "test"];
const RIGHT = [["wrong", "#d0342c"], ["right", "#2d9d5c"], ["not answered", NONE]];

let points = null; // {x, y: Float32Array in 0..1, truth, split, right, count}
let state = null;
let onLasso = () => {};
let onPick = () => {};
let view = { scale: 1, x: 0.5, y: 0.5 }; // the middle, and how much closer
let trail = []; // of the pointer, in 0..1
let corners = [];
let drawing = true;

const canvas = $("map-canvas");
const context = canvas.getContext("2d");

export function tellAxes(axes, map) {
  const more = map.making ? "; UMAP follows" : map.problem ? `. ${map.problem}` : "";
  $("map-axes").textContent = `Axes: ${axes}${more}`;
}

// Again for another map of the same images. Returns what its axes are.
export async function openMap(told, lassoed, picked) {
  const first = !points;
  [state, onLasso, onPick] = [told, lassoed, picked];
  const answer = await fetch("/v1/map");
  const raw = await answer.arrayBuffer();
  const wide = new Uint16Array(raw);
  const narrow = new Uint8Array(raw);
  const count = wide.length / 4;
  points = { count, x: new Float32Array(count), y: new Float32Array(count), truth: new Uint16Array(count), split: new Uint8Array(count), right: new Uint8Array(count) };
  for (let at = 0; at < count; at += 1) {
    points.x[at] = wide[4 * at] === NOWHERE ? NaN : wide[4 * at] / (NOWHERE - 1);
    points.y[at] = wide[4 * at + 1] / (NOWHERE - 1);
    points.truth[at] = wide[4 * at + 2];
    points.split[at] = narrow[8 * at + 6];
    points.right[at] = narrow[8 * at + 7];
  }
  const axes = answer.headers.get("x-axes");
  tellAxes(axes, state.map);
  if (!first) {
    later();
    return axes;
  }
  const colours = [["truth", "by class"], ["split", "by split"]];
  if (state.answered) colours.push(["right", "by right and wrong"]);
  fill($("map-colour"), colours, "truth");
  $("map-colour").addEventListener("change", recolour);
  recolour();
  new ResizeObserver(later).observe($("map-space"));
  return axes;
}

export function drawMap(lasso) {
  corners = lasso ? lasso.split(" ").map((pair) => pair.split(",").map((value) => value / 1000)) : [];
  trail = [];
  later();
}

function palette() {
  const by = $("map-colour").value;
  if (by === "split") return SPLITS.map((name, at) => [name, HUES[at]]);
  if (by === "right") return RIGHT;
  const many = state.classes.length > HUES.length;
  return state.classes.map((name, at) => [name, many ? `hsl(${Math.round((360 * at) / state.classes.length)} 60% ${45 + 12 * (at % 3)}%)` : HUES[at]]);
}

let inks = new Uint32Array(0); // a colour for each value, as the pixels have it
let rest = 0;

const pot = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

function ink(colour) {
  pot.fillStyle = colour;
  pot.fillRect(0, 0, 1, 1);
  return new Uint32Array(pot.getImageData(0, 0, 1, 1).data.buffer)[0];
}

function recolour() {
  const rows = palette();
  inks = Uint32Array.from(rows, ([, colour]) => ink(colour));
  rest = ink(NONE);
  const swatch = (colour) => {
    const made = make("span", { class: "swatch", "aria-hidden": "true" });
    made.style.background = colour;
    return made;
  };
  $("map-legend").replaceChildren(...rows.slice(0, 40).map(([name, colour]) => make("li", {}, swatch(colour), ` ${name}`)));
  later();
}

let waiting = false;
function later() {
  if (waiting || !points) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

// A place of the map on the canvas, in its pixels.
const across = (x) => ((x - view.x) * view.scale * INNER + 0.5) * canvas.width;
const down = (y) => ((y - view.y) * view.scale * INNER + 0.5) * canvas.height;

function draw() {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const values = points[$("map-colour").value];
  const few = points.count * ratio < 4000 * view.scale;
  const size = Math.round((few ? 6 : points.count < 20000 ? 4 : 3) * Math.max(1, ratio * 0.75));
  const half = size >> 1;
  for (let at = 0; at < points.count; at += 1) {
    const left = Math.round(across(points.x[at])) - half;
    const top = Math.round(down(points.y[at])) - half;
    if (!(left >= 0 && top >= 0 && left + size <= width && top + size <= height)) continue;
    const colour = inks[values[at]] ?? rest;
    for (let row = top; row < top + size; row += 1) out.fill(colour, row * width + left, row * width + left + size);
  }
  context.putImageData(image, 0, 0);
  const line = trail.length ? trail : corners;
  if (line.length > 1) {
    context.beginPath();
    line.forEach(([x, y], at) => (at ? context.lineTo(across(x), down(y)) : context.moveTo(across(x), down(y))));
    context.closePath();
    context.lineWidth = 2 * ratio;
    context.strokeStyle = getComputedStyle(canvas).color;
    context.stroke();
  }
}

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width - 0.5) / (view.scale * INNER) + view.x, ((event.clientY - box.top) / box.height - 0.5) / (view.scale * INNER) + view.y];
}

// The image next to the pointer, or -1 where none is near.
function nearest([x, y]) {
  let found = -1;
  let best = (12 / canvas.clientWidth / view.scale) ** 2;
  for (let at = 0; at < points.count; at += 1) {
    const away = (points.x[at] - x) ** 2 + (points.y[at] - y) ** 2;
    if (away < best) [found, best] = [at, away];
  }
  return found;
}

let held = null; // {id, at: where the pointer went down, moved}
let other = null; // a second finger

canvas.addEventListener("pointerdown", (event) => {
  if (!points) return;
  if (held) {
    other = event;
    return;
  }
  held = { id: event.pointerId, from: [event.clientX, event.clientY], start: placeOf(event), last: event, moved: false };
  canvas.setPointerCapture(event.pointerId);
  $("map-near").hidden = true;
});

canvas.addEventListener("pointermove", (event) => {
  if (!points) return;
  if (!held) {
    hover(event);
    return;
  }
  if (other) {
    pinch(event);
    return;
  }
  if (Math.hypot(event.clientX - held.from[0], event.clientY - held.from[1]) > 4) held.moved = true;
  if (!held.moved) return;
  if (drawing && !event.shiftKey) trail.push(...(trail.length ? [] : [held.start]), placeOf(event));
  else {
    const [before, now] = [placeOf(held.last), placeOf(event)];
    view.x += before[0] - now[0];
    view.y += before[1] - now[1];
  }
  held.last = event;
  later();
});

function pinch(event) {
  const [one, two] = event.pointerId === held.id ? [held.last, other] : [other, held.last];
  const before = Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
  const now = Math.hypot(event.clientX - two.clientX, event.clientY - two.clientY);
  if (event.pointerId === held.id) held.last = event;
  else other = event;
  trail = [];
  zoom(now / Math.max(1, before), placeOf({ clientX: (event.clientX + two.clientX) / 2, clientY: (event.clientY + two.clientY) / 2 }));
}

for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    if (!held) return;
    const { moved } = held;
    const pinched = Boolean(other);
    [held, other] = [null, null];
    if (pinched || name === "pointercancel") trail = [];
    else if (!moved) {
      const found = nearest(placeOf(event));
      if (found >= 0) Promise.resolve(onPick(found)).catch((problem) => alertWith(problem.message));
    } else if (trail.length > 2) onLasso(told(trail));
    trail = [];
    later();
  });
}

// Corners in thousandths, at most 150 of them.
function told(line) {
  const step = Math.max(1, Math.ceil(line.length / 150));
  const rows = line.filter((_, at) => at % step === 0).map((pair) => pair.map((value) => Math.round(1000 * Math.min(2, Math.max(-1, value)))));
  while (rows.length < 3) rows.push(rows[0]);
  return rows.map((pair) => pair.join(",")).join(" ");
}

let asked = -1;
async function hover(event) {
  const found = nearest(placeOf(event));
  const card = $("map-near");
  if (found < 0) {
    asked = -1;
    card.hidden = true;
    return;
  }
  const box = canvas.getBoundingClientRect();
  card.style.left = `${Math.min(event.clientX - box.left + 12, box.width - 150)}px`;
  card.style.top = `${Math.min(event.clientY - box.top + 12, box.height - 150)}px`;
  if (found === asked) return;
  asked = found;
  const image = await ask(`/v1/images/${found}?short`).catch(() => null);
  if (!image || asked !== found) return;
  card.replaceChildren(make("img", { src: pixels(image, 160), alt: "" }), make("span", { text: image.label }));
  card.hidden = false;
}
canvas.addEventListener("pointerleave", () => {
  asked = -1;
  $("map-near").hidden = true;
});

function zoom(by, [x, y] = [view.x, view.y]) {
  const scale = Math.min(CLOSEST, Math.max(1, view.scale * by));
  const share = view.scale / scale;
  view = { scale, x: x + (view.x - x) * share, y: y + (view.y - y) * share };
  if (scale === 1) [view.x, view.y] = [0.5, 0.5];
  later();
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), placeOf(event));
}, { passive: false });

function tool(draws) {
  drawing = draws;
  $("map-draw").setAttribute("aria-pressed", draws);
  $("map-move").setAttribute("aria-pressed", !draws);
}

for (const [id, act] of Object.entries({
  "map-draw": () => tool(true), "map-move": () => tool(false),
  "map-closer": () => zoom(1.6), "map-further": () => zoom(1 / 1.6),
  "map-whole": () => {
    zoom(0);
    if (corners.length) onLasso("");
  },
})) $(id).addEventListener("click", act);
