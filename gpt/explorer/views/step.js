/* One of the steps of view 7 as an element: a statement of model.py, words, and rows of numbers. */

import { app } from "../app.js";
import { drawStrip, valuePixels } from "../draw.js";
import { el, find, inRole, matrixRows, numbersTable } from "../html.js";
import { largestSize, lengthOf, range } from "../numbers.js";
import { number } from "../words.js";

/** @import { Matrix } from "../numbers.js" */

/**
 * @typedef {{name: string, values: Matrix, role: string, note?: string}} Strip
 * @typedef {{name: string, values: Matrix, role: string}} Picture
 *
 * One step; `line` names a statement of model.py, `shape` is that of its result.
 * @typedef {object} Step
 * @property {string} title
 * @property {string} line
 * @property {string} shape
 * @property {(Node | string)[]} words
 * @property {Strip[]} strips
 * @property {boolean} [oneScale]  are all strips drawn to one scale, or each to its own?
 * @property {Picture[]} [matrices]  (D, C)
 */

/** @param {string} name @param {Matrix} values @param {string} role @returns {Strip} */
export function strip(name, values, role) {
  return { name, values, role };
}

/** @param {Strip} one */
export function withLength(one) {
  return { ...one, note: `length ${number(lengthOf(one.values))}` };
}

/** @param {Step} step */
export function stepElement({ title, line, shape, words, strips, oneScale, matrices = [] }) {
  const { number: at, text } = app.data.lines[line];
  const source = el(
    "p",
    { className: "source-line" },
    el("span", { textContent: `model.py:${at}` }),
    el("code", { textContent: text }),
    el("span", { textContent: shape }),
  );
  const item = el("li", {}, el("h3", { textContent: title }), source, el("p", {}, ...words));
  const most = oneScale ? Math.max(...strips.map(({ values }) => largestSize(values))) : undefined;
  item.append(...strips.map((one) => stripElement(one, most)));
  if (matrices.length)
    item.append(el("div", { className: "matrices" }, ...matrices.map(matrixElement)));
  item.append(numbersTable("the numbers", () => stripsTable(strips)));
  return item;
}

/** @param {Strip[]} strips */
function stripsTable(strips) {
  const longest = Math.max(...strips.map(({ values }) => values.length));
  return {
    head: ["", ...range(longest).map((d) => String(d + 1))],
    rows: strips.map(({ name, values }) => [
      name,
      ...Array.from(values, (value) => number(value, 3)),
    ]),
  };
}

/** @param {Strip} strip @param {number} [most]  a number of this size fills the height */
function stripElement({ name, values, role, note = "" }, most) {
  const canvas = el("canvas", { ariaHidden: "true" });
  const width = Math.min(384, find("steps-content").clientWidth - 40);
  drawStrip(canvas, values, role, { width, height: 30, most });
  return el(
    "div",
    { className: "strip" },
    el("span", { className: `name ${role}`, textContent: name }),
    canvas,
    el("span", { className: "amount", textContent: note }),
  );
}

/** @param {Picture} matrix */
function matrixElement({ name, values, role }) {
  const { C, D } = app.model;
  const picture = valuePixels(values, D, C);
  picture.setAttribute("aria-hidden", "true");
  picture.className = "weights";
  const numbers = numbersTable(`${name} as a table`, () => ({
    head: ["", ...range(C).map((c) => String(c + 1))],
    rows: matrixRows(
      range(D).map((d) => String(d + 1)),
      values,
      (value) => number(value, 3),
    ),
  }));
  return el("div", {}, inRole(role, name), el("br"), picture, numbers);
}
