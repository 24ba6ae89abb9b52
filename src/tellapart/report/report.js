// Cells of a drawn matrix: what they hold stands below it, also for a finger, and a press opens their images.
for (const matrix of document.querySelectorAll("svg.matrix")) {
  const told = matrix.closest(".card").querySelector(".readout");
  matrix.addEventListener("pointerover", event => {
    const cell = event.target.closest(".told");
    if (cell && told) told.textContent = cell.querySelector("title").textContent;
  });
  matrix.addEventListener("click", event => {
    const cell = event.target.closest(".told");
    if (cell) document.getElementById(`cell-${cell.dataset.cell}`)?.showPopover();
  });
}
