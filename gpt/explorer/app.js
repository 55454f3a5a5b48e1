/* What all views share: the model, the text's trace, and one selection. */

import { range } from "./numbers.js";

/** @import { Edit } from "./edits.js" */
/** @import { LessonData, Numbers } from "./lesson.js" */
/** @import { Head, Model, ModelData, Trace } from "./model.js" */

/**
 * All that export.py tells the page.
 * @typedef {object} PageData
 * @property {string} run
 * @property {number} step
 * @property {number | null} valLoss  nats a character
 * @property {string} text
 * @property {Record<string, string>} glyphs  of characters that have no shape
 * @property {number} parameters
 * @property {Record<string, {number: number, text: string}>} lines  of model.py
 * @property {Snapshot[]} history  the same text at other steps
 * @property {LessonData} lesson  the notes' example
 * @property {string} [trace]  torch's q, k, v and logits, where there are no weights
 * @property {{logits: string, rounding: number}} [reference]  torch's logits, where there are
 * @typedef {ModelData & PageData} Data
 *
 * @typedef {{step: number, valLoss: number | null, numbers: string}} Snapshot
 *
 * Positions, layers and heads are counted from 0.
 * @typedef {object} Selection
 * @property {number} layer
 * @property {number} head
 * @property {number} query
 * @property {number} key
 * @property {boolean} locked  is the query held, whatever the pointer does?
 * @property {"from" | "to"} direction  weights that the query gives, or that it gets
 * @property {number} share  of the weight that the text shows
 * @property {"scores" | "masked" | "weights"} stage  of the matrix
 * @property {number} lesson  step of the notes' example, counted from 0, or CLOSED
 *
 * @typedef {object} App
 * @property {Data} data
 * @property {Model} model
 * @property {string} text
 * @property {Trace} untouched  the text as the model computes it
 * @property {Trace} trace  the same with the reader's edits; `untouched` where there are none
 * @property {Map<string, Edit>} edits  by head name
 * @property {Selection} state
 * @property {Numbers} lesson  of the notes' example, as the reader has changed them
 */

/** In place of a step: the notes' example is folded away. */
export const CLOSED = -1;

/** `start` in page.js sets the rest. */
export const app = /** @type {App} */ ({
  edits: new Map(),
  state: {
    layer: 0,
    head: 0,
    query: 0,
    key: 0,
    locked: false,
    direction: "from",
    share: 1,
    stage: "weights",
    lesson: 0,
  },
});

/** A bigram table has no heads. */
export function hasHeads() {
  return app.model.config.n_layer > 0;
}

/** A model that is too large comes without its weights. */
export function hasWeights() {
  return app.model.tensors.size > 0;
}

/** @returns {Head} */
export function openHead() {
  return app.trace.layers[app.state.layer].heads[app.state.head];
}

export function allHeads() {
  const { n_layer: L, n_head: H } = app.model.config;
  return range(L * H).map((n) => ({ layer: Math.floor(n / H), head: n % H }));
}

/** @param {number} position */
export function characterAt(position) {
  return app.model.alphabet[app.trace.tokens[position]];
}
