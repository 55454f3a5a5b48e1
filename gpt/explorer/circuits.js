/* A head's rule over the alphabet, as gpt/attention/circuits.py defines it: what the head computes
 * if the stream that its layer reads holds the embedding and nothing else, not even, with
 * token_shift, a share of the character before.
 */

import { applyNorm, embed, normalise, normOf, project, scoresOf, tensorOf } from "./model.js";
import { linear, range, row, total } from "./numbers.js";
import { writtenBy } from "./parts.js";

/** @import { Model, What } from "./model.js" */
/** @import { Matrix } from "./numbers.js" */

/** Does the stream that `layer` reads still hold the embedding?
 * @param {Model} model
 * @param {number} layer
 */
export function readsEmbedding(model, layer) {
  return layer === 0 || model.config.residual;
}

/** Does the stream that the logits are read from still hold what the heads of `layer` write?
 * @param {Model} model
 * @param {number} layer
 */
export function reachesLogits(model, layer) {
  const { residual, n_layer, feed_forward } = model.config;
  return residual || (layer === n_layer - 1 && feed_forward === "none");
}

/** Queries, keys or values (n, D) of characters `ids`, each at its position with none before it.
 * @param {Model} model
 * @param {{layer: number, head: number, what: What, ids: number[]}} which
 * @param {(n: number) => number} positionOf
 */
function projectAlone(model, { layer, head, what, ids }, positionOf) {
  const embedded = embed(model, ids, positionOf, () => undefined);
  const x = normalise(model, `blocks.${layer}.attention_norm`, embedded);
  return project(model, layer, head, what, x, positionOf);
}

/** Scores (n, n) of every character at position `query` and every character at position `key`.
 * @param {Model} model
 * @param {{layer: number, head: number, ids: number[], query: number, key: number}} which
 */
export function characterScores(model, { layer, head, ids, query, key }) {
  const q = projectAlone(model, { layer, head, what: "query", ids }, () => query);
  const k = projectAlone(model, { layer, head, what: "key", ids }, () => key);
  return scoresOf(q, k, model.D);
}

/** Scores (T, T) of character `asks` at every position and character `held` at every position.
 * @param {Model} model
 * @param {{layer: number, head: number, asks: number, held: number, T: number}} which
 */
export function placeScores(model, { layer, head, asks, held, T }) {
  const everywhere = (/** @type {What} */ what, /** @type {number} */ id) =>
    projectAlone(model, { layer, head, what, ids: range(T).fill(id) }, (t) => t);
  return scoresOf(everywhere("query", asks), everywhere("key", held), model.D);
}

/** What the head adds to the logits (n, V) if it gives full weight to one of the characters `ids`
 * at position `key`.
 *
 * The final norm's scale is the one it has for `final`, the last state of the stream (C) at the
 * query. The mean of each row is zero: a shift of all logits changes no probability.
 * @param {Model} model
 * @param {{layer: number, head: number, ids: number[], key: number, final: Matrix}} which
 */
export function outputRises(model, { layer, head, ids, key, final }) {
  const { C, V } = model;
  const v = projectAlone(model, { layer, head, what: "value", ids }, () => key);
  const written = writtenBy(model, layer, head, v);
  const norm = normOf(model, "norm", final);
  const rises = new Float32Array(ids.length * V);
  ids.forEach((_, n) => {
    const normed = applyNorm(norm, row(written, n, C), false);
    const logits = linear(normed, tensorOf(model, "lm_head.weight"), C);
    const mean = total(logits) / V;
    rises.set(
      logits.map((value) => value - mean),
      n * V,
    );
  });
  return rises;
}
