// The page: images in, predictions out. Talks to its own server alone, and keeps nothing after it is closed.

import { fillCard, makeCard, paint } from "./card.js";
import { offer } from "./feedback.js";
import { dropped, nameOf, ofFolder, unreadable } from "./files.js";

const { list, warn } = tellapartWords;
const AT_ONCE = 3;
const TRIES = 8;
// Milliseconds between questions to a server that is away.
const AGAIN = 2000;
const KINDS = { sure: "sure", unsure: "unsure", unlike: "unlike", answered: "without a verdict", failed: "failed" };

const at = (id) => document.getElementById(id);
let entries = [];
let waiting = [];
let working = 0;
let served = null;
let token = "";
let away = false;
let filter = "";

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Asks the server; waits and asks again while it is busy. Throws Refused with its words; status 0: no answer. */
async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  for (let attempt = 1; ; attempt += 1) {
    const answer = await fetch(path, { ...options, headers }).catch(() => {
      throw new Refused(0, "the server does not answer.");
    });
    if (answer.status === 503 && attempt < TRIES) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    const body = await answer.json().catch(() => ({ error: `the server answered with status ${answer.status}.` }));
    if (body.error && answer.status === 503) throw new Refused(503, `the server is busy. ${body.error}`);
    if (body.error) throw new Refused(answer.status, body.error);
    return body;
  }
}

async function begin() {
  try {
    served = await ask("/v1/runs");
  } catch (error) {
    if (error.status === 0) {
      leave();
      return;
    }
    at("about").textContent = "";
    if (error.status === 401) {
      away = false;
      warn("");
      at("token-wrong").textContent = token ? "This token is not right." : "";
      at("token-form").hidden = false;
      at("token").focus();
    } else {
      warn(error.message);
    }
    return;
  }
  if (away) warn("");
  away = false;
  at("token-form").hidden = true;
  const choice = at("run"), before = choice.value;
  choice.replaceChildren(...served.runs.map((run) => new Option(run.name, run.name)));
  if (served.runs.some((run) => run.name === before)) choice.value = before;
  at("run-choice").hidden = served.runs.length < 2;
  at("bounds").textContent =
    `Up to ${Math.floor(served.bytes / 1e6)} MB and ${Math.floor(served.pixels / 1e6)} megapixels an image. ` +
    (served.feedback
      ? "Images go to this server alone; it keeps only those of which you say what they are."
      : "Images go to this server alone; it keeps none.");
  describe();
  work();
}

/** The server is away: what waits is kept, and goes on when it is back. */
function leave() {
  away = true;
  const why = navigator.onLine ? "The server does not answer: it may have been stopped." : "This device is offline.";
  const kept = waiting.length ? ` ${waiting.length} ${waiting.length === 1 ? "image waits" : "images wait"}.` : "";
  warn(`${why}${kept} Trying again until it answers.`);
  setTimeout(begin, AGAIN);
}

function describe() {
  const run = served.runs[at("run").selectedIndex];
  const names = list(run.classes, 8);
  at("about").textContent = run.kind === "multilabel" ? `Finds ${names}: several on an image, or none.` : `Tells apart ${names}.`;
}

/** New images come first, in their order, and into view. */
function add({ images, skipped = 0, left = 0 }) {
  if (!away) warn("");
  const notes = [
    ...(skipped ? [`${skipped} ${skipped === 1 ? "file that is no image was" : "files that are no images were"} left out.`] : []),
    ...(left ? [`${left} images more than fit at once were left out.`] : []),
    ...(images.length || skipped ? [] : ["There is no image in it."]),
  ];
  if (notes.length) warn(notes.join(" "));
  const added = images.map((file) => {
    const name = nameOf(file);
    return { file, name, run: at("run").value, card: makeCard(file, name), answer: null, asked: false };
  });
  for (const entry of added) listen(entry);
  entries = [...added, ...entries];
  waiting.push(...added);
  at("list").prepend(...added.map((entry) => entry.card));
  if (filter && added.length) show("");
  tell();
  if (added.length) {
    at("results").scrollIntoView({ block: "start" });
    added[0].card.focus({ preventScroll: true });
  }
  work();
}

function listen(entry) {
  const part = (selector) => entry.card.querySelector(selector);
  const button = part(".image");
  button.addEventListener("pointerenter", () => showHeat(entry));
  button.addEventListener("focus", () => showHeat(entry));
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    showHeat(entry);
  });
  part(".again").addEventListener("click", () => {
    entry.answer = null;
    entry.run = at("run").value;
    fillCard(entry.card, entry.name, entry.run, null);
    waiting.push(entry);
    entry.card.focus();
    tell();
    work();
  });
  part(".remove").addEventListener("click", () => {
    const next = entry.card.nextElementSibling ?? entry.card.previousElementSibling ?? at("choose");
    entries = entries.filter((one) => one !== entry);
    waiting = waiting.filter((one) => one !== entry);
    entry.card.remove();
    tell();
    next.focus();
  });
}

function kindOf({ answer }) {
  if (!answer) return "";
  return answer.error ? "failed" : answer.verdict || "answered";
}

function tell() {
  const done = entries.filter((entry) => entry.answer).length;
  at("results").hidden = entries.length === 0;
  at("status").textContent = done < entries.length ? `${done} of ${entries.length} done` : `${done} done`;
  at("download").disabled = done === 0;
  const counts = Object.entries(KINDS).map(([kind, words]) => [kind, words, entries.filter((entry) => kindOf(entry) === kind).length]);
  const there = counts.filter(([, , count]) => count);
  if (filter && !there.some(([kind]) => kind === filter)) filter = "";
  const focused = document.activeElement?.dataset?.kind;
  at("filters").replaceChildren(
    ...(there.length > 1 || filter ? [["", "all", entries.length], ...there] : there).map(([kind, words, count]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.kind = kind;
      button.textContent = `${count} ${words}`;
      button.setAttribute("aria-pressed", String(kind === filter));
      button.addEventListener("click", () => show(kind === filter ? "" : kind));
      return button;
    }),
  );
  if (focused !== undefined) at("filters").querySelector(`[data-kind="${focused}"]`)?.focus();
  for (const entry of entries) entry.card.hidden = Boolean(filter) && kindOf(entry) !== filter;
}

function show(kind) {
  filter = kind;
  tell();
}

function work() {
  while (served && !away && working < AT_ONCE && waiting.length) {
    const entry = waiting.shift();
    // It may have been given before the runs were known, or its run may be gone since.
    if (!served.runs.some((run) => run.name === entry.run)) entry.run = at("run").value;
    working += 1;
    predict(entry, false)
      .then((answer) => settle(entry, answer))
      .catch(async (error) => {
        const why = error.status === 0 ? await unsent(entry) : error.message;
        if (why) return settle(entry, { error: why });
        waiting.unshift(entry);
        if (!away && !(await alive())) leave();
      })
      .finally(() => {
        working -= 1;
        tell();
        work();
      });
  }
}

const alive = () => fetch("/healthz").then((answer) => answer.ok).catch(() => false);

/** Why an image could not be sent, or "" if it can be sent again: the server is away, or the connection broke once. */
async function unsent(entry) {
  const why = await unreadable(entry.file);
  if (why || !(await alive())) return why;
  entry.broken = (entry.broken ?? 0) + 1;
  return entry.broken < 3 ? "" : "the connection breaks while it is sent, though the server answers.";
}

function settle(entry, answer) {
  entry.answer = answer;
  fillCard(entry.card, entry.name, entry.run, answer);
  if (!served.feedback || answer.error) return;
  offer(entry.card, entry.name, answer, (said, label) =>
    ask(`/v1/feedback?${new URLSearchParams({ run: entry.run, said, label })}`, sent(entry.file)));
}

/** A request that sends an image. */
function sent(file) {
  const kind = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  return { method: "POST", body: file, headers: { "Content-Type": kind } };
}

async function predict(entry, explain) {
  if (entry.file.size > served.bytes) return { error: `it has more than ${Math.floor(served.bytes / 1e6)} MB.` };
  const query = new URLSearchParams({ run: entry.run, ...(explain && { explain: "1" }) });
  const body = await ask(`/v1/predict?${query}`, sent(entry.file));
  return body.predictions[0];
}

/** Fetches the heat map once, when it is first looked for. */
async function showHeat(entry) {
  if (entry.asked || !entry.answer || entry.answer.error) return;
  entry.asked = true;
  try {
    const { heat, error } = await predict(entry, true);
    if (!heat) throw new Error(error ?? "the network gives no number for a place of it.");
    await paint(entry.card.querySelector(".heat"), heat);
  } catch (error) {
    entry.asked = false;
    warn(`No heat map of ${entry.name}: ${error.message}`);
  }
}

function csv() {
  const done = entries.filter((entry) => entry.answer && !entry.card.hidden);
  const classes = [...new Set(done.flatMap((entry) => Object.keys(entry.answer.probabilities ?? {})))];
  const rows = done.map(({ name, run, answer }) => [
    name, run, answer.label ?? "", answer.probability ?? "", answer.verdict ?? "", answer.distance ?? "",
    ...classes.map((label) => answer.probabilities?.[label] ?? ""), answer.error ?? "",
  ]);
  return [["name", "run", "label", "probability", "verdict", "distance", ...classes, "error"], ...rows]
    .map((cells) => cells.map(quoted).join(","))
    .join("\r\n") + "\r\n";
}

function quoted(cell) {
  // A name that a spreadsheet would take for a formula is kept from it.
  const text = typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", csv()], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function openCamera() {
  warn("");
  try {
    at("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    at("camera-dialog").showModal();
  } catch (error) {
    warn(`The camera cannot be used: ${error.message}.`);
  }
}

function closeCamera() {
  at("video").srcObject?.getTracks().forEach((track) => track.stop());
  at("video").srcObject = null;
}

async function shoot() {
  const video = at("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  at("camera-dialog").close();
  const name = `camera ${new Date().toISOString().slice(0, 19).replaceAll(":", ".")}.jpg`;
  if (blob) add({ images: [new File([blob], name, { type: "image/jpeg" })] });
}

for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
  at(button).addEventListener("click", () => at(input).click());
  at(input).addEventListener("change", () => {
    const files = [...at(input).files];
    if (files.length) add(input === "folder" ? ofFolder(files) : { images: files });
    at(input).value = "";
  });
}
// A phone has no folders to choose.
at("choose-folder").hidden = !("webkitdirectory" in at("folder")) || matchMedia("(pointer: coarse)").matches;
at("run").addEventListener("change", describe);
at("download").addEventListener("click", download);
at("clear").addEventListener("click", () => {
  entries = [];
  waiting = [];
  filter = "";
  at("list").replaceChildren();
  tell();
  at("choose").focus();
});
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  begin();
});
at("camera").hidden = !navigator.mediaDevices?.getUserMedia;
at("camera").addEventListener("click", openCamera);
at("camera-dialog").addEventListener("close", closeCamera);
at("camera-close").addEventListener("click", () => at("camera-dialog").close());
at("shoot").addEventListener("click", shoot);

document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add({ images: [...event.clipboardData.files] });
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) add(await dropped(event.dataTransfer));
  else warn("Only files can be dropped here: save the image first.");
});

begin();
