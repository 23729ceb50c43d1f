// A table of class "stacked" is a list of cards on a phone (claimbook.css). There its heads are hidden, so that each
// cell says itself which column it is of; the first names the card, and needs no label.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.stacked")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    for (const row of table.tBodies[0].rows)
      [...row.cells].slice(1).forEach((cell, i) => { if (heads.length > 2) cell.dataset.label = heads[i + 1]; });
  }
});
