/* Elements of the page: text, bars and tables. */

import { extent, row } from "./numbers.js";
import { signed } from "./words.js";

/** @import { Matrix } from "./numbers.js" */

/**
 * Rows of text, the head's cells first; a row's first cell names it.
 * @typedef {{head: string[], rows: string[][]}} Table
 *
 * `from`, `to` and `ghost` are shares of the width; `ghost` is marked by a line.
 * @typedef {object} Bar
 * @property {string | Node} name
 * @property {number} [from]
 * @property {number} to
 * @property {string} text
 * @property {string} [role]
 * @property {boolean} [marked]
 * @property {number | null} [ghost]
 */

/** A new element with properties and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties).append(...children);
  return element;
}

/** @param {string} id */
export function find(id) {
  return findKind(HTMLElement, id);
}

/** @template {HTMLElement} E @param {new () => E} kind @param {string} id */
export function findKind(kind, id) {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`the page has no ${kind.name} ${id}`);
}

/** Lead the reader, and the keyboard's focus, to an element.
 * @param {string} id
 */
export function goTo(id) {
  find(id).focus({ preventScroll: true });
  find(id).scrollIntoView();
}

/** Text in the colour of a role: query, key, value or output.
 * @param {string} role
 * @param {string} text
 */
export function inRole(role, text) {
  return el("b", { className: role, textContent: text });
}

/** @param {string} text */
export function note(text) {
  return el("p", { className: "note", textContent: text });
}

/** Put new children into `parent`; of their tables, those stay open that were.
 * @param {Element} parent
 * @param {Node[]} children
 */
export function refill(parent, children) {
  const open = Array.from(parent.querySelectorAll("details"), (details) => details.open);
  parent.replaceChildren(...children);
  parent.querySelectorAll("details").forEach((details, n) => {
    details.open = open[n] ?? false;
  });
}

// --- bars --------------------------------------------------------------------------------------

/** @param {Bar[]} bars */
export function barRows(bars) {
  return el("ul", { className: "bars" }, ...bars.map(barRow));
}

/** @param {Bar} bar */
function barRow({ name, from = 0, to, text, role = "ink", marked = false, ghost = null }) {
  const bar = el("span", { className: `bar ${role}` });
  bar.style.left = `${100 * Math.min(from, to)}%`;
  bar.style.width = `${100 * Math.abs(to - from)}%`;
  const track = el("span", { className: "track" }, bar);
  if (ghost !== null) {
    const before = el("span", { className: "ghost" });
    before.style.left = `${100 * ghost}%`;
    track.append(before);
  }
  const line = el(
    "li",
    {},
    el("span", { className: "name" }, name),
    track,
    el("span", { className: "amount", textContent: text }),
  );
  if (marked) line.className = "marked";
  return line;
}

/** Bars of numbers of both signs around a common zero.
 * @param {{name: string | Node, score: number, role?: string}[]} parts
 * @param {string} [role]
 */
export function signedRows(parts, role) {
  const [low, high] = extent([0, ...parts.map((part) => part.score)]);
  const whole = high - low || 1;
  const from = -low / whole;
  return barRows(
    parts.map(({ name, score, role: own }) => ({
      name,
      from,
      to: from + score / whole,
      text: signed(score),
      role: own ?? role,
    })),
  );
}

// --- tables ------------------------------------------------------------------------------------

/** A table that is made when it is opened: the numbers of a picture.
 * @param {string} summary
 * @param {() => Table} make
 */
export function numbersTable(summary, make) {
  const caption = el("summary", { textContent: summary });
  const details = el("details", { className: "numbers-table" }, caption);
  const refresh = () => {
    if (!details.open) return;
    const { head, rows } = make();
    const table = tableOf(head, rows.map(tableRow));
    table.prepend(el("caption", { textContent: summary }));
    details.replaceChildren(caption, scrollBox(summary, table));
  };
  details.addEventListener("toggle", refresh);
  return Object.assign(details, { refresh });
}

/** @param {string[]} head @param {HTMLTableRowElement[]} rows */
export function tableOf(head, rows) {
  return el("table", {}, el("thead", {}, headRow(head)), el("tbody", {}, ...rows));
}

/** A box that the keyboard can scroll.
 * @param {string} ariaLabel
 * @param {Node[]} children
 */
export function scrollBox(ariaLabel, ...children) {
  return el("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel }, ...children);
}

/** @param {string[]} cells */
function headRow(cells) {
  return el("tr", {}, ...cells.map((textContent) => el("th", { textContent, scope: "col" })));
}

/** @param {string[]} cells  the first is the row's name */
function tableRow([name, ...cells]) {
  return el(
    "tr",
    {},
    el("th", { textContent: name, scope: "row" }),
    ...cells.map((textContent) => el("td", { textContent })),
  );
}

/** The rows of a table that shows a matrix: a name, then the row's numbers.
 * @param {string[]} names
 * @param {Matrix} values
 * @param {(value: number) => string} write
 */
export function matrixRows(names, values, write) {
  const width = values.length / names.length;
  return names.map((name, i) => [
    name,
    ...Array.from(row(values, i, width), (value) => write(value)),
  ]);
}
