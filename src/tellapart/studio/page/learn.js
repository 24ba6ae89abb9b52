// "Train again": starts `tellapart train` with the corrections, and shows how far it is and what came of it.

import { $, ask, counted, make } from "./studio.js";

export function learn(state, changed) {
  const { all, test = 0 } = state.corrections;
  const added = state.feedback?.added ?? 0;
  $("learn").hidden = all + added === 0 && !state.training;
  const running = state.training?.state === "running";
  const taken = [...(all || !added ? [counted(all, "correction")] : []), ...(added ? [`${counted(added, "image")} of visitors`] : [])];
  $("train").textContent = `${state.run ? "Train again" : "Train"} with ${taken.join(" and ")}`;
  $("train").disabled = running || all + added === 0;
  $("stop").hidden = !running;
  const done = { relabel: "relabelled", drop: "dropped", regroup: "kept together" };
  const parts = Object.keys(done).filter((name) => state.corrections[name]).map((name) => `${state.corrections[name]} ${done[name]}`);
  const apart = test && state.run
    ? ` ${counted(test, "correction")} of test images: these do not count in the comparison, as the runs differ on their truth.`
    : "";
  const own = all ? [`${parts.join(", ")}. Kept in `, make("code", { text: state.file }), `.${apart} `] : [];
  const more = added
    ? [`${counted(added, "image")} of visitors, for training alone: the test images stay the same. Kept in `, make("code", { text: state.feedback.file }), "."]
    : [];
  $("corrections").replaceChildren(...own, ...more);
  tell(state.training);
  $("train").onclick = () => ask("/v1/train", {}).then(changed).catch(changed);
  $("stop").onclick = () => ask("/v1/train", { stop: true }).then(changed).catch(changed);
}

export function tell(training) {
  $("lines").hidden = $("result").hidden = true;
  $("training").textContent = "";
  if (!training) return;
  const words = { running: "Training", done: "Trained", failed: "The training failed", stopped: "Stopped" };
  $("training").textContent = `${words[training.state]}, ${training.seconds} s. Run: ${training.run}`;
  const lines = training.lines.join("\n");
  $("lines").hidden = !lines || training.state === "done";
  if ($("lines").textContent !== lines) {
    $("lines").textContent = lines;
    $("lines").scrollTop = $("lines").scrollHeight;
  }
  const { verdict, before, after, images, notes = [] } = training.result;
  if (training.state !== "done") return;
  $("result").hidden = false;
  const rows = before
    ? make("table", {}, make("caption", { text: `Accuracy on the same ${counted(images, "test image")}` }),
        make("tbody", {}, row("before", before), row("after", after)))
    : null;
  const list = make("ul", {}, ...notes.map((note) => make("li", { text: note })));
  const next = make("p", {}, "Look at the new run: ", make("code", { text: `tellapart studio ${training.run}` }));
  const parts = [verdict ? make("p", { class: "verdict-line", text: verdict }) : null, rows, notes.length ? list : null, next];
  $("result").replaceChildren(...parts.filter(Boolean));
}

const row = (name, value) => make("tr", {}, make("th", { scope: "row", text: name }), make("td", { text: value }));
