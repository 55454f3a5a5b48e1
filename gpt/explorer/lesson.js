/* The notes' example: what follows from the numbers of three children and from their tools. */

import { linear, range, row, scale, softmax, total } from "./numbers.js";
import { number } from "./words.js";

/** @import { Matrix } from "./numbers.js" */

/**
 * What the reader may change: x (T, C), and the tools query, key and value (C, D).
 * @typedef {"x" | "query" | "key" | "value"} Given
 *
 * What follows: q, k, v and out (T, D); products, scores, covered and weights (T, T); powers
 * (T, T + 1), each row with its sum.
 * @typedef {"q" | "k" | "v" | "products" | "scores" | "covered" | "powers" | "weights" | "out"} Made
 *
 * @typedef {Given | Made} Name
 * @typedef {Record<Name, Matrix>} Numbers
 *
 * What lesson.py tells of the example.
 * @typedef {object} LessonData
 * @property {string[]} names  of the children
 * @property {number} asker  the child that asks, counted from 0
 * @property {LessonStep[]} steps
 * @property {string[]} remarks  on the first step
 * @property {Record<Name, LessonTable>} tables
 * @property {Record<Given, number[]>} given
 *
 * @typedef {{title: string, sentence: string, code: {number: number, text: string}[]}} LessonStep
 * @typedef {{step: number, title: string, role: string, columns: string[], rows: string[]}} LessonTable
 *
 * A row, a column or one number of a table.
 * @typedef {{row?: number, column?: number}} Part
 */

/** All numbers.
 * @param {Record<Given, Matrix>} given
 * @param {number} T
 * @param {boolean} ahead  may each child look at those to come?
 * @returns {Numbers}
 */
export function follow(given, T, ahead) {
  const { x, query, key, value } = given;
  const [q, k, v] = [query, key, value].map((tool) => times(x, tool, x.length / T));
  const products = linear(q, k, q.length / T); // q @ k.T
  const scores = scale(products, (q.length / T) ** -0.5);
  const covered = scores.map((score, n) =>
    ahead || n % T <= Math.floor(n / T) ? score : -Infinity,
  );
  const lines = range(T).map((i) => row(covered, i, T));
  const powers = joined(lines.map((line) => [...line.map(Math.exp), total(line.map(Math.exp))]));
  const weights = joined(lines.map(softmax));
  const out = times(weights, v, T);
  return { ...given, q, k, v, products, scores, covered, powers, weights, out };
}

/** a (n, inner) @ b (inner, m)
 * @param {Matrix} a
 * @param {Matrix} b
 * @param {number} inner
 */
function times(a, b, inner) {
  const m = b.length / inner;
  return linear(a, joined(range(m).map((j) => columnOf(b, j, m))), inner);
}

/** @param {Matrix} matrix @param {number} j @param {number} width */
function columnOf(matrix, j, width) {
  return matrix.filter((_, n) => n % width === j);
}

/** @param {Iterable<number>[]} rows */
function joined(rows) {
  return Float32Array.from(rows.flatMap((line) => Array.from(line)));
}

// --- what a number is made of ------------------------------------------------------------------

/** The parts of tables that make number (i, j) of a table.
 * @type {Record<Made, (i: number, j: number, T: number) => Partial<Record<Name, Part>>>}
 */
const SOURCES = {
  q: (i, j) => ({ x: { row: i }, query: { column: j } }),
  k: (i, j) => ({ x: { row: i }, key: { column: j } }),
  v: (i, j) => ({ x: { row: i }, value: { column: j } }),
  products: (i, j) => ({ q: { row: i }, k: { row: j } }),
  scores: (i, j) => ({ products: { row: i, column: j } }),
  covered: (i, j) => ({ scores: { row: i, column: j } }),
  powers: (i, j, T) => (j < T ? { covered: { row: i, column: j } } : { powers: { row: i } }),
  weights: (i) => ({ powers: { row: i } }),
  out: (i, j) => ({ weights: { row: i }, v: { column: j } }),
};

/** @param {Name} name @returns {name is Made} */
function isMade(name) {
  return name in SOURCES;
}

/** The same as a list; x and the tools are made of nothing.
 * @param {Name} name
 * @param {number} i
 * @param {number} j
 * @param {number} T
 */
export function sourcesOf(name, i, j, T) {
  const parts = isMade(name) ? SOURCES[name](i, j, T) : {};
  return /** @type {[Name, Part][]} */ (Object.entries(parts));
}

/** Number (i, j) of a table as it is computed, to be checked with a calculator.
 * @param {Made} name
 * @param {number} i
 * @param {number} j
 * @param {Numbers} numbers
 * @param {string[]} names  of the children
 */
export function reckoning(name, i, j, numbers, names) {
  const T = names.length;
  const [asker, asked] = [names[i], names[j]];
  const at = (/** @type {Made} */ table, column = j) =>
    written(row(numbers[table], i, numbers[table].length / T)[column]);
  const result = at(name);
  switch (name) {
    case "products":
      return `${asker} asks ${asked}: ${dotProduct(name, i, j, numbers, T)} = ${result}`;
    case "scores": {
      const D = numbers.q.length / T;
      return `score of ${asked} for ${asker}: ${at("products")} / √${D} = ${at("products")} / ${written(Math.sqrt(D))} = ${result}`;
    }
    case "covered":
      return numbers.covered[i * T + j] === -Infinity
        ? `${asked} comes after ${asker}: its answer, ${at("scores")}, is covered`
        : `${asker} may ask ${asked}: its answer, ${at("scores")}, counts`;
    case "powers":
      return j < T
        ? `e^score of ${asked} for ${asker}: e^${at("covered")} = ${result}`
        : `sum for ${asker}: ${range(T)
            .map((other) => at("powers", other))
            .join(" + ")} = ${result}`;
    case "weights":
      return `weight of ${asked} for ${asker}: ${at("powers")} / ${at("powers", T)} = ${result}`;
    case "out":
      return `what ${asker} learns, number ${j + 1}: ${dotProduct(name, i, j, numbers, T)} = ${result}`;
    default:
      return `${name} of ${asker}, number ${j + 1}: ${dotProduct(name, i, j, numbers, T)} = ${result}`;
  }
}

/** The sum of products that makes number (i, j) of a table.
 * @param {Made} name
 * @param {number} i
 * @param {number} j
 * @param {Numbers} numbers
 * @param {number} T
 */
function dotProduct(name, i, j, numbers, T) {
  const [a, b] = sourcesOf(name, i, j, T).map(([table, { row: line, column = 0 }]) => {
    const matrix = numbers[table];
    return line === undefined
      ? columnOf(matrix, column, numbers.v.length / T)
      : row(matrix, line, matrix.length / T);
  });
  return Array.from(a, (value, n) => `${written(value)} × ${written(b[n])}`).join(" + ");
}

/** @param {number} value */
function written(value) {
  return number(value, 4);
}

/** Numbers as texts of one form: with two decimals, or as many as fit.
 * @param {Matrix} values
 * @param {number} most  characters of each
 */
export function fitted(values, most) {
  for (const decimals of [2, 1, 0]) {
    const texts = Array.from(values, (value) => number(value, decimals));
    if (texts.every((text) => text.length <= most)) return texts;
  }
  return Array.from(values, (value) =>
    Math.abs(value) < 10 ** (most - 1) ? number(value, 0) : value.toExponential(0),
  );
}
