// The page: images in, predictions out. Talks to its own server alone, and keeps nothing after it is closed.

const AT_ONCE = 3;
const TRIES = 8;
const BARS = 5;
const VERDICTS = { sure: "sure", unsure: "not sure", unlike: "Unlike anything it was taught" };
// Inferno, from dark to bright: rises in lightness evenly, and is told apart by eyes of every kind.
const COLOURS = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];

const at = (id) => document.getElementById(id);
const entries = [];
let waiting = [];
let working = 0;
let served = null;
let token = "";

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Asks the server; waits and asks again while it is busy. Throws Refused with its words. */
async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  for (let attempt = 1; ; attempt += 1) {
    const answer = await fetch(path, { ...options, headers }).catch(() => {
      throw new Refused(0, "The server does not answer.");
    });
    if (answer.status === 503 && attempt < TRIES) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    const body = await answer.json().catch(() => ({ error: `The server answered with status ${answer.status}.` }));
    if (body.error) throw new Refused(answer.status, body.error);
    return body;
  }
}

async function begin() {
  try {
    served = await ask("/v1/runs");
  } catch (error) {
    at("about").textContent = "";
    if (error.status === 401) {
      at("token-wrong").textContent = token ? "This token is not right." : "";
      at("token-form").hidden = false;
      at("token").focus();
    } else {
      warn(error.message);
    }
    return;
  }
  at("token-form").hidden = true;
  const choice = at("run");
  choice.replaceChildren(...served.runs.map((run) => new Option(run.name, run.name)));
  at("run-choice").hidden = served.runs.length < 2;
  at("bounds").textContent =
    `Up to ${Math.floor(served.bytes / 1e6)} MB and ${Math.floor(served.pixels / 1e6)} megapixels an image. ` +
    "Images go to this server alone; it keeps none.";
  describe();
  work();
}

function describe() {
  const run = served.runs[at("run").selectedIndex];
  at("about").textContent = `Tells apart ${list(run.classes, 8)}.`;
}

function list(names, most) {
  const shown = names.slice(0, most);
  const rest = names.length - shown.length;
  if (rest) return `${shown.join(", ")} and ${rest} more`;
  return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown.join("");
}

function warn(message) {
  at("alert").textContent = message;
  at("alert").hidden = !message;
}

function add(files) {
  warn("");
  for (const file of files) {
    const entry = { file, name: file.name || "image", run: at("run").value, row: row(file), answer: null, asked: false };
    entries.push(entry);
    waiting.push(entry);
    entry.row.querySelector(".name").textContent = entry.name;
    const button = entry.row.querySelector(".image");
    button.addEventListener("pointerenter", () => showHeat(entry));
    button.addEventListener("focus", () => showHeat(entry));
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      showHeat(entry);
    });
    at("list").append(entry.row);
  }
  tell();
  work();
}

function row(file) {
  const made = at("row").content.firstElementChild.cloneNode(true);
  const image = made.querySelector("img");
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  // A format that this browser cannot show is still predicted.
  image.addEventListener("error", () => image.remove(), { once: true });
  image.src = URL.createObjectURL(file);
  return made;
}

function tell() {
  const done = entries.filter((entry) => entry.answer).length;
  at("results").hidden = entries.length === 0;
  at("status").textContent = done < entries.length ? `${done} of ${entries.length} done` : `${done} done`;
  at("download").disabled = done === 0;
}

function work() {
  while (served && working < AT_ONCE && waiting.length) {
    const entry = waiting.shift();
    // It may have been given before the runs were known.
    entry.run ||= at("run").value;
    working += 1;
    predict(entry, false)
      .then((answer) => show(entry, answer))
      .catch((error) => show(entry, { error: error.message }))
      .finally(() => {
        working -= 1;
        tell();
        work();
      });
  }
}

async function predict(entry, explain) {
  if (entry.file.size > served.bytes) return { error: `It has more than ${Math.floor(served.bytes / 1e6)} MB.` };
  const query = new URLSearchParams({ run: entry.run, ...(explain && { explain: "1" }) });
  const kind = entry.file.type.startsWith("image/") ? entry.file.type : "application/octet-stream";
  const body = await ask(`/v1/predict?${query}`, { method: "POST", body: entry.file, headers: { "Content-Type": kind } });
  return body.predictions[0];
}

function show(entry, answer) {
  entry.answer = answer;
  const part = (name) => entry.row.querySelector(name);
  if (answer.error) {
    part(".label").className = "failed";
    part(".failed").textContent = `Could not be predicted: ${answer.error}`;
    return;
  }
  // Of an image unlike any that was taught, the class says little: it does not head the card.
  const unlike = answer.verdict === "unlike";
  part(".label").textContent = unlike ? VERDICTS.unlike : answer.label;
  part(".label").classList.toggle("unlike", unlike);
  part(".verdict").textContent = unlike ? `nearest: ${answer.label}` : (VERDICTS[answer.verdict] ?? "");
  part(".verdict").classList.toggle(unlike ? "none" : answer.verdict || "none", true);
  const sorted = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  part(".bars").replaceChildren(...sorted.slice(0, BARS).map(([name, value]) => bar(name, value)));
  if (sorted.length > BARS) {
    const rest = document.createElement("li");
    rest.className = "rest";
    rest.textContent = `and ${sorted.length - BARS} less likely`;
    part(".bars").append(rest);
  }
  const button = part(".image");
  button.disabled = false;
  button.setAttribute("aria-label", `What speaks for ${answer.label} in ${entry.name}`);
}

function bar(name, value) {
  const item = document.createElement("li");
  const fill = document.createElement("span");
  fill.className = "fill";
  fill.style.width = `${100 * value}%`;
  const words = document.createElement("span");
  words.textContent = name;
  const figure = document.createElement("span");
  figure.className = "figure";
  figure.textContent = percent(value);
  item.append(fill, words, figure);
  return item;
}

/** Never says that something is certain, or impossible, because of rounding. */
function percent(value) {
  const figure = (100 * value).toFixed(1);
  return { "100.0": "> 99.9 %", "0.0": "< 0.1 %" }[figure] ?? `${figure} %`;
}

/** Fetches the heat map once, when it is first looked for. */
async function showHeat(entry) {
  if (entry.asked || !entry.answer || entry.answer.error) return;
  entry.asked = true;
  try {
    const { heat } = await predict(entry, true);
    if (!heat) throw new Error("the network gives no number for a place of it.");
    await paint(entry.row.querySelector(".heat"), heat);
  } catch (error) {
    entry.asked = false;
    warn(`No heat map: ${error.message}`);
  }
}

async function paint(canvas, heat) {
  const bytes = Uint8Array.from(atob(heat.png), (letter) => letter.charCodeAt(0));
  const map = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  canvas.width = map.width;
  canvas.height = map.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(map, 0, 0);
  const image = pen.getImageData(0, 0, map.width, map.height);
  for (let place = 0; place < image.data.length; place += 4) {
    const strength = image.data[place] / 255;
    image.data.set([...colour(strength), 210 * Math.sqrt(strength)], place);
  }
  pen.putImageData(image, 0, 0);
  canvas.style.left = `${100 * heat.left}%`;
  canvas.style.top = `${100 * heat.top}%`;
  canvas.style.width = `${100 * (heat.right - heat.left)}%`;
  canvas.style.height = `${100 * (heat.bottom - heat.top)}%`;
  canvas.dataset.painted = "yes";
}

function colour(strength) {
  const place = strength * (COLOURS.length - 1);
  const below = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[below].map((value, channel) => value + (place - below) * (COLOURS[below + 1][channel] - value));
}

function csv() {
  const done = entries.filter((entry) => entry.answer);
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
  if (blob) add([new File([blob], `camera ${new Date().toISOString().slice(0, 19).replaceAll(":", ".")}.jpg`, { type: "image/jpeg" })]);
}

at("choose").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", () => {
  add(at("files").files);
  at("files").value = "";
});
at("run").addEventListener("change", describe);
at("download").addEventListener("click", download);
at("clear").addEventListener("click", () => {
  entries.length = 0;
  waiting = [];
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
  if (event.clipboardData?.files.length) add(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) add(event.dataTransfer.files);
  else warn("Only files can be dropped here: save the image first.");
});

begin();
