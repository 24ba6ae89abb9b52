// Two runs that are ticked: the command that compares them, to copy.
const chosen = document.querySelector(".chosen"), ticks = [];
for (const row of document.querySelectorAll("#runs tr[data-run]")) {
  const tick = document.createElement("input");
  tick.type = "checkbox";
  tick.value = row.dataset.run;
  tick.ariaLabel = `Compare ${row.cells[0].dataset.sort}`;
  tick.addEventListener("change", tell);
  row.cells[0].prepend(tick);
  ticks.push(tick);
}
function tell() {
  const runs = ticks.filter(tick => tick.checked).map(tick => tick.value);
  chosen.replaceChildren(runs.length === 1 ? "Tick another run to compare it with." : "");
  if (runs.length < 2) return;
  const code = document.createElement("code"), copy = document.createElement("button");
  code.textContent = `tellapart compare ${runs.join(" ")} --out comparison`;
  copy.type = "button";
  copy.textContent = "Copy";
  copy.addEventListener("click", () => navigator.clipboard.writeText(code.textContent).then(
    () => { copy.textContent = "Copied"; },
    () => getSelection().selectAllChildren(code),
  ));
  chosen.append("They are compared by ", code, copy);
}
