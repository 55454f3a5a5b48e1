/* Attention weights that the reader changes by hand. */

/** @import { Matrix } from "./numbers.js" */

/**
 * A whole head changed as EDITS says, or one weight set.
 * @typedef {{kind: "mute" | "uniform" | "self" | "previous"}} HeadEdit
 * @typedef {{kind: "set", query: number, key: number, weight: number}} WeightEdit
 * @typedef {HeadEdit | WeightEdit} Edit
 */

/** Ways to replace a head's weights (T, T).
 * @type {Record<HeadEdit["kind"], {label: string, weigh: (i: number, j: number) => number}>}
 */
const EDITS = {
  mute: { label: "muted", weigh: () => 0 },
  uniform: { label: "uniform", weigh: (i, j) => (j <= i ? 1 / (i + 1) : 0) },
  self: { label: "all on itself", weigh: (i, j) => (j === i ? 1 : 0) },
  previous: {
    label: "all on the previous character",
    weigh: (i, j) => (j === Math.max(i - 1, 0) ? 1 : 0),
  },
};

export const HEAD_EDITS = /** @type {HeadEdit["kind"][]} */ (Object.keys(EDITS));

/** @param {Edit["kind"]} kind */
export function labelOf(kind) {
  return kind === "set" ? "one weight" : EDITS[kind].label;
}

/** Weights (T, T) after `edit`. Where one weight is set, the rest of its row is scaled so that the
 * row still sums to one.
 * @param {Matrix} weights
 * @param {number} T
 * @param {Edit} edit
 */
export function edited(weights, T, edit) {
  if (edit.kind !== "set") {
    const { weigh } = EDITS[edit.kind];
    return weights.map((_, n) => weigh(Math.floor(n / T), n % T));
  }
  const changed = weights.slice();
  const { query, key, weight } = edit;
  let rest = 0;
  for (let j = 0; j <= query; j++) if (j !== key) rest += weights[query * T + j];
  for (let j = 0; j <= query; j++) {
    const share = rest > 0 ? weights[query * T + j] / rest : 1 / query;
    changed[query * T + j] = j === key ? weight : (1 - weight) * share;
  }
  return changed;
}
