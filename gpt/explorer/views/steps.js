/* View 7: every step, with its numbers and the statement of model.py that computes it. */

import { app, characterAt, hasWeights, openHead } from "../app.js";
import { el, find, inRole, refill } from "../html.js";
import { headName, oddsAt } from "../model.js";
import { add, dot, ranked, row, scale, softmax, total } from "../numbers.js";
import { writtenBy } from "../parts.js";
import { glyph, number, percent, said } from "../words.js";
import { asker, headVector, lookedAt } from "./common.js";
import { makingSteps } from "./making.js";
import { stepElement, strip, withLength } from "./step.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Matrix } from "../numbers.js" */
/** @import { Step } from "./step.js" */

const MOST_SUMMANDS = 4;

/** @returns {Draw} */
export function stepsView() {
  const list = find("steps-content");
  return () => refill(list, stepsOf().map(stepElement));
}

/** @returns {Step[]} */
function stepsOf() {
  const last = hasWeights() ? [writeStep(), oddsStep()] : [oddsStep()];
  return [...makingSteps(), ...scoreSteps(), mixStep(), ...last];
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
        `exp(${score}) = ${number(Math.exp(scores[key]))}. The sum of exp(score) over all ${query + 1} keys is ${number(total(Array.from(scores, Math.exp)))}. Their quotient is the weight `,
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
  const order = ranked(weights);
  const [largest, others] = [order.slice(0, MOST_SUMMANDS), order.slice(MOST_SUMMANDS)];
  const summand = (/** @type {string} */ name, /** @type {number[]} */ keys) => {
    const share = percent(total(keys.map((j) => weights[j])));
    return strip(`${share} × ${name}`, shareOf(weights, keys), "value");
  };
  const rows = [
    ...largest.map((j) => summand(`${glyph(characterAt(j))} at ${j + 1}`, [j])),
    ...(others.length ? [summand(`the other ${others.length}`, others)] : []),
    strip("sum", headVector("out", query), "output"),
  ];
  return {
    title: "Mix: the weighted sum of the values",
    line: "mix",
    shape: `out (T, D) = (${T}, ${app.model.D})`,
    words: [
      "What the characters ",
      inRole("value", "share"),
      `: each value times its weight, and the sum over all ${query + 1}. All rows of bars have one scale, so the upper ones add up to the last.`,
    ],
    strips: rows.map(withLength),
    oneScale: true,
  };
}

/** The sum (D) of the values of `keys`, each times its weight.
 * @param {Matrix} weights
 * @param {number[]} keys
 */
function shareOf(weights, keys) {
  return keys.map((j) => scale(headVector("v", j), weights[j])).reduce(add);
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
