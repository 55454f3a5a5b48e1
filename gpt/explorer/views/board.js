/* Tables of numbers of which each is one stop of the tab key: arrows move among its numbers. */

import { el } from "../html.js";
import { range } from "../numbers.js";

/** @import { LessonTable } from "../lesson.js" */

const MOST = 99; // of a number that is typed
const NUDGE = 0.1; // by the page keys

/**
 * @typedef {object} Board
 * @property {HTMLTableElement} table
 * @property {HTMLTableCellElement[]} cells  row after row
 * @property {HTMLInputElement[]} inputs  the same, where the reader may change the numbers
 * @property {number} width
 *
 * How fields read and change the numbers that they stand for, and say what is no number.
 * @typedef {object} Fields
 * @property {(n: number) => number} valueAt
 * @property {(n: number, value: number) => void} change
 * @property {(problem: string) => void} complain
 */

const PAIRS = "row: query, column: key"; // in a title; the corner of the table says it

/** @param {LessonTable} data @param {boolean} editable @returns {Board} */
export function boardOf({ title, role, columns, rows }, editable) {
  const width = columns.length;
  const cells = range(rows.length * width).map(() => el("td"));
  const [name, ...rest] = title.split(/ {2}|; /);
  const pairs = rest.includes(PAIRS);
  const inputs = cells.flatMap((cell, n) => {
    if (!editable) return [];
    const ariaLabel = `${name}: ${rows[Math.floor(n / width)]}, number ${columns[n % width]}`;
    const input = el("input", { type: "text", autocomplete: "off", ariaLabel });
    cell.append(input);
    return [input];
  });
  const table = el(
    "table",
    {},
    el(
      "caption",
      {},
      el("b", { textContent: name }),
      " ",
      el("small", { textContent: rest.filter((part) => part !== PAIRS).join("; ") }),
    ),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("td", {}, ...(pairs ? corner() : [])),
        ...columns.map((column) => headCell(column, "col")),
      ),
    ),
    el(
      "tbody",
      {},
      ...rows.map((line, i) =>
        el("tr", {}, headCell(line, "row"), ...cells.slice(i * width, (i + 1) * width)),
      ),
    ),
  );
  table.dataset.role = role;
  if (editable) letOneStop(inputs, 0);
  return { table, cells, inputs, width };
}

function corner() {
  return [
    el("span", { className: "query", textContent: "query" }),
    " \\ ",
    el("span", { className: "key", textContent: "key" }),
  ];
}

/** "child 2", of which a narrow page shows the number alone.
 * @param {string} name
 * @param {string} scope
 */
function headCell(name, scope) {
  const [word, count] = name.split(" ");
  const texts = count ? [el("span", { textContent: `${word} ` }), count] : [word];
  return el("th", { scope }, ...texts);
}

/** Let the tab key stop at one of these elements; `first` is its place, null: at none.
 * @param {HTMLElement[]} stops
 * @param {number | null} first
 */
export function letOneStop(stops, first) {
  stops.forEach((stop, n) => {
    if (first === null) stop.removeAttribute("tabindex");
    else stop.tabIndex = n === first ? 0 : -1;
  });
}

/** The place that a key moves to from place `n` of a table.
 * @param {string} key
 * @param {number} n
 * @param {number} width
 * @param {number} count
 */
function placeAfter(key, n, width, count) {
  const first = n - (n % width);
  switch (key) {
    case "ArrowLeft":
      return Math.max(n - 1, first);
    case "ArrowRight":
      return Math.min(n + 1, first + width - 1);
    case "ArrowUp":
      return n < width ? n : n - width;
    case "ArrowDown":
      return n + width < count ? n + width : n;
    case "Home":
      return first;
    case "End":
      return first + width - 1;
    default:
      return null;
  }
}

/** Arrows, home and end move among `stops`.
 * @param {HTMLElement[]} stops
 * @param {number} width
 */
export function moveAmong(stops, width) {
  stops.forEach((stop, n) => {
    stop.addEventListener("focus", () => {
      letOneStop(stops, n);
      if (stop instanceof HTMLInputElement) stop.select();
    });
    stop.addEventListener("keydown", (event) => {
      const to = placeAfter(event.key, n, width, stops.length);
      if (to === null || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      event.preventDefault();
      stops[to].focus();
    });
  });
}

/** Let the reader type other numbers, or turn them up and down. While one is typed, it has
 * `data-typed`: its text is the reader's.
 * @param {Board} board
 * @param {Fields} fields
 */
export function letType({ inputs, width }, { valueAt, change, complain }) {
  moveAmong(inputs, width);
  inputs.forEach((input, n) => {
    const judge = (/** @type {boolean} */ right) => {
      input.ariaInvalid = String(!right);
      complain(right ? "" : `type a number from −${MOST} to ${MOST}`);
    };
    const settle = (/** @type {number} */ value) => {
      delete input.dataset.typed;
      judge(true);
      change(n, value);
    };
    input.addEventListener("input", () => {
      input.dataset.typed = "";
      const value = numberIn(input.value);
      judge(value !== null);
      if (value !== null) change(n, value);
    });
    input.addEventListener("blur", () => settle(valueAt(n)));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "PageUp" && event.key !== "PageDown") return;
      event.preventDefault();
      const value = valueAt(n) + (event.key === "PageUp" ? NUDGE : -NUDGE);
      settle(Math.min(Math.max(value, -MOST), MOST));
      input.select();
    });
  });
}

/** @param {string} text */
function numberIn(text) {
  const value = Number(text.trim().replace("−", "-").replace(",", ".") || NaN);
  return Math.abs(value) <= MOST ? value : null;
}
