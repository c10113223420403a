"use strict";
// A click on a heading sorts its column: numbers from the largest on, words from A on, and the other way round next.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    if (heads[column].classList.contains("t")) return cell.textContent;
    return cell.dataset.v === undefined ? -Infinity : Number(cell.dataset.v);
  };
  heads.forEach((head, column) => {
    const words = head.classList.contains("t");
    head.firstElementChild.addEventListener("click", () => {
      const current = head.getAttribute("aria-sort");
      const descending = current === null ? !words : current === "ascending";
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) => (words ? a.localeCompare(b, undefined, { numeric: true }) : a === b ? 0 : a < b ? -1 : 1));
      if (descending) rows.reverse();
      body.append(...rows.map(([, row]) => row));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  });
}
// A line above a table that is wider than the window says so.
for (const box of document.querySelectorAll(".scroll")) {
  const observer = new ResizeObserver(() => (box.previousElementSibling.hidden = box.scrollWidth <= box.clientWidth));
  observer.observe(box);
}
