// The page: images in, predictions out, on this device alone. Everything comes from scripts beside it, as a page opened
// from a disk may not read other files.

"use strict";

const TOLERANCE = 0.01; // of a probability, between this browser and tellapart
const GREY_LEVELS = 2; // of the mean difference of the pixels

const { VERDICTS, bars: barsOf, list, warn } = tellapartWords;
const at = (id) => document.getElementById(id);
const shipped = tellapartModel;
const spec = shipped.record.image;
const classes = shipped.record.task.classes;
const several = shipped.record.task.kind === "multilabel";
const entries = [];
const waiting = [];
let session = null;
let working = false;

function decoded(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** The runtime's own two files: from beside the page, or from their public address if they are what they should be. */
async function runtimeFiles() {
  const names = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
  if (tellapartRuntime.files) return names.map((name) => decoded(tellapartRuntime.files[name]));
  return Promise.all(names.map(async (name) => {
    const address = `${tellapartRuntime.address}${name}`;
    const answer = await fetch(address, { integrity: tellapartRuntime.integrity[name], credentials: "omit" });
    if (!answer.ok) throw new Error(`${address} answered with status ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  }));
}

async function openModel() {
  const [code, binary] = await runtimeFiles();
  const place = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const runtime = await import(place);
  URL.revokeObjectURL(place);
  runtime.env.wasm.wasmBinary = binary.buffer;
  runtime.env.wasm.numThreads = 1; // more would need headers that a folder cannot send
  runtime.env.logLevel = "error";
  const opened = await runtime.InferenceSession.create(decoded(shipped.onnx), { executionProviders: ["wasm"] });
  return { opened, Tensor: runtime.Tensor };
}

/** Pixels -> probabilities by class, and the distance from the nearest class; NaN if the network does not tell it. */
async function answer(pixels) {
  const { opened, Tensor } = session;
  const given = new Tensor("uint8", pixels, [1, spec.height, spec.width, spec.channels]);
  const wanted = ["probabilities", "similarity"].filter((name) => opened.outputNames.includes(name));
  const found = await opened.run({ [opened.inputNames[0]]: given }, wanted);
  const said = Array.from(found.probabilities.data);
  const rows = said.length === 1 ? [1 - said[0], said[0]] : said;
  const total = several ? 1 : rows.reduce((sum, value) => sum + value, 0);
  if (!(total > 0) || rows.some(Number.isNaN)) throw new Error("the network's output is not a number");
  const distance = found.similarity ? 1 - Math.max(...found.similarity.data) : NaN;
  for (const tensor of Object.values(found)) tensor.dispose();
  return { values: rows.map((value) => value / total), distance };
}

async function predict(source) {
  const { values, distance } = await answer(await tellapartPixels.read(source, spec));
  if (several) return severalLabels(values, distance);
  const best = values.indexOf(Math.max(...values));
  return { label: classes[best], probability: values[best], values, distance, verdict: verdict(values[best], distance) };
}

/** The labels of an image; the probability is that all of them are right. */
function severalLabels(values, distance) {
  const least = shipped.record.thresholds?.labels ?? classes.map(() => 0.5);
  const there = values.map((value, number) => value >= least[number]);
  const probability = values.reduce((product, value, number) => product * (there[number] ? value : 1 - value), 1);
  const labels = classes.filter((_, number) => there[number]);
  const shown = labels.join(", ") || "none of the labels";
  return { label: labels.join("|"), shown, probability, values, distance, verdict: verdict(probability, distance) };
}

function verdict(probability, distance) {
  const { thresholds } = shipped.record;
  if (!thresholds) return "";
  if (thresholds.unlike !== null && distance > thresholds.unlike) return "unlike";
  return probability >= thresholds.sure ? "sure" : "unsure";
}

function add(files) {
  warn("");
  for (const file of files) {
    const entry = { file, name: file.name || "image", row: row(file), answer: null };
    entry.row.querySelector(".name").textContent = entry.name;
    entries.push(entry);
    waiting.push(entry);
    at("list").append(entry.row);
  }
  tell();
  work();
}

function row(file) {
  const made = at("row").content.firstElementChild.cloneNode(true);
  const image = made.querySelector("img");
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
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

/** One image at a time, with a pause for the page between two. */
async function work() {
  if (working || !session) return;
  working = true;
  while (waiting.length) {
    const entry = waiting.shift();
    entry.answer = await predict(entry.file).catch((error) => ({ error: reason(error) }));
    show(entry);
    tell();
    await new Promise((resolve) => setTimeout(resolve));
  }
  working = false;
}

function reason(error) {
  const unreadable = error.name === "InvalidStateError" || error.name === "EncodingError";
  return unreadable ? "this browser cannot read it as an image." : `${error.message}.`;
}

function show({ row: made, answer: given }) {
  const part = (name) => made.querySelector(name);
  if (given.error) {
    part(".label").className = "failed";
    part(".failed").textContent = `Could not be predicted: ${given.error}`;
    return;
  }
  write(given, part(".label"), part(".verdict"), part(".bars"));
}

function write(given, label, said, bars) {
  // Of an image unlike any that was taught, the class says little: it does not head the card.
  const unlike = given.verdict === "unlike";
  const name = given.shown ?? given.label;
  label.textContent = unlike ? VERDICTS.unlike : name;
  label.className = unlike ? "label unlike" : "label";
  said.textContent = unlike ? `nearest: ${name}` : (VERDICTS[given.verdict] ?? "");
  said.className = `verdict ${unlike ? "" : given.verdict}`;
  const sorted = classes.map((name, number) => [name, given.values[number]]).sort((one, other) => other[1] - one[1]);
  bars.replaceChildren(...barsOf(sorted));
}

/** A cell that no spreadsheet takes for a formula. */
function cell(value) {
  const text = String(value);
  const safe = /^'*[=+\-@\t\r]/.test(text) && !/^[+-]?[0-9]+([.,][0-9]+)?$/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function download() {
  const head = ["image", "label", "verdict", "probability", "distance", ...classes, "error"];
  const rows = entries.filter((entry) => entry.answer).map(({ name, answer: given }) =>
    given.error
      ? [name, "", "", "", "", ...classes.map(() => ""), given.error]
      : [name, given.label, given.verdict, given.probability, Number.isNaN(given.distance) ? "" : given.distance, ...given.values, ""]);
  const text = [head, ...rows].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function openCamera() {
  warn("");
  try {
    at("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    warn(`The camera cannot be used: ${error.message}.`);
    return;
  }
  at("camera-dialog").showModal();
  watch();
}

/** Predicts what the camera sees, again and again while it is open. */
async function watch() {
  while (at("camera-dialog").open) {
    if (!working && at("video").videoWidth) {
      working = true;
      try {
        write(await predict(at("video")), at("live-label"), at("live-verdict"), at("live-bars"));
      } catch (error) {
        at("live-label").textContent = reason(error);
      }
      working = false;
      work();
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function closeCamera() {
  at("video").srcObject?.getTracks().forEach((track) => track.stop());
  at("video").srcObject = null;
}

async function keep() {
  const video = at("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const name = `camera ${new Date().toISOString().slice(0, 19).replaceAll(":", ".")}.png`;
  if (blob) add([new File([blob], name, { type: "image/png" })]);
}

/** Predicts the images that the export predicted: largest difference of a probability, and of the mean of pixels. */
async function checkHere() {
  const found = { images: shipped.examples.length, probability: 0, levels: 0 };
  for (const example of shipped.examples) {
    const pixels = await tellapartPixels.read(new Blob([decoded(example.file)]), spec);
    const expected = decoded(example.pixels);
    const apart = Array.from(expected, (value, number) => Math.abs(value - pixels[number * example.step]));
    found.levels = Math.max(found.levels, apart.reduce((sum, value) => sum + value, 0) / expected.length);
    const { values } = await answer(pixels);
    values.forEach((value, number) => {
      found.probability = Math.max(found.probability, Math.abs(value - example.probabilities[number]));
    });
  }
  return { ...found, good: found.probability < TOLERANCE && found.levels < GREY_LEVELS };
}

function describeChecks(found) {
  const { words } = shipped;
  at("checked").textContent = words;
  if (!found) return;
  at("checked-here").textContent =
    `In this browser, from file to probability: ${found.images} test images differ from tellapart by at most ` +
    `${found.probability.toFixed(4)} in a probability (limit ${TOLERANCE}) and by ${found.levels.toFixed(1)} of 255 grey levels ` +
    `in the mean of their pixels (limit ${GREY_LEVELS}).`;
  at("checked-here").classList.toggle("wrong", !found.good);
  if (!found.good) warn("This browser does not give the predictions of tellapart: see below. Use another browser.");
}

async function begin() {
  at("about").textContent = several ? `Finds ${list(classes, 8)}: several on an image, or none.` : `Tells apart ${list(classes, 8)}.`;
  describeChecks(null);
  at("checked-here").textContent = "Loading the network …";
  try {
    session = await openModel();
    window.tellapartChecked = await checkHere();
  } catch (error) {
    session = null;
    at("checked-here").textContent = "";
    warn(`The network cannot be loaded: ${error.message}. ${tellapartRuntime.files ? "" : "It needs the internet once."}`);
    return;
  }
  describeChecks(window.tellapartChecked);
  at("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  work();
}

at("choose").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", () => {
  add(at("files").files);
  at("files").value = "";
});
at("download").addEventListener("click", download);
at("clear").addEventListener("click", () => {
  entries.length = 0;
  waiting.length = 0;
  at("list").replaceChildren();
  tell();
  at("choose").focus();
});
at("camera").addEventListener("click", openCamera);
at("camera-dialog").addEventListener("close", closeCamera);
at("camera-close").addEventListener("click", () => at("camera-dialog").close());
at("shoot").addEventListener("click", keep);

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
