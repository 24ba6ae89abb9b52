// Browse: all images in a grid of which only the part in view is in the page. The address keeps the filter.

import { drawMap, openMap, tellAxes } from "./map.js";
import { $, alertWith, ask, bar, counted, fill, make, shown } from "./studio.js";

const PAGE = 100;
const MATRIX = 40; // classes, beyond which a matrix is no longer looked at
const form = $("query");
const fields = ["text", "split", "truth", "answer", "right", "verdict", "doubt", "lasso", "sort"];
let state = null;
let total = 0;
let pages = new Map(); // number -> rows, or the promise of them
let current = 0; // of queries: late answers to an older one are passed over
let opened = false; // the list of pairs, where it stands for the matrix
let enlarged = -1; // place in the order

function query() {
  return new URLSearchParams(fields.map((name) => [name, form.elements[name].value]).filter(([name, value]) => value && !(name === "sort" && value === "name")));
}

async function begin() {
  try {
    state = await ask("/v1/state");
    while (!state.images && !state.looking.over) {
      $("status").textContent = `${state.looking.stage || "reading images"} …`;
      await new Promise((done) => setTimeout(done, 500));
      state = await ask("/v1/state");
    }
  } catch (problem) {
    alertWith(problem.message);
    return;
  }
  if (!state.images) {
    $("status").textContent = "";
    alertWith(state.looking.problem || "There are no images.");
    return;
  }
  $("about").textContent = `${state.run ? "Run" : "Images"} ${state.run ?? state.data}: ${counted(state.images, "image")}`;
  $("to-report").hidden = !state.report;
  $("to-feedback").hidden = !state.feedback;
  const all = ["", "all"];
  const asked = new URLSearchParams(location.search);
  const classes = state.classes.map((name) => [name, name]);
  fill(form.elements.split, [all, ...["train", "validation", "test"].map((name) => [name, name])], asked.get("split"));
  fill(form.elements.truth, [all, ...classes], asked.get("truth"));
  fill(form.elements.answer, [all, ...classes], asked.get("answer"));
  fill(form.elements.right, [all, ["yes", "right"], ["no", "wrong"]], asked.get("right"));
  fill(form.elements.verdict, [all, ...state.verdicts.map((name) => [name, name])], asked.get("verdict"));
  fill(form.elements.doubt, [all, ...state.kinds.map((one) => [one.kind, one.words])], asked.get("doubt"));
  const orders = [["name", "name"], ["-size", "largest first"], ["size", "smallest first"]];
  if (state.answered) {
    orders.push(["confidence", "least sure first"], ["-confidence", "surest first"], ["-loss", "largest loss first"], ["-distance", "most unlike first"], ["distance", "least unlike first"]);
  }
  fill(form.elements.sort, orders, asked.get("sort") ?? "name");
  form.elements.text.value = asked.get("text") ?? "";
  form.elements.lasso.value = asked.get("lasso") ?? "";
  showMap();
  for (const label of document.querySelectorAll(".said")) label.hidden = !state.answered;
  await search();
}

async function search() {
  const asked = query();
  history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
  $("download").href = `/v1/images.csv?${asked}`;
  pages = new Map();
  current += 1;
  await page(0);
  alertOf(null);
  $("status").textContent = total === state.images ? counted(total, "image") : `${total.toLocaleString("en")} of ${counted(state.images, "image")}`;
  draw();
  if (state.answered) {
    if (state.classes.length <= MATRIX) matrix();
    pairs().catch(alertOf);
  }
  drawMap(form.elements.lasso.value);
}

// The map is there once the images were looked into; opening it begins that by UMAP where it is installed.
async function showMap() {
  const heard = async () => {
    await new Promise((done) => setTimeout(done, 1000));
    state = await ask("/v1/state").catch(() => state);
  };
  while (!state.map.axes && !state.looking.over) await heard();
  $("map").hidden = !state.map.axes;
  const drawn = async () => {
    const axes = await openMap(state, (lasso) => set({ lasso }, false), show);
    drawMap(form.elements.lasso.value);
    return axes;
  };
  const open = async () => {
    const first = await drawn();
    do {
      await heard();
      tellAxes(first, state.map);
    } while (state.map.making);
    if (state.map.axes === first) return;
    if (form.elements.lasso.value) set({ lasso: "" }); // drawn on the other map
    await drawn();
  };
  $("map").addEventListener("toggle", () => $("map").open && open().catch(alertOf), { once: true });
  if (form.elements.lasso.value) $("map").open = true;
}

const alertOf = (problem) => alertWith(problem ? problem.message : "");

// The rows of a page of the list; a promise is kept too, so that none is asked for twice.
function page(number) {
  if (!pages.has(number)) {
    const mine = current;
    const asked = query();
    asked.set("start", number * PAGE);
    asked.set("count", PAGE);
    pages.set(number, ask(`/v1/images?${asked}`).then((told) => {
      if (mine !== current) return;
      total = told.total;
      pages.set(number, told.rows);
    }).catch((problem) => {
      pages.delete(number);
      alertOf(problem);
    }));
  }
  return pages.get(number);
}

async function row(place) {
  const number = Math.floor(place / PAGE);
  if (!Array.isArray(pages.get(number))) await page(number);
  return pages.get(number)?.[place % PAGE];
}

function draw() {
  const space = $("space");
  const style = getComputedStyle(space);
  const height = parseFloat(style.getPropertyValue("--row"));
  const columns = Math.max(2, Math.floor(space.clientWidth / parseFloat(style.getPropertyValue("--column"))));
  const rows = Math.ceil(total / columns);
  space.style.height = `${rows * height}px`;
  const above = Math.max(0, -space.getBoundingClientRect().top);
  const first = Math.max(0, Math.floor(above / height) - 1);
  const count = Math.ceil(innerHeight / height) + 3;
  const places = [];
  for (let place = first * columns; place < Math.min(total, (first + count) * columns); place += 1) places.push(place);
  const lacking = new Set(places.map((place) => Math.floor(place / PAGE)).filter((number) => !Array.isArray(pages.get(number))));
  for (const number of lacking) Promise.resolve(page(number)).then(draw);
  const list = $("window");
  list.style.transform = `translateY(${first * height}px)`;
  list.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  const there = document.activeElement?.dataset?.place;
  const old = new Map([...list.children].map((item) => [`${item.dataset.query} ${item.dataset.at}`, item]));
  list.replaceChildren(...places.map((place) => {
    const found = pages.get(Math.floor(place / PAGE));
    const known = Array.isArray(found);
    return (known && old.get(`${current} ${place}`)) || cell(place, known ? found[place % PAGE] : null);
  }));
  if (there !== undefined && document.activeElement?.dataset?.place !== there) list.querySelector(`[data-place="${there}"]`)?.focus({ preventScroll: true });
}

function cell(place, image) {
  if (!image) return make("li", {});
  const wrong = image.answer !== null && image.answer !== image.label;
  const button = make("button", { type: "button", "data-place": place },
    shown(image, 160, image.path),
    make("span", { class: "line" }, make("strong", { text: image.label }),
      image.answer === null ? make("span", { class: "small", text: ` ${image.split}` })
        : make("span", { class: wrong ? "wrong" : "small", text: ` ${wrong ? `→ ${image.answer}` : "right"} ${(100 * image.confidence).toFixed(0)} %` })));
  button.addEventListener("click", () => enlarge(place));
  return make("li", { "data-query": current, "data-at": place }, button);
}

async function enlarge(place) {
  try {
    const image = await row(place);
    if (!image) return;
    enlarged = place;
    const told = await ask(`/v1/images/${image.id}`);
    drawCard(told);
    if (!$("card").open) $("card").showModal();
  } catch (problem) {
    alertOf(problem);
  }
}

// An image that is not in the list, or not known to be.
async function show(id) {
  enlarged = -1;
  drawCard(await ask(`/v1/images/${id}`));
  if (!$("card").open) $("card").showModal();
}

function drawCard(image) {
  $("card-title").textContent = image.path;
  $("card-before").disabled = enlarged <= 0;
  $("card-after").disabled = enlarged < 0 || enlarged >= total - 1;
  const facts = [["Label", image.label], ["Split", image.split || "none"], ["Answer", image.answer && `${image.answer}${image.verdict ? ` (${image.verdict})` : ""}`],
    ["Decided", image.fate], ["Loss", image.loss?.toFixed(3)], ["Distance", image.distance?.toFixed(2)], ["Pixels", `${image.width} × ${image.height}`],
    ["Doubts", image.doubts.map((one) => `${one.kind}${one.settled ? ` (${one.settled})` : ""}`).join(", ")]];
  const list = make("dl", {}, ...facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })]));
  const acts = make("div", { class: "buttons start" },
    ...["keep", "drop"].map((action) => act(image, action === "keep" ? "Keep" : "Drop", () => ({ action }))),
    make("label", { class: "together" }, "as ", classes(image)),
    act(image, "Relabel", () => ({ action: "relabel", label: $("card-label").value })),
    act(image, "Undo", null));
  const bars = make("ul", { class: "bars", role: "list", "aria-label": "Probabilities" }, ...image.probabilities.map(([label, share]) => make("li", {}, ...bar(label, share))));
  const near = image.neighbours.map((other) => {
    const button = make("button", { type: "button", "aria-label": `Show ${other.path}` }, shown(other, 160, ""), make("span", { text: other.label }));
    button.addEventListener("click", async () => drawCard(await ask(`/v1/images/${other.id}`)));
    return make("li", {}, button);
  });
  const figure = make("figure", {}, shown(image, 1024, `Image ${image.path}`));
  if (state.run) figure.append(make("figcaption", {}, heat(image, figure)));
  $("card-body").replaceChildren(
    figure,
    make("div", { class: "facts" }, list, image.probabilities.length ? bars : null, acts, make("p", { id: "card-said", role: "status" })),
    ...(near.length ? [make("div", { class: "near" }, make("h3", { text: "Nearest training images" }), make("ul", { class: "strip", role: "list" }, ...near))] : []));
}

// A button that shows what speaks for the answer, or where there is none for the label, over the image as the network sees it, and again the image itself.
function heat(image, figure) {
  const label = image.answer ?? image.label;
  const button = make("button", { type: "button", "aria-pressed": false, text: `What speaks for ${label}` });
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    const made = on ? make("img", { src: `/heat/${image.id}`, alt: `Image ${image.path}, its parts that speak for ${label} in warm colours` })
      : shown(image, 1024, `Image ${image.path}`);
    made.addEventListener("error", () => on && made.replaceWith(make("span", { class: "gone", text: "No heat can be made of this image." })));
    figure.firstElementChild.replaceWith(made);
    button.setAttribute("aria-pressed", on);
  });
  return button;
}

function classes(image) {
  const select = make("select", { id: "card-label" });
  fill(select, state.classes.map((name) => [name, name]), image.answer ?? image.label);
  return select;
}

// A button that decides about the image, or takes the last decision back; the card then shows what is there.
function act(image, text, body) {
  const button = make("button", { type: "button", text });
  button.addEventListener("click", async () => {
    let said = "";
    try {
      const path = body ? "/v1/decisions" : "/v1/undo";
      await ask(path, { version: state.version, ...(body ? { doubts: [], images: [image.id], ...body() } : {}) });
    } catch (problem) {
      said = problem.message;
    }
    try {
      state = await ask("/v1/state");
      drawCard(await ask(`/v1/images/${image.id}`));
    } catch (problem) {
      said = problem.message;
    }
    $("card-said").textContent = said || `${counted(state.corrections.all, "correction")} in ${state.file}`;
    [...$("card").querySelectorAll(".facts button")].find((one) => one.textContent === text)?.focus();
  });
  return button;
}

async function matrix() {
  const split = form.elements.split.value;
  const { classes, counts } = await ask(`/v1/confusion?${new URLSearchParams(split ? { split } : {})}`);
  const largest = Math.max(1, ...counts.flat());
  const head = make("tr", {}, make("th", { scope: "col", text: "truth ↓ answer →" }), ...classes.map((name) => make("th", { scope: "col", text: name })));
  const rows = counts.map((values, truth) => make("tr", {}, make("th", { scope: "row", text: classes[truth] }), ...values.map((count, answer) => {
    if (!count) return make("td", { text: "0", class: "small" });
    const words = `${counted(count, "image")} of ${classes[truth]} called ${classes[answer]}`;
    const button = make("button", { type: "button", text: count.toLocaleString("en"), "aria-label": words, class: truth === answer ? "hit" : "miss" });
    button.style.setProperty("--share", Math.sqrt(count / largest));
    button.addEventListener("click", () => set({ truth: classes[truth], answer: classes[answer] }));
    return make("td", {}, button);
  })));
  $("confusion").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  $("matrix").hidden = false;
}

// The pairs of classes that are confused, of any number of classes.
async function pairs() {
  const split = form.elements.split.value, text = $("pairs-text").value.trim();
  const { total: found, pairs: list } = await ask(`/v1/confused?${new URLSearchParams({ ...(split && { split }), ...(text && { text }) })}`);
  if (text !== $("pairs-text").value.trim()) return;
  const words = found === list.length ? counted(found, "pair") : `${list.length} of ${counted(found, "pair")}`;
  $("pairs-status").textContent = found || text ? words : "No class was taken for another.";
  const head = make("tr", {}, ...["Truth", "Taken for", "Images", "Of the truth"].map((name) => make("th", { scope: "col", text: name })));
  const rows = list.map(({ truth, answer, count, of }) => {
    const label = `${counted(count, "image")} of ${truth} called ${answer}`;
    const button = make("button", { type: "button", text: count.toLocaleString("en"), "aria-label": label, class: "miss" });
    button.addEventListener("click", () => set({ truth, answer }));
    return make("tr", {}, make("td", { dir: "auto", text: truth }), make("td", { dir: "auto", text: answer }), make("td", {}, button),
      make("td", { class: "figure", text: `${(100 * count / of).toFixed(0)} % of ${of.toLocaleString("en")}` }));
  });
  $("pairs-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  $("pairs").hidden = false;
  if (state.classes.length > MATRIX && !opened) $("pairs").open = true;
  opened = true;
}

function set(values, up = true) {
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  if (up) scrollTo({ top: 0 });
  return search();
}

let typing = null;
let naming = null;
$("pairs-text").addEventListener("input", () => {
  clearTimeout(naming);
  naming = setTimeout(() => pairs().catch(alertOf), 200);
});
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(search, event.target.name === "text" ? 200 : 0);
});
form.addEventListener("submit", (event) => event.preventDefault());
$("clear").addEventListener("click", () => set(Object.fromEntries(fields.map((name) => [name, name === "sort" ? "name" : ""]))));
$("card-close").addEventListener("click", () => $("card").close());
$("card-before").addEventListener("click", () => enlarge(enlarged - 1));
$("card-after").addEventListener("click", () => enlarge(enlarged + 1));
$("card").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft" && enlarged > 0) enlarge(enlarged - 1);
  if (event.key === "ArrowRight" && enlarged < total - 1) enlarge(enlarged + 1);
});
$("card").addEventListener("close", () => $("window").querySelector(`[data-place="${enlarged}"]`)?.focus());
let drawing = false;
for (const name of ["scroll", "resize"]) {
  addEventListener(name, () => {
    if (drawing || !state) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      draw();
    });
  }, { passive: true });
}

await begin();
