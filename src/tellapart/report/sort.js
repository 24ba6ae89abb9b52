// Without script a page is whole, in its most useful order. With it, each heading of these tables sorts.
for (const table of document.querySelectorAll("table.sorts")) {
  for (const th of table.querySelectorAll("thead th:not(.fixed)")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.textContent;
    th.replaceChildren(button);
    button.addEventListener("click", () => {
      const column = th.cellIndex, key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const body = table.tBodies[0], rows = [...body.rows];
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
}
