// What both pages share: asking the studio, and making elements. Text is always set as text.

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// Where a page asks: what visitors said has questions of its own, below its address.
export const place = location.pathname.startsWith("/feedback/") ? "/feedback" : "";

// The answer to a question as JSON; with a body it is a POST.
export async function ask(path, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(place + path, body === undefined ? {} : options);
  } catch {
    throw new Problem("The studio does not answer. Is it still running in its terminal?", 0);
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(told.error ?? `The studio answers ${answer.status}.`, answer.status);
  return told;
}

export const alertWith = tellapartWords.warn;
export const $ = (id) => document.getElementById(id);

// make("button", {class: "first", text: "Keep", onclick: f}, child ...)
export function make(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("aria-")) made.setAttribute(name, value);
    else if (value === false) continue;
    else if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A list of choices in a <select>: [value, words] each.
export function fill(select, rows, chosen) {
  select.replaceChildren(...rows.map(([value, words]) => make("option", { value, text: words })));
  select.value = chosen ?? "";
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const pixels = (image, side) => `${place}/pixels/${image.id}/${side}/${image.digest || "0"}`;

// An <img> that says what is missing where it cannot be shown.
export function shown(image, side, alt) {
  const made = make("img", { src: pixels(image, side), alt, decoding: "async" });
  if (Math.max(image.width, image.height) <= 64) made.classList.add("tiny");
  made.addEventListener("error", () => {
    made.replaceWith(make("span", { class: "gone", text: "This image cannot be read any more." }));
  });
  return made;
}

// A class with its probability as a bar; given: what stands before it.
export function bar(label, share, ...before) {
  const fillOf = make("span", { class: "fill" });
  if (share !== null && share !== undefined) fillOf.style.width = `${100 * share}%`;
  const figure = share === null || share === undefined ? "" : tellapartWords.percent(share);
  return [fillOf, make("span", { class: "label-name" }, ...before, label), make("span", { class: "figure", text: figure })];
}
