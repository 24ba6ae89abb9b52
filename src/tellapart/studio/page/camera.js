// Camera: frames are collected while a button is held, and a network says what it sees. Nothing leaves this machine:
// frames go to the studio, and what the camera sees is shown by the browser alone.

import { $, alertWith, ask, bar, counted, fill, make } from "./studio.js";
import { tell } from "./learn.js";

const EVERY = 150; // milliseconds between frames that are collected
const LOOK = 250; // and between the looks of the network
const SIDE = 640;
const KEYS = 9;
const VERDICTS = { sure: "sure", unsure: "unsure", unlike: "unlike what it was trained on", "": "" };

const video = $("video");
const canvas = document.createElement("canvas");
let state = null;
let added = []; // classes without a frame
let held = null; // {label, take, count} while frames are collected
let seen = -1; // version of the frames that are listed
let last = null; // the frame that was looked at, and its label

class Refused extends Error {}

async function send(path, frame) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { "content-type": "image/jpeg" }, body: frame });
  } catch {
    throw new Refused("The studio does not answer. Is it still running in its terminal?");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(told.error ?? `The studio answers ${answer.status}.`);
  return told;
}

// What the camera sees now, as a JPEG; null before there is anything.
function shot() {
  const longest = Math.max(video.videoWidth, video.videoHeight);
  if (!longest) return Promise.resolve(null);
  const scale = Math.min(1, SIDE / longest);
  [canvas.width, canvas.height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
}

function rows() {
  const known = new Set(state.classes.map((one) => one.name));
  return [...state.classes, ...added.filter((name) => !known.has(name)).map((name) => ({ name, shown: name, count: 0 }))];
}

function draw() {
  $("about").textContent = `Frames in ${state.folder}`;
  if (state.problem) alertWith(state.problem);
  const list = rows();
  const there = [...$("likely").children].map((item) => item.dataset.label).join("\n");
  if (there !== list.map((one) => one.name).join("\n")) {
    $("likely").replaceChildren(...list.map(holder));
    fill($("truth"), list.map((one) => [one.name, one.shown]), $("truth").value);
  }
  list.forEach((one, at) => {
    $("likely").children[at].querySelector(".figure").textContent = counted(one.count, "frame");
  });
  const running = state.training?.state === "running";
  const ready = list.filter((one) => one.count).length > 1;
  $("train").textContent = state.run ? "Train again" : "Train";
  $("train").disabled = running || !ready;
  $("stop").hidden = !running;
  $("learn").hidden = !ready;
  $("corrections").replaceChildren("Train with: ", make("code", { text: state.command }));
  tell(state.training);
  $("live").hidden = !state.run;
}

function holder(one, index) {
  const button = make("button", { type: "button", "data-label": one.name },
    ...bar(one.shown, null, ...(index < KEYS ? [make("kbd", { text: index + 1 }), " "] : [])));
  button.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    hold(one.name);
  });
  for (const name of ["pointerup", "pointercancel"]) button.addEventListener(name, release);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if ((event.key === " " || event.key === "Enter") && !event.repeat) hold(one.name);
    if (event.key === " " || event.key === "Enter") event.preventDefault();
  });
  button.addEventListener("keyup", (event) => (event.key === " " || event.key === "Enter") && release());
  button.addEventListener("blur", release);
  return make("li", { "data-label": one.name }, button);
}

async function hold(label) {
  if (held) return;
  const mine = { label, take: Date.now(), count: 0 };
  held = mine;
  while (held === mine) {
    const began = performance.now();
    try {
      const frame = await shot();
      if (frame) {
        await send(`/v1/frames?${new URLSearchParams({ label, take: mine.take })}`, frame);
        mine.count += 1;
        $("collecting").textContent = `${counted(mine.count, "frame")} of ${label}`;
        const row = state.classes.find((one) => one.name === label);
        if (row) row.count += 1;
        else state.classes.push({ name: label, shown: label, count: 1 });
        draw();
      }
    } catch (problem) {
      alertWith(problem.message);
      held = null;
    }
    await new Promise((done) => setTimeout(done, Math.max(0, EVERY - (performance.now() - began))));
  }
}

function release() {
  if (!held) return;
  held = null;
  load();
}

async function load() {
  try {
    state = await ask("/v1/state");
    draw();
    if (state.written !== seen) list(await ask("/v1/frames"));
  } catch (problem) {
    alertWith(problem.message);
  }
}

// The frames of this session, a row for each take. Images that are there already are kept.
function list({ version, frames, undo }) {
  seen = version;
  $("session").hidden = !frames.length && !undo;
  $("undo").disabled = !undo;
  const takes = Map.groupBy(frames, (frame) => `${frame.take} ${frame.label}`);
  const old = new Map([...$("takes").querySelectorAll("li")].map((item) => [item.dataset.frame, item]));
  const focused = document.activeElement?.closest("li[data-frame]");
  const next = [focused, focused?.nextElementSibling, focused?.previousElementSibling].map((item) => item?.dataset.frame);
  $("takes").replaceChildren(...[...takes.values()].map((take) => {
    const { label } = take[0];
    const all = make("button", { type: "button", text: "Remove all of these", "aria-label": `Remove all of these frames of ${label}` });
    all.addEventListener("click", () => remove(take));
    const items = take.map((frame, index) => old.get(String(frame.id)) ?? single(frame, index + 1));
    return make("div", { class: "take" },
      make("div", { class: "bar" }, make("h3", { text: `${label}, ${counted(take.length, "frame")}` }), all),
      make("ul", { class: "strip frames", role: "list" }, ...items));
  }));
  if (focused) {
    const item = next.map((id) => id && $("takes").querySelector(`li[data-frame="${id}"]`)).find(Boolean);
    (item?.querySelector("button") ?? $("undo")).focus();
  }
}

function single(frame, number) {
  const image = make("img", { src: `/frames/${frame.id}/${frame.digest}`, alt: "", decoding: "async" });
  const button = make("button", { type: "button", "aria-label": `Remove frame ${number} of ${frame.label}` }, image);
  button.addEventListener("click", () => remove([frame]));
  return make("li", { "data-frame": frame.id }, button);
}

const remove = (frames) => change("/v1/remove", { frames: frames.map((frame) => frame.id) }, "removed");
const undo = () => change("/v1/restore", {}, "there again");

async function change(path, body, word) {
  try {
    const { count } = await ask(path, body);
    $("removed").textContent = count ? `${counted(count, "frame")} ${word}.` : "";
    alertWith("");
  } catch (problem) {
    alertWith(problem.message);
  }
  await load();
}

// Looks all the time, one frame after the other, while there is a network and no frames are collected.
async function live() {
  for (;;) {
    if (state?.run && !held && document.visibilityState === "visible") {
      try {
        const frame = await shot();
        if (frame) {
          const told = await send("/v1/look", frame);
          last = { frame, label: told.label };
          $("said").textContent = `${told.label}, ${told.words}${told.verdict ? `: ${VERDICTS[told.verdict]}` : ""}`;
          $("bars").replaceChildren(...told.likely.map(([label, share]) => make("li", {}, ...bar(label, share))));
          $("right").disabled = $("wrong").disabled = false;
        }
      } catch (problem) {
        alertWith(problem.message);
        await new Promise((done) => setTimeout(done, 2000));
      }
    }
    await new Promise((done) => setTimeout(done, LOOK));
  }
}

async function keep(label) {
  if (!last) return;
  const { frame } = last;
  try {
    await send(`/v1/frames?${new URLSearchParams({ label, take: Date.now() })}`, frame);
    $("kept").textContent = `Kept as ${label}. The next training learns from it.`;
    await load();
  } catch (problem) {
    alertWith(problem.message);
  }
}

async function train(body) {
  try {
    state = await ask("/v1/train", body);
    alertWith("");
    draw();
  } catch (problem) {
    alertWith(problem.message);
  }
}

$("right").addEventListener("click", () => keep(last.label));
$("wrong").addEventListener("click", () => keep($("truth").value));
$("train").addEventListener("click", () => train({}));
$("stop").addEventListener("click", () => train({ stop: true }));
$("new-class").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (!name || rows().some((one) => one.name === name)) return;
  added.push(name);
  $("name").value = "";
  $("name").blur();
  draw();
});

$("undo").addEventListener("click", undo);

const ofKey = (event) => (/^[1-9]$/.test(event.key) && state && !event.target.matches("input, select, textarea") ? rows()[event.key - 1] : undefined);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() === "u" && !event.target.matches("input, select, textarea") && !$("undo").disabled) undo();
  const one = ofKey(event);
  if (!one) return;
  event.preventDefault();
  if (!event.repeat) hold(one.name);
});
document.addEventListener("keyup", (event) => ofKey(event) && release());
addEventListener("blur", release);

setInterval(() => state?.training?.state === "running" && load(), 1000);

await load();
try {
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: SIDE } }, audio: false });
  await video.play();
} catch (problem) {
  alertWith(`The camera cannot be used: ${problem.message}. Allow it for this page in the browser, and load the page again.`);
}
live();
