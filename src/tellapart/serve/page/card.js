// The card of one image: its answer, its probabilities, and the heat map over it.

const { VERDICTS, bars } = tellapartWords;
// Inferno, from dark to bright: rises in lightness evenly, and is told apart by eyes of every kind.
const COLOURS = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];

export function makeCard(file, name) {
  const made = document.getElementById("row").content.firstElementChild.cloneNode(true);
  made.querySelector(".name").textContent = name;
  made.querySelector(".name").title = name;
  made.querySelector(".remove").ariaLabel = `Remove ${name}`;
  made.querySelector(".again").ariaLabel = `Try ${name} again`;
  const image = made.querySelector("img");
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  // A format that this browser cannot show is still predicted.
  image.addEventListener("error", () => {
    const told = document.createElement("span");
    told.className = "no-preview";
    told.textContent = `${kindOf(name)}: this browser shows no preview`;
    image.replaceWith(told);
  }, { once: true });
  image.src = URL.createObjectURL(file);
  return made;
}

function kindOf(name) {
  const suffix = name.split(".").at(-1);
  return suffix !== name && suffix.length <= 5 ? suffix.toUpperCase() : "This file";
}

export function fillCard(card, name, run, answer) {
  const part = (selector) => card.querySelector(selector);
  part(".label").className = "label";
  part(".verdict").className = "verdict";
  part(".verdict").textContent = "";
  part(".by").textContent = "";
  part(".bars").replaceChildren();
  part(".again").hidden = !answer?.error;
  if (!answer || answer.error) {
    part(".label").textContent = answer ? `Could not be predicted: ${answer.error}` : "…";
    part(".label").classList.toggle("failed", Boolean(answer));
    return;
  }
  // Of an image unlike any that was taught, the class says little: it does not head the card.
  const unlike = answer.verdict === "unlike";
  const label = answer.labels ? answer.labels.join(", ") || "none of the labels" : answer.label;
  part(".label").textContent = unlike ? VERDICTS.unlike : label;
  part(".label").classList.toggle("unlike", unlike);
  part(".verdict").textContent = unlike ? `nearest: ${label}` : (VERDICTS[answer.verdict] ?? "");
  part(".verdict").classList.toggle(unlike ? "none" : answer.verdict || "none", true);
  part(".by").textContent = `by ${run}`;
  const sorted = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  part(".bars").replaceChildren(...bars(sorted));
  const button = part(".image");
  button.disabled = false;
  button.setAttribute("aria-label", `What speaks for ${sorted[0][0]} in ${name}`);
}

export async function paint(canvas, heat) {
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
