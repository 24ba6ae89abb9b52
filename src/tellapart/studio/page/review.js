// Review: one doubt after the other, settled by a key, or many at once. All that is decided lives in the studio;
// this page holds the number of the state that it saw, so that a second tab is told instead of overwriting it.
// Also the page of what visitors said of a server's answers: there a doubt is what one said, and keeping it accepts that.

import { $, alertWith, ask, bar, counted, fill, make, pixels, place as where, shown } from "./studio.js";
import { learn } from "./learn.js";

const PAGE = 120;
const ofVisitors = Boolean(where);
const asked = new URLSearchParams(location.search);
const filter = { kind: asked.get("kind") ?? "", label: asked.get("label") ?? "" };
let state = null;
let queue = [];
let doubt = null;
let marked = null; // of the images of a doubt, once somebody chose
let many = asked.has("many");
let chosen = new Set();
let last = -1;
let visible = PAGE;
let busy = false;

function place() {
  return doubt ? queue.findIndex((one) => one.key === doubt.key) : -1;
}

const open = (one) => !one.settled;

async function load(key) {
  try {
    state = await ask("/v1/state");
    const query = new URLSearchParams(filter);
    const told = await ask(`/v1/queue?${query}`).catch((problem) => {
      if (problem.status === 503) return { doubts: [] };
      throw problem;
    });
    queue = told.doubts;
    if (doubt) doubt.version = -1; // to be asked for again: it may have got neighbours meanwhile
    const wanted = queue.find((one) => one.key === key) ?? queue.find(open) ?? queue[0];
    await show(wanted?.key);
  } catch (problem) {
    alertWith(problem.message);
  }
}

async function show(key) {
  if (key === undefined) doubt = null;
  else if (doubt?.key !== key || doubt.version !== state.version) {
    if (doubt?.key !== key) marked = null;
    doubt = await ask(`/v1/doubts/${key}`);
  }
  draw();
}

function draw() {
  const images = state.images ? `: ${counted(state.images, "image")}` : "";
  $("about").textContent = ofVisitors
    ? `What visitors said of answers like those of ${state.run}${images}`
    : `${state.run ? "Run" : "Images"} ${state.run ?? state.data}${images}`;
  $("to-feedback").hidden = !state.feedback;
  $("to-feedback").querySelector(".count").textContent = state.feedback?.open ?? "";
  $("to-report").hidden = !state.report;
  drawFilters();
  drawLooking();
  const done = queue.length - queue.filter(open).length;
  $("progress").textContent = queue.length ? `${done} of ${queue.length}` : "";
  $("progress-bar").max = Math.max(1, queue.length);
  $("progress-bar").value = done;
  $("progress-bar").hidden = !queue.length;
  $("one").hidden = many || !doubt;
  $("all").hidden = !many || !queue.length;
  $("many").setAttribute("aria-pressed", many);
  $("undo").disabled = $("undo-many").disabled = !state.made;
  const over = state.looking.over;
  const rest = filter.kind || filter.label ? " of this kind and class" : "";
  $("nothing").hidden = !over || (queue.length > 0 && done < queue.length);
  const [settled, none] = ofVisitors ? ["All that visitors said", "Nothing was said"] : ["All doubts", "Nothing is in doubt"];
  $("nothing").textContent = queue.length ? `${settled}${rest} ${ofVisitors ? "is" : "are"} settled.` : `${none}${rest}.`;
  if (many) drawGrid();
  else if (doubt) drawDoubt();
  learn(state, (told) => {
    if (told instanceof Error) alertWith(told.message);
    else state = told;
    draw();
    poll();
  });
}

function drawFilters() {
  const total = state.kinds.reduce((sum, one) => sum + one.open, 0);
  const chips = [{ kind: "", words: "All", open: total }, ...state.kinds];
  const there = document.activeElement?.dataset?.kind;
  $("kinds").replaceChildren(...chips.map((one) => {
    const words = `${one.words} `;
    const chip = make("button", { type: "button", "aria-pressed": filter.kind === one.kind, "data-kind": one.kind },
      words, make("span", { class: "count", text: one.open, "aria-label": `${one.open} open` }));
    chip.addEventListener("click", () => choose({ kind: one.kind }));
    return chip;
  }));
  if (there !== undefined) document.querySelector(`[data-kind="${there}"]`)?.focus();
  if ($("label").options.length !== state.classes.length + 1) {
    fill($("label"), [["", "all classes"], ...state.classes.map((name) => [name, name])], filter.label);
    fill($("label-many"), state.classes.map((name) => [name, name]), state.classes[0]);
  }
  $("label-choice").hidden = !state.classes.length;
}

function drawLooking() {
  const { stage, done, total, over, problem } = state.looking;
  $("looking").hidden = over && !problem;
  const far = total ? `: ${done.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
  $("looking").textContent = over ? problem : `Looking for doubts (${stage || "starting"}${far}). What is found already can be settled.`;
}

function choose(changed) {
  Object.assign(filter, changed);
  chosen = new Set();
  visible = PAGE;
  keep();
  return load(doubt?.key);
}

// The address keeps the filter.
function keep() {
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  if (many) query.set("many", "");
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

function drawDoubt() {
  const several = doubt.images.length > 1;
  $("kind").textContent = doubt.words;
  $("reason").textContent = doubt.reason;
  $("settled").hidden = !doubt.settled;
  $("settled").textContent = doubt.settled ? `Settled: ${doubt.settled}.` : "";
  $("images").className = several ? (doubt.images.length > 2 ? "several" : "pair") : "";
  $("images").replaceChildren(...doubt.images.map((image, index) => figure(image, index, several)));
  const there = [...$("likely").children].findIndex((item) => item.contains(document.activeElement));
  $("likely").replaceChildren(...doubt.likely.map(([label, share], index) => {
    const given = doubt.images.every((image) => image.label === label) ? make("span", { class: "given", text: ofVisitors ? " as said" : " as labelled" }) : null;
    const button = make("button", { type: "button" }, ...bar(label, share, make("kbd", { text: index + 1 }), " "));
    if (given) button.querySelector(".label-name").append(given);
    button.addEventListener("click", () => decide("relabel", label));
    return make("li", {}, button);
  }));
  if (there >= 0) $("likely").children[Math.min(there, doubt.likely.length - 1)]?.querySelector("button").focus();
  const rest = state.classes.filter((name) => !doubt.likely.some(([label]) => label === name));
  $("other-choice").hidden = !rest.length;
  fill($("other"), [["", "choose …"], ...rest.map((name) => [name, name])]);
  $("together").hidden = !doubt.together;
  $("hint").textContent = several ? "Drop takes the marked images; a class is given to all of them. Press images to mark those that both shall count for." : "";
  $("near").hidden = !doubt.neighbours.length;
  $("neighbours").replaceChildren(...doubt.neighbours.map((image) => make("li", {},
    shown(image, 160, `Training image labelled ${image.label}`),
    make("span", { class: image.label === doubt.images[0].label ? "same" : "other", text: image.label }),
    make("span", { class: "small", text: image.similarity.toFixed(2) }))));
  const next = queue[(place() + 1) % queue.length];
  if (next) new Image().src = pixels(next.image, 1024);
}

function figure(image, index, several) {
  const goes = marked ? marked.has(index) : image.goes;
  const alt = `Image ${image.path}, labelled ${image.label}`;
  const caption = make("figcaption", {},
    make("strong", { text: image.label }), make("span", { class: "small", text: ` ${image.split}` }),
    image.fate ? make("span", { class: "fate", text: ` → ${image.fate}` }) : null,
    make("span", { class: "name", text: image.path }));
  const side = doubt.images.length > 2 ? 160 : 1024;
  if (!several) return make("figure", {}, shown(image, side, alt), caption);
  const button = make("button", { type: "button", class: "mark", "aria-pressed": goes, "aria-label": `Mark ${image.path}` }, shown(image, side, ""));
  button.addEventListener("click", () => {
    marked ??= new Set(doubt.images.flatMap((one, at) => (one.goes ? [at] : [])));
    if (!marked.delete(index)) marked.add(index);
    button.setAttribute("aria-pressed", marked.has(index));
  });
  return make("figure", {}, button, caption);
}

async function decide(action, label = "", keys = null) {
  if (busy || (!keys && !doubt) || keys?.length === 0) return;
  if (marked?.size === 0 && (action === "drop" || action === "relabel") && !keys) {
    alertWith("No image is marked.");
    return;
  }
  const images = keys || !marked || !["drop", "relabel"].includes(action) ? [] : [...marked].map((at) => doubt.images[at].id);
  const from = place();
  await change("/v1/decisions", { doubts: keys ?? [doubt.key], action, label, images }, () => {
    if (keys) {
      chosen = new Set();
      return doubt?.key;
    }
    const order = [...queue.slice(from + 1), ...queue.slice(0, from)];
    return (order.find(open) ?? queue[from])?.key;
  });
}

const undo = () => change("/v1/undo", {}, (told) => told.undone?.find((key) => queue.some((one) => one.key === key)) ?? doubt?.key);

// One change at a time; `next` says which doubt is shown afterwards.
async function change(path, body, next) {
  if (busy) return;
  busy = true;
  try {
    const told = await ask(path, { version: state.version, ...body });
    alertWith("");
    state = told;
    for (const one of queue) one.settled = told.settled_now[one.key] ?? null;
    const key = next(told);
    await show(key);
  } catch (problem) {
    if (problem.status === 409) await load(doubt?.key);
    alertWith(problem.message);
  } finally {
    busy = false;
  }
}

function drawGrid() {
  const wanted = queue.slice(0, visible);
  const there = document.activeElement?.dataset?.key;
  $("grid").replaceChildren(...wanted.map((one, index) => {
    const words = one.settled ?? (one.proposed ? `→ ${one.proposed}` : one.images > 1 ? counted(one.images, "image") : "");
    const button = make("button", { type: "button", "aria-pressed": chosen.has(one.key), "data-key": one.key, class: one.settled ? "done" : "" },
      shown(one.image, 160, `${one.image.path}`),
      make("span", { class: "line" }, make("strong", { text: one.labels.join(", ") }), make("span", { class: one.settled ? "settled" : "fate", text: ` ${words}` })));
    button.addEventListener("click", (event) => toggle(index, event.shiftKey));
    return make("li", {}, button);
  }));
  if (there) document.querySelector(`[data-key="${there}"]`)?.focus();
  $("more").hidden = visible >= queue.length;
  $("chosen").textContent = `${chosen.size} selected`;
  for (const id of ["keep-many", "propose-many", "relabel-many", "drop-many"]) $(id).disabled = !chosen.size;
}

function toggle(index, range) {
  const [from, to] = range && last >= 0 ? [Math.min(last, index), Math.max(last, index)] : [index, index];
  const add = range || !chosen.has(queue[index].key);
  for (const one of queue.slice(from, to + 1)) add ? chosen.add(one.key) : chosen.delete(one.key);
  last = index;
  drawGrid();
}

function step(by) {
  if (queue.length) show(queue[(place() + by + queue.length) % queue.length].key).catch((problem) => alertWith(problem.message));
}

function turn() {
  many = !many;
  keep();
  draw();
}

function chooseOpen() {
  chosen = new Set(queue.filter(open).map((one) => one.key));
  drawGrid();
}

const acts = { k: ["keep"], d: ["drop"], g: ["together"] };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state || event.target.matches("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  if (key === "u") undo();
  else if (key === "m") turn();
  else if (key === "a" && many) chooseOpen();
  else if (many && (key === "k" || key === "d")) decide(...acts[key], "", [...chosen]);
  else if (many) return;
  else if (key in acts && (key !== "g" || doubt?.together)) decide(...acts[key]);
  else if (/^[1-9]$/.test(key) && doubt?.likely[key - 1]) decide("relabel", doubt.likely[key - 1][0]);
  else if (key === "arrowright") step(1);
  else if (key === "arrowleft") step(-1);
  else return;
  event.preventDefault();
});

const chosenKeys = () => [...chosen];
for (const [id, act] of Object.entries({
  keep: () => decide("keep"), drop: () => decide("drop"), together: () => decide("together"),
  before: () => step(-1), after: () => step(1), undo, "undo-many": undo, many: turn, "choose-open": chooseOpen,
  "keep-many": () => decide("keep", "", chosenKeys()), "drop-many": () => decide("drop", "", chosenKeys()),
  "propose-many": () => decide("proposal", "", chosenKeys()),
  "relabel-many": () => decide("relabel", $("label-many").value, chosenKeys()),
  more: () => { visible += PAGE; drawGrid(); },
})) $(id).addEventListener("click", act);
$("other").addEventListener("change", () => $("other").value && decide("relabel", $("other").value));
$("label").addEventListener("change", () => choose({ label: $("label").value }));

// What happens without this page: the search for doubts, a training, another tab.
let waiting = null;
async function poll() {
  clearTimeout(waiting);
  if (state && state.looking.over && state.training?.state !== "running") return;
  waiting = setTimeout(async () => {
    const before = state;
    try {
      const now = await ask("/v1/state");
      if (!before || now.doubts !== before.doubts || now.images !== before.images || now.looking.over !== before.looking.over || now.version !== before.version) await load(doubt?.key);
      else {
        state = now;
        drawLooking();
        if (state.training) draw();
      }
    } catch (problem) {
      alertWith(problem.message);
    }
    poll();
  }, 1000);
}
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && state && !busy) load(doubt?.key);
});

$(ofVisitors ? "to-feedback" : "to-review").setAttribute("aria-current", "page");
if (ofVisitors) {
  document.title = "tellapart studio: feedback";
  for (const words of [$("keep").querySelector(".words"), $("keep-many")]) words.textContent = "Accept";
  $("propose-many").hidden = true;
}
await load();
poll();
