// Without script the page is whole: the newest run first. With it, each heading sorts.
for (const th of document.querySelectorAll("#runs thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = th.textContent;
  th.replaceChildren(button);
  button.addEventListener("click", () => {
    const column = th.cellIndex, key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const body = document.querySelector("#runs tbody"), rows = [...body.rows];
    const numbers = rows.every(row => key(row) !== "" && !isNaN(key(row)));
    const first = numbers ? "descending" : "ascending", other = numbers ? "ascending" : "descending";
    const order = th.getAttribute("aria-sort") === first ? other : first;
    for (const each of th.parentNode.cells) each.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    rows.sort((a, b) => sign * (numbers ? key(a) - key(b) : key(a).localeCompare(key(b), "en", {numeric: true})));
    body.append(...rows);
  });
}
