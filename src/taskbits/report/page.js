"use strict";

// One program is shown at a time; without this script, and in print, all are.
const programs = [...document.querySelectorAll(".program")];
const points = [...document.querySelectorAll(".point")];

function choose(hash) {
  if (!programs.some((program) => "#" + program.id === hash)) return;
  for (const program of programs) program.classList.toggle("away", "#" + program.id !== hash);
  for (const point of points) {
    const chosen = point.getAttribute("href") === hash;
    point.classList.toggle("chosen", chosen);
    if (chosen) point.setAttribute("aria-current", "true");
    else point.removeAttribute("aria-current");
  }
}

const best = document.querySelector(".program.best");
if (best) choose("#" + best.id);
choose(location.hash);
addEventListener("hashchange", () => choose(location.hash));
for (const point of points) {
  const show = () => choose(point.getAttribute("href"));
  point.addEventListener("focus", show);
  point.addEventListener("click", (event) => {
    event.preventDefault(); // The chart stays in view: its panel is right below.
    show();
  });
}

const boxes = [...document.querySelectorAll("[name=family]")];

// The style sheet hides the families that aren't ticked; if the program shown is one of theirs, the best other is.
for (const box of boxes) {
  box.addEventListener("change", () => {
    const ticked = boxes.filter((other) => other.checked).map((other) => other.value);
    const left = programs.filter((program) => ticked.includes(program.dataset.family));
    if (left.length && !left.some((program) => !program.classList.contains("away"))) choose("#" + left.at(-1).id);
  });
}

const tip = document.getElementById("tip");

function explain(event) {
  const mark = event.target.closest("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const box = (mark.querySelector(".target") || mark).getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = scrollX + Math.max(8, left) + "px";
  tip.style.top = scrollY + box.top - tip.offsetHeight - 6 + "px";
}

for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, explain);
document.addEventListener("focusout", () => { tip.hidden = true; });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

const value = (row, column) => {
  const cell = row.cells[column];
  const number = cell.dataset.v;
  return number === undefined ? cell.textContent : number === "" ? -Infinity : Number(number);
};

for (const head of document.querySelectorAll(".sortable th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const falling = head.ariaSort === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const sign = falling ? -1 : 1;
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [value(a, head.cellIndex), value(b, head.cellIndex)];
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    }));
  });
}

const save = document.getElementById("save");
const numbers = document.getElementById("numbers").textContent;
save.href = URL.createObjectURL(new Blob([numbers], { type: "application/json" }));
save.hidden = false;
