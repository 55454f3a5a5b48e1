/* View 4: why a weight is what it is: the ranked keys, and the score by dimension. */

import { app, characterAt, openHead } from "../app.js";
import { drawWaterfall } from "../draw.js";
import { el, find, inRole, numbersTable, scrollBox, tableOf } from "../html.js";
import { extent, ranked, row, total } from "../numbers.js";
import { select } from "../selection.js";
import { glyph, glyphsOf, number, percent, saidAt, signed } from "../words.js";
import { asker, selectedOf } from "./common.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Head } from "../model.js" */
/** @import { Matrix } from "../numbers.js" */

/**
 * One dimension's share of a score.
 * @typedef {{d: number, q: number, k: number, product: number}} Product
 */

const MOST_KEYS = 12; // in the ranking, until all are asked for

/** @returns {Draw} */
export function whyView() {
  const box = find("why-content");
  const waterfall = el("canvas", { ariaHidden: "true" });
  let all = false;
  /** @type {Product[]} */
  let products = [];
  const numbers = numbersTable("The score, dimension by dimension, as a table", () => ({
    head: ["dimension", "q", "k", "q × k / √D"],
    rows: products.map(({ d, q, k, product }) => [
      String(d + 1),
      number(q, 3),
      number(k, 3),
      signed(product, 3),
    ]),
  }));
  const ranking = scrollBox("keys, ranked by weight");
  const more = el("button", { type: "button" });
  const [sum, intro] = [el("p", { className: "numbers" }), el("p")];
  const title = el("h4", {}, "The score as a sum over the dimensions of q and k");
  box.append(intro, ranking, more, title, waterfall, sum, numbers);
  const draw = () => {
    const { query, key } = app.state;
    const { T } = app.trace;
    const open = openHead();
    const order = ranked(row(open.scores, query, T).subarray(0, query + 1));
    const later = T - 1 - query;
    intro.replaceChildren(
      "The keys of ",
      asker(),
      `, the highest score first. The mask sets the scores of the ${later} later characters to −∞.`,
    );
    refillRanking(ranking, rankingTable(open, all ? order : order.slice(0, MOST_KEYS)));
    more.hidden = order.length <= MOST_KEYS;
    more.textContent = all ? `only the first ${MOST_KEYS}` : `all ${order.length} keys`;
    products = productsOf(open, query, key);
    const score = selectedOf(open.scores);
    drawWaterfall(
      waterfall,
      products.map(({ product }) => product),
      score,
      { width: Math.min(760, box.clientWidth), height: 150 },
    );
    sum.textContent = sumOf(products, score);
    numbers.refresh();
  };
  more.addEventListener("click", () => {
    all = !all;
    draw();
  });
  ranking.addEventListener("click", (event) => {
    const key = keyOf(/** @type {Element} */ (event.target));
    if (key !== undefined) select({ key: Number(key) });
  });
  return draw;
}

/** The key whose row of the ranking holds an element.
 * @param {Element | null} element
 */
function keyOf(element) {
  return element?.closest("tr")?.dataset.key;
}

/** Show another ranking; the focus stays with its key.
 * @param {HTMLElement} ranking
 * @param {HTMLTableElement} table
 */
function refillRanking(ranking, table) {
  const focused = keyOf(ranking.querySelector(":focus"));
  ranking.replaceChildren(table);
  /** @type {HTMLElement | null} */
  const button = table.querySelector(`tr[data-key="${focused}"] button`);
  button?.focus();
}

/** @param {Head} open @param {number} query @param {number} key @returns {Product[]} */
function productsOf(open, query, key) {
  const { D } = app.model;
  const [q, k] = [row(open.q, query, D), row(open.k, key, D)];
  return Array.from(q, (value, d) => ({
    d,
    q: value,
    k: k[d],
    product: (value * k[d]) / Math.sqrt(D),
  })).sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
}

/** @param {Product[]} products @param {number} score */
function sumOf(products, score) {
  const plus = products.map(({ product }) => product).filter((product) => product > 0);
  const agreed = total(plus);
  return (
    `${products.length} products, the largest first. The ${plus.length} positive ones sum to ${signed(agreed)}, ` +
    `the others to ${signed(score - agreed)}. The last bar is the sum of all, the score ${signed(score)}.`
  );
}

const RANKING_HEAD = [
  "",
  "key, in its context",
  "q·k",
  "÷ √D",
  "e^(score − best)",
  "weight",
  "× uniform",
];

/** @param {Head} open @param {number[]} keys  ranked */
function rankingTable(open, keys) {
  const { query, key } = app.state;
  const { T } = app.trace;
  const scores = row(open.scores, query, T).subarray(0, query + 1);
  const weights = row(open.weights, query, T);
  const best = extent(scores)[1];
  const rows = keys.map((j) => {
    const cells = [
      number(scores[j] * Math.sqrt(app.model.D)),
      number(scores[j]),
      number(Math.exp(scores[j] - best), 3),
      percent(weights[j]),
      `${number(weights[j] * (query + 1), 1)}×`,
    ];
    const button = el("button", {
      type: "button",
      className: "plain",
      ariaLabel: `select ${saidAt(j)}`,
      textContent: String(j + 1),
    });
    const line = el(
      "tr",
      { className: j === key ? "chosen" : "" },
      ...[button, contextAt(j), ...cells].map((content) => el("td", {}, content)),
    );
    line.dataset.key = String(j);
    return line;
  });
  const table = tableOf(RANKING_HEAD, [...rows, sumRow(scores, best, total(weights))]);
  table.className = "ranking";
  return table;
}

/** What the softmax divides by, and the row's whole weight.
 * @param {Matrix} scores
 * @param {number} best
 * @param {number} weight
 */
function sumRow(scores, best, weight) {
  const powers = Array.from(scores, (score) => Math.exp(score - best));
  const cells = ["", `sum over all ${scores.length} keys`, "", "", number(total(powers), 3)];
  const line = [...cells, percent(weight), ""].map((cell) => el("td", {}, cell));
  return el("tr", { className: "sum" }, ...line);
}

/** A character between its neighbours.
 * @param {number} position
 */
function contextAt(position) {
  const side = (/** @type {number} */ from, /** @type {number} */ to) =>
    glyphsOf(app.trace.tokens.slice(Math.max(0, from), to)).join("");
  return el(
    "code",
    {},
    side(position - 6, position),
    inRole("key", glyph(characterAt(position))),
    side(position + 1, position + 4),
  );
}
