/* Where a score comes from: the residual stream is a sum of parts, and so is every score once the
 * scales of the norms are held fixed. gpt/attention/decompose.py does the same.
 */

import {
  applyNorm,
  headMatrix,
  headName,
  normOf,
  qkScale,
  rotate,
  shareOf,
  tensorOf,
} from "./model.js";
import { add, dot, linear, row, scale, total } from "./numbers.js";

/** @import { Block, Model, Trace, What } from "./model.js" */
/** @import { Matrix } from "./numbers.js" */

/**
 * What wrote a part: perhaps a head; `alone` if it is the character's embedding, position or a bias.
 * @typedef {{name: string, head?: {layer: number, head: number}, alone?: boolean}} Writer
 * @typedef {Writer & {vector: Matrix}} Part
 * @typedef {Writer & {score: number}} PartScore
 *
 * One score as a sum over pairs of parts.
 * @typedef {object} ScoreParts
 * @property {number[][]} scores  a row for each part of the query, a column for each of the key
 * @property {PartScore[]} queries  sums of the rows
 * @property {PartScore[]} keys  sums of the columns
 */

/** The parts of the stream that layer `layer` reads at `position`.
 * @param {Model} model
 * @param {Trace} trace
 * @param {number} layer
 * @param {number} position
 */
function streamParts(model, trace, layer, position) {
  let parts = embeddingParts(model, trace.tokens, position);
  for (let earlier = 0; earlier < layer; earlier++) {
    const written = blockParts(model, trace.layers[earlier], earlier, position);
    parts = model.config.residual ? [...parts, ...written] : written;
  }
  return parts;
}

/** @param {Model} model @param {number[]} tokens @param {number} position @returns {Part[]} */
function embeddingParts(model, tokens, position) {
  const { C, config } = model;
  const rowOf = (/** @type {string} */ name, /** @type {number} */ index) =>
    row(tensorOf(model, `${name}_embedding.weight`), index, C);
  /** @type {Part[]} */
  const parts = [{ name: "character", alone: true, vector: rowOf("token", tokens[position]) }];
  if (config.token_shift)
    parts.push({ name: "character before", vector: shareOf(model, tokens[position - 1]) });
  if (config.positions === "learned")
    parts.push({ name: "position", alone: true, vector: rowOf("position", position) });
  return config.embedding_norm
    ? normParts(model, "embedding_norm", parts, "embedding norm's bias")
    : parts;
}

/** The parts after a norm; a bias of the norm is one more part.
 * @param {Model} model
 * @param {string} name
 * @param {Part[]} parts
 * @param {string} biasName
 */
function normParts(model, name, parts, biasName) {
  const norm = normOf(model, name, sumOf(parts));
  const normed = parts.map((part) => ({ ...part, vector: applyNorm(norm, part.vector, false) }));
  return norm?.bias ? [...normed, { name: biasName, alone: true, vector: norm.bias }] : normed;
}

/** @param {Part[]} parts */
function sumOf(parts) {
  return parts.map((part) => part.vector).reduce(add);
}

/** What block `layer` wrote at `position`.
 * @param {Model} model
 * @param {Block} block
 * @param {number} layer
 * @param {number} position
 */
function blockParts(model, block, layer, position) {
  const { C, D, config, tensors } = model;
  /** @type {Part[]} */
  const parts = block.heads.map((head, h) => ({
    name: headName(layer, h),
    head: { layer, head: h },
    vector: writtenBy(model, layer, h, row(head.out, position, D)),
  }));
  const bias = config.residual && tensors.get(`blocks.${layer}.attention.projection.bias`);
  if (bias) parts.push({ name: `L${layer + 1} projection's bias`, vector: bias });
  if (!block.thought) return parts;
  const thought = {
    name: `L${layer + 1} feed-forward`,
    vector: row(block.thought, position, C),
  };
  return config.residual ? [...parts, thought] : [thought];
}

/** What a head writes into the stream (n, C) for its output `out` (n, D).
 * @param {Model} model
 * @param {number} layer
 * @param {number} head
 * @param {Matrix} out
 */
export function writtenBy(model, layer, head, out) {
  const { C, D, config } = model;
  const written = new Float32Array((out.length / D) * C);
  const columns = config.residual && projectionColumns(model, layer, head);
  for (let t = 0; t < out.length / D; t++) {
    const vector = row(out, t, D);
    if (columns) written.set(linear(vector, columns, D), t * C);
    else written.set(vector, t * C + head * D);
  }
  return written;
}

/** Columns [h D, (h + 1) D) of a layer's projection: those that read head h, (C, D).
 * @param {Model} model
 * @param {number} layer
 * @param {number} head
 */
function projectionColumns(model, layer, head) {
  const { C, D } = model;
  const projection = tensorOf(model, `blocks.${layer}.attention.projection.weight`);
  const columns = new Float32Array(C * D);
  for (let c = 0; c < C; c++)
    columns.set(row(projection, c, C).subarray(head * D, (head + 1) * D), c * D);
  return columns;
}

/** Parts of a head's query or key at `position`.
 * @param {Model} model
 * @param {Trace} trace
 * @param {{layer: number, head: number, position: number, what: What}} which
 */
function vectorParts(model, trace, { layer, head, position, what }) {
  const { C, config } = model;
  const matrix = headMatrix(model, layer, head, what);
  const stream = streamParts(model, trace, layer, position);
  const parts = normParts(model, `blocks.${layer}.attention_norm`, stream, "norm's bias").map(
    (part) => {
      const vector = linear(part.vector, matrix, C);
      return { ...part, vector: config.positions === "rotary" ? rotate(vector, position) : vector };
    },
  );
  if (!config.qk_norm) return parts;
  const factor = qkScale(sumOf(parts));
  return parts.map((part) => ({ ...part, vector: scale(part.vector, factor) }));
}

/** The score of query and key as a sum over pairs: what wrote the query × what wrote the key.
 * @param {Model} model
 * @param {Trace} trace
 * @param {{layer: number, head: number, query: number, key: number}} which
 * @returns {ScoreParts}
 */
export function scoreParts(model, trace, { layer, head, query, key }) {
  const asked = vectorParts(model, trace, { layer, head, position: query, what: "query" });
  const held = vectorParts(model, trace, { layer, head, position: key, what: "key" });
  const scores = asked.map((a) => held.map((b) => dot(a.vector, b.vector) / Math.sqrt(model.D)));
  return {
    scores,
    queries: asked.map((part, a) => scored(part, scores[a])),
    keys: held.map((part, b) =>
      scored(
        part,
        scores.map((line) => line[b]),
      ),
    ),
  };
}

/** @param {Writer} writer @param {number[]} pairs  all that it takes part in @returns {PartScore} */
function scored({ name, head, alone }, pairs) {
  return { name, head, alone, score: total(pairs) };
}

/** What the two characters alone add to a score.
 * @param {ScoreParts} parts
 */
export function scoreAlone({ scores, queries, keys }) {
  const pairs = scores.filter((_, a) => queries[a].alone);
  return total(pairs.map((line) => total(line.filter((_, b) => keys[b].alone))));
}
