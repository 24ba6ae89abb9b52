// Label: one image after the other, a key each, while a head learns; or a grid of those that look obvious. What was
// labelled lives in the studio; this page holds the number of the state that it saw, so that a second tab is told.

import { $, alertWith, ask, bar, counted, fill, make, pixels, shown } from "./studio.js";
import { tell } from "./learn.js";

const KEYS = 9;
const WHY = {
  random: "Drawn at random: by such images the accuracy is estimated.",
  typical: "Typical of many images that have no label yet.",
  uncertain: "The classifier is least sure of it: it teaches most.",
  chosen: "Asked for again.",
};
let state = null;
let image = null; // that is asked for
let grid = null; // {label, images} while it is open
let crossed = new Set();
let busy = false;

async function load() {
  try {
    take(await ask("/v1/state"));
  } catch (problem) {
    alertWith(problem.message);
  }
}

function take(told) {
  state = told;
  image = state.next[0] ?? null;
  draw();
  for (const one of state.next.slice(1)) new Image().src = pixels(one, 1024);
}

// The classes in the order of their keys: as they were named, or of many the likeliest first.
function keyed() {
  const share = new Map(image?.likely ?? []);
  const rows = state.classes.map((one) => ({ ...one, share: share.get(one.name) }));
  if (rows.length > KEYS && share.size) rows.sort((one, other) => (other.share ?? 0) - (one.share ?? 0));
  return rows;
}

function draw() {
  $("about").textContent = `Images ${state.data}: ${counted(state.images, "image")}`;
  drawLooking();
  const done = state.labelled + state.skipped;
  $("progress").textContent = `${counted(state.labelled, "label")}${state.skipped ? `, ${state.skipped} skipped` : ""}, ${counted(state.images - done, "image")} without`;
  $("progress-bar").max = Math.max(1, state.images);
  $("progress-bar").value = done;
  $("one").hidden = Boolean(grid) || !image;
  $("all").hidden = !grid;
  $("undo").disabled = !state.made;
  $("nothing").hidden = Boolean(image) || !state.looking.over || Boolean(state.looking.problem);
  $("nothing").textContent = "All images are labelled or skipped.";
  if (grid) drawGrid();
  else if (image) drawImage();
  drawLearned();
}

function drawLooking() {
  const { done, total, over, problem } = state.looking;
  $("looking").hidden = over && !problem;
  const far = total ? `${done.toLocaleString("en")} of ${counted(total, "image")}` : "the first images";
  $("looking").textContent = over ? problem : `Looking at ${far}. Those that are there already can be labelled.`;
}

function drawImage() {
  const old = $("images").querySelector("figure");
  if (!old || Number(old.dataset.id) !== image.id) {
    const caption = make("figcaption", {}, make("span", { class: "name", text: image.path }));
    const figure = make("figure", { "data-id": image.id }, shown(image, 1024, `Image ${image.path}`), caption);
    $("images").replaceChildren(figure);
    near(image.id);
  }
  $("why").textContent = WHY[image.how] ?? "";
  const rows = keyed();
  const there = document.activeElement?.dataset?.label;
  $("likely").replaceChildren(...rows.slice(0, KEYS).map((one, index) => {
    const button = make("button", { type: "button", "data-label": one.name },
      ...bar(one.shown, one.share, make("kbd", { text: index + 1 }), " "));
    button.querySelector(".label-name").append(make("span", { class: "given", text: ` ${one.count.toLocaleString("en")}`, "aria-label": `, ${counted(one.count, "label")}` }));
    button.addEventListener("click", () => give(one.name));
    return make("li", {}, button);
  }));
  if (there !== undefined) [...$("likely").querySelectorAll("button")].find((one) => one.dataset.label === there)?.focus();
  const rest = rows.slice(KEYS);
  $("other-choice").hidden = !rest.length;
  fill($("other"), [["", "choose …"], ...rest.map((one) => [one.name, one.shown])]);
  $("to-grid").hidden = !state.obvious;
  if (state.obvious) $("to-grid").replaceChildren(make("kbd", { text: "G" }), ` ${counted(state.obvious.images.length, "image")} that look like ${state.obvious.label}`);
}

// The nearest labelled images follow: nobody waits for them.
async function near(id) {
  const found = state.labelled ? await ask(`/v1/near/${id}`).catch(() => []) : [];
  if (image?.id !== id) return;
  $("near").hidden = !found.length;
  $("neighbours").replaceChildren(...found.map((one) => make("li", {},
    shown(one, 160, `Image labelled ${one.label}`), make("span", { text: one.label }),
    make("span", { class: "small", text: one.similarity.toFixed(2) }))));
}

function drawGrid() {
  $("all-title").textContent = `All ${grid.label}?`;
  const count = grid.images.length - crossed.size;
  $("chosen").textContent = `${crossed.size} crossed out`;
  $("accept").replaceChildren(make("kbd", { text: "A" }), ` Accept ${counted(count, "image")} as ${grid.label}`);
  $("accept").disabled = !count;
  if ($("grid").dataset.first === String(grid.images[0].id)) return;
  $("grid").dataset.first = grid.images[0].id;
  $("grid").replaceChildren(...grid.images.map((one) => {
    const button = make("button", { type: "button", class: "cross", "aria-pressed": false, "aria-label": `Cross out ${one.path}` }, shown(one, 160, ""));
    button.addEventListener("click", () => {
      if (!crossed.delete(one.id)) crossed.add(one.id);
      button.setAttribute("aria-pressed", crossed.has(one.id));
      drawGrid();
    });
    return make("li", {}, button);
  }));
}

function drawLearned() {
  const told = state.assessment;
  $("learn").hidden = !state.labelled;
  const lacking = "The accuracy is estimated once ten images that were drawn at random, one in five, have a label.";
  $("accuracy").textContent = told?.accuracy ? `Estimated accuracy ${told.accuracy}` : lacking;
  $("rests").textContent = told?.accuracy ? `By cross-validation on the ${told.drawn} images that were drawn at random: those that were asked for because they are hard, or accepted because they are easy, would mislead.` : "";
  const more = told?.enough
    ? `More labels hardly pay: the last ones changed what it says of ${told.changed} of the images.`
    : told?.changed ? `More labels pay: the last ones changed what it says of ${told.changed} of the images.` : "";
  $("hint").textContent = more;
  $("hint").classList.toggle("settled", Boolean(told?.enough));
  $("corrections").replaceChildren("Kept in ", make("code", { text: state.file }), ". Train with: ", make("code", { text: state.command }));
  const running = state.training?.state === "running";
  $("train").textContent = `Train with ${counted(state.labelled, "label")}`;
  $("train").disabled = running || state.classes.filter((one) => one.count).length < 2;
  $("stop").hidden = !running;
  tell(state.training);
}

// One change at a time.
async function change(path, body) {
  if (busy || !state) return false;
  busy = true;
  try {
    const told = await ask(path, { version: state.version, ...body });
    alertWith("");
    take(told);
    poll();
    return true;
  } catch (problem) {
    if (problem.status === 409) await load();
    alertWith(problem.message);
    return false;
  } finally {
    busy = false;
  }
}

const give = (label) => image && change("/v1/labels", { images: [image.id], label, how: image.how });
const skip = () => image && change("/v1/labels", { images: [image.id], how: image.how });
const undo = () => change("/v1/undo", {});

function open() {
  if (!state?.obvious) return;
  grid = state.obvious;
  crossed = new Set();
  $("grid").dataset.first = "";
  draw();
  $("accept").focus();
}

function close() {
  grid = null;
  draw();
}

async function accept() {
  if (!grid) return;
  const images = grid.images.map((one) => one.id).filter((id) => !crossed.has(id));
  if (!images.length) return;
  const { label } = grid;
  grid = null;
  await change("/v1/labels", { images, label, how: "obvious", ask: [...crossed] });
  draw();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.toLowerCase();
  const label = /^[1-9]$/.test(key) && !grid && image ? keyed()[key - 1]?.name : undefined;
  if (key === "u" && !grid) undo();
  else if (grid && key === "a") accept();
  else if (grid && key === "escape") close();
  else if (key === "g" && !grid) open();
  else if (key === "s" && !grid) skip();
  else if (key === "n" && !grid && image) $("name").focus();
  else if (label !== undefined) give(label);
  else return;
  event.preventDefault();
});

for (const [id, act] of Object.entries({ skip, undo, "to-grid": open, accept, back: close })) $(id).addEventListener("click", act);
for (const [id, body] of [["train", {}], ["stop", { stop: true }]]) $(id).addEventListener("click", () => change("/v1/train", body));
$("other").addEventListener("change", () => $("other").value && give($("other").value));
$("new-class").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (!name || !(await give(name))) return;
  $("name").value = "";
  $("name").blur();
});

// What happens without this page: images that come, an accuracy that is estimated, a training, another tab.
let waiting = null;
function poll() {
  clearTimeout(waiting);
  const settled = state && state.looking.over && state.training?.state !== "running" && (!state.labelled || state.assessment?.labels === state.labelled);
  if (settled) return;
  waiting = setTimeout(async () => {
    try {
      const now = busy ? null : await ask("/v1/state");
      if (now && !busy) {
        const same = image && now.version === state.version && now.next.some((one) => one.id === image.id);
        const kept = image;
        state = now;
        image = same ? now.next.find((one) => one.id === kept.id) : now.next[0] ?? null;
        draw();
      }
    } catch (problem) {
      alertWith(problem.message);
    }
    poll();
  }, 700);
}
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && state && !busy) load();
});

await load();
poll();
