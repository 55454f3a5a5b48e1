/* View 7: every step, with its numbers and the statement of model.py that computes it. */

import { app, characterAt, hasWeights, openHead } from "../app.js";
import { drawStrip, valuePixels } from "../draw.js";
import { el, find, inRole, matrixRows, numbersTable, refill } from "../html.js";
import { headMatrix, headName, oddsAt, QKV, rotate, shareOf } from "../model.js";
import { dot, linear, range, ranked, row, scale, softmax, total } from "../numbers.js";
import { writtenBy } from "../parts.js";
import { glyph, number, percent, said } from "../words.js";
import { asker, lookedAt } from "./common.js";

/** @import { Draw } from "../drawing.js" */
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
 * @property {Picture[]} [matrices]  (D, C)
 */

const MOST_SUMMANDS = 4;

/** @returns {Draw} */
export function stepsView() {
  const list = find("steps-content");
  return () => refill(list, stepsOf().map(stepElement));
}

/** @returns {Step[]} */
function stepsOf() {
  const weights = hasWeights();
  return [
    ...(weights ? streamSteps() : []),
    ...(weights ? projectionSteps() : [givenVectorsStep()]),
    ...scoreSteps(),
    mixStep(),
    ...(weights ? [writeStep()] : []),
    oddsStep(),
  ];
}

// --- elements ----------------------------------------------------------------------------------

/** @param {Step} step */
function stepElement({ title, line, shape, words, strips, matrices = [] }) {
  const { number: at, text } = app.data.lines[line];
  const source = el(
    "p",
    { className: "source-line" },
    el("span", { textContent: `model.py:${at}` }),
    el("code", { textContent: text }),
    el("span", { textContent: shape }),
  );
  const item = el("li", {}, el("h3", { textContent: title }), source, el("p", {}, ...words));
  item.append(...strips.map(stripElement));
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

/** @param {Strip} strip */
function stripElement({ name, values, role, note = "" }) {
  const canvas = el("canvas", { ariaHidden: "true" });
  const width = Math.min(384, find("steps-content").clientWidth - 40);
  drawStrip(canvas, values, role, { width, height: 30 });
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

// --- the steps ---------------------------------------------------------------------------------

/** From the character to the vector that the layer reads.
 * @returns {Step[]}
 */
function streamSteps() {
  const { model, trace, state } = app;
  const { layer, query } = state;
  const { config, C } = model;
  const id = trace.tokens[query];
  const learned = config.positions === "learned";
  const before = config.token_shift ? trace.tokens[query - 1] : undefined;
  const share =
    before === undefined ? "" : `, plus a share of row ${before}, that of the character before`;
  const place = learned ? `, plus row ${query} of the position embedding` : "";
  const sized = config.embedding_norm ? ", normalised" : "";
  const shape = `(T, C) = (${trace.T}, ${C})`;
  const x = strip("x", row(trace.layers[0].input, query, C), "ink");
  const embedding = {
    title: "Embed: a character becomes a vector",
    line: config.token_shift ? "shift" : learned ? "position" : "embed",
    shape: `x ${shape}`,
    words: [
      asker(),
      ` has id ${id}, so x is row ${id} of the token embedding${share}${place}${sized}.`,
    ],
    strips: share ? [strip("share", shareOf(model, before), "ink"), x] : [x],
  };
  if (config.norm === "none") return [embedding];
  const block = trace.layers[layer];
  const normalising = {
    title: `Normalise the input of layer ${layer + 1}`,
    line: "norm",
    shape,
    words: ["The norm brings the vectors of all characters to a common scale."],
    strips: [
      strip("before", row(block.input, query, C), "ink"),
      strip("x", row(block.normed, query, C), "ink"),
    ],
  };
  return [embedding, normalising];
}

/** @param {string} name @param {Matrix} values @param {string} role @returns {Strip} */
function strip(name, values, role) {
  return { name, values, role };
}

/** Vectors of the first roles of QKV.
 * @param {Matrix[]} vectors
 */
function roleStrips(vectors) {
  return vectors.map((values, i) => strip(QKV[i], values, QKV[i]));
}

/** Query, key and value of the selected query, and what is done to them before the scores.
 * @returns {Step[]}
 */
function projectionSteps() {
  const { model, trace, state } = app;
  const { layer, head, query } = state;
  const { config, C, D } = model;
  const x = row(trace.layers[layer].normed, query, C);
  const matrices = QKV.map((what) => headMatrix(model, layer, head, what));
  let vectors = matrices.map((matrix) => linear(x, matrix, C));
  /** @type {Step[]} */
  const steps = [
    {
      title: "Three linear maps of x: query, key and value",
      line: "qkv",
      shape: `Wq, Wk, Wv (D, C) = (${D}, ${C}); q, k, v (T, D) = (${trace.T}, ${D})`,
      words: [
        ...captions(),
        ". Each number is the product of one row of a matrix with x. Darker entries of a matrix are larger.",
      ],
      strips: [strip("x", x, "ink"), ...roleStrips(vectors)],
      matrices: QKV.map((role, i) => ({ name: `W${role[0]}`, values: matrices[i], role })),
    },
  ];
  if (config.positions === "rotary") {
    vectors = vectors.slice(0, 2).map((vector) => rotate(vector, query));
    steps.push({
      title: "Rotate query and key by their position",
      line: "rotary",
      shape: `(T, D) = (${trace.T}, ${D})`,
      words: [
        `Each pair of dimensions is rotated by an angle that grows with the position, here ${query + 1}. The score then depends on the distance between query and key.`,
      ],
      strips: roleStrips(vectors),
    });
  }
  if (config.qk_norm) {
    const lengths = vectors.map((vector) => number(Math.sqrt(dot(vector, vector))));
    steps.push({
      title: "Normalise query and key",
      line: "qk_norm",
      shape: `|q| = |k| = √D = ${number(Math.sqrt(D))}`,
      words: [
        `Their lengths were ${lengths[0]} and ${lengths[1]}. Only their directions matter now, and no score can exceed √D = ${number(Math.sqrt(D))}.`,
      ],
      strips: roleStrips([headVector("q", query), headVector("k", query)]),
    });
  }
  return steps;
}

/** @param {"q" | "k" | "v" | "out"} what @param {number} position */
function headVector(what, position) {
  return row(openHead()[what], position, app.model.D);
}

/** The same where the page has no weights.
 * @returns {Step}
 */
function givenVectorsStep() {
  const { T } = app.trace;
  const { query } = app.state;
  return {
    title: "Three linear maps of x: query, key and value",
    line: "qkv",
    shape: `q, k, v (T, D) = (${T}, ${app.model.D})`,
    words: [...captions(), ", as the scores use them."],
    strips: roleStrips([headVector("q", query), headVector("k", query), headVector("v", query)]),
  };
}

function captions() {
  return [
    "Each character computes three vectors from its x: ",
    inRole("query", "what am I looking for?"),
    ", ",
    inRole("key", "what do I have?"),
    ", ",
    inRole("value", "what can I share?"),
    ". Here they are for ",
    asker(),
  ];
}

/** @returns {Step[]} */
function scoreSteps() {
  const { T } = app.trace;
  const { query, key } = app.state;
  const [q, k] = [headVector("q", query), headVector("k", key)];
  const scores = row(openHead().scores, query, T).slice(0, query + 1);
  const weights = softmax(scores);
  const score = number(scores[key]);
  const [product, root] = [number(dot(q, k)), number(Math.sqrt(app.model.D))];
  const products = q.map((value, d) => value * k[d]);
  return [
    {
      title: "Score: the dot product of query and key",
      line: "score",
      shape: `scores (T, T) = (${T}, ${T})`,
      words: [
        asker(),
        " · ",
        lookedAt(),
        ` = ${product}. Divided by √D = ${root}, it is the score ${score}. The division keeps the softmax from saturating.`,
      ],
      strips: [
        strip("query", q, "query"),
        strip("key", k, "key"),
        { ...strip("q × k", products, "ink"), note: `sum ${product}` },
      ],
    },
    {
      title: "Mask: no character attends to a later one",
      line: "mask",
      shape: `(T, T) = (${T}, ${T})`,
      words: [
        `Of the ${T} scores of this row, ${query + 1} remain. The ${T - 1 - query} scores of later characters become −∞.`,
      ],
      strips: [strip("scores", scores, "ink")],
    },
    {
      title: "Softmax: scores become weights that sum to one",
      line: "softmax",
      shape: `weights (T, T) = (${T}, ${T})`,
      words: [
        `exp(${score}) = ${number(Math.exp(scores[key]))}. Divided by the sum over all ${query + 1} keys, it is the weight `,
        el("b", { textContent: percent(weights[key]) }),
        `. The row sums to ${number(total(weights), 4)}.`,
      ],
      strips: [strip("weights", weights, "ink")],
    },
  ];
}

/** @returns {Step} */
function mixStep() {
  const { T } = app.trace;
  const { query } = app.state;
  const weights = row(openHead().weights, query, T).slice(0, query + 1);
  const order = ranked(weights).slice(0, MOST_SUMMANDS);
  const summands = order.map((j) =>
    strip(
      `${percent(weights[j])} × ${glyph(characterAt(j))} at ${j + 1}`,
      scale(headVector("v", j), weights[j]),
      "value",
    ),
  );
  const share = percent(total(order.map((j) => weights[j])));
  return {
    title: "Mix: the weighted sum of the values",
    line: "mix",
    shape: `out (T, D) = (${T}, ${app.model.D})`,
    words: [
      "What the characters ",
      inRole("value", "share"),
      `: the values with the ${order.length} largest weights, together ${share}, and the sum over all ${query + 1}.`,
    ],
    strips: [...summands, strip("sum", headVector("out", query), "output")],
  };
}

/** @returns {Step} */
function writeStep() {
  const { model, trace, state } = app;
  const { layer, head, query } = state;
  const { config, C } = model;
  const name = headName(layer, head);
  const thinks =
    config.feed_forward === "none"
      ? ""
      : " Then a feed-forward layer computes on each character by itself.";
  return {
    title: config.residual ? "Project, and add to the residual stream" : "Concatenate the heads",
    line: config.residual ? "project" : "residual",
    shape: `(T, C) = (${trace.T}, ${C})`,
    words: [
      config.residual
        ? `${name} writes this vector. The outputs of all heads of the layer are added to the stream.${thinks}`
        : `Each head fills its own dimensions of the output.${thinks}`,
    ],
    strips: [
      strip(`${name} writes`, writtenBy(model, layer, head, headVector("out", query)), "output"),
      strip(`stream after layer ${layer + 1}`, row(trace.layers[layer].output, query, C), "ink"),
    ],
  };
}

/** @returns {Step} */
function oddsStep() {
  const { model, trace, state } = app;
  const odds = oddsAt(model, trace.logits, state.query);
  const best = ranked(odds)
    .slice(0, 3)
    .map((id) => `${said(model.alphabet[id])} ${percent(odds[id])}`);
  return {
    title: "Logits: probabilities of the next character",
    line: "read_out",
    shape: `logits (T, V) = (${trace.T}, ${model.V})`,
    words: [`A softmax turns the logits into probabilities over the alphabet: ${best.join(", ")}.`],
    strips: [strip("probabilities", odds, "output")],
  };
}
