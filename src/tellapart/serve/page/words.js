// What all pages say in the same way: that of `serve`, the studio's, and the page of an export. A script and no module, as
// a page that is opened from a disk may not import one.

"use strict";

const tellapartWords = (() => {
  const BARS = 5;
  const VERDICTS = { sure: "sure", unsure: "not sure", unlike: "Unlike anything it was taught" };

  /** Never says that something is certain, or impossible, because of rounding. */
  function percent(share) {
    const figure = (100 * share).toFixed(1);
    return { "100.0": "> 99.9 %", "0.0": "< 0.1 %" }[figure] ?? `${figure} %`;
  }

  /** The first names in a sentence, and how many more there are. */
  function list(names, most) {
    const shown = names.slice(0, most);
    const rest = names.length - shown.length;
    if (rest) return `${shown.join(", ")} and ${rest} more`;
    return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown.join("");
  }

  function warn(message) {
    const alert = document.getElementById("alert");
    alert.textContent = message;
    alert.hidden = !message;
  }

  /** Items of a list: the likeliest of [class, probability] as bars, and how many more there are. */
  function bars(sorted) {
    const items = sorted.slice(0, BARS).map(([name, share]) => {
      const item = document.createElement("li");
      const [fill, words, figure] = ["fill", "", "figure"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
      fill.style.width = `${100 * share}%`;
      words.dir = "auto";
      words.textContent = name;
      figure.textContent = percent(share);
      item.append(fill, words, figure);
      return item;
    });
    const rest = sorted.length - BARS;
    if (rest > 0) items.push(Object.assign(document.createElement("li"), { className: "rest", textContent: `and ${rest} less likely` }));
    return items;
  }

  return { VERDICTS, bars, list, percent, warn };
})();
