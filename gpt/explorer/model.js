/* The forward pass of gpt/model.py. It keeps every intermediate result.
 *
 * T characters, C = n_embd, H = n_head, D = head_size, V characters in the alphabet.
 */

import { add, dot, erf, linear, range, row, scale, softmax, total, unpack } from "./numbers.js";

/** @import { Matrix } from "./numbers.js" */

/**
 * The model's part of the config, as gpt/config.py defines it.
 * @typedef {object} Config
 * @property {number} block_size
 * @property {number} n_layer
 * @property {number} n_head
 * @property {number} n_embd  0: a bigram table
 * @property {"none" | "learned" | "rotary"} positions
 * @property {boolean} token_shift
 * @property {"none" | "layer" | "rms"} norm
 * @property {boolean} embedding_norm
 * @property {boolean} qk_norm
 * @property {"none" | "relu" | "gelu" | "relu2"} feed_forward
 * @property {boolean} residual
 * @property {number | null} logit_softcap
 *
 * What the forward pass needs of the page's data (app.js has all of it).
 * @typedef {object} ModelData
 * @property {Config} config
 * @property {number[]} alphabet  code points
 * @property {{sizes: [string, number][], numbers: string}} [weights]  packed as halves
 *
 * @typedef {object} Model
 * @property {Config} config
 * @property {Map<string, Matrix>} tensors  weights by their names in model.py; may be empty
 * @property {string[]} alphabet
 * @property {Map<string, number>} ids  of the characters
 * @property {number} C
 * @property {number} D
 * @property {number} V
 *
 * @typedef {object} Head
 * @property {Matrix} q  (T, D)
 * @property {Matrix} k  (T, D)
 * @property {Matrix} v  (T, D)
 * @property {Matrix} scores  (T, T), of later keys too
 * @property {Matrix} weights  (T, T)
 * @property {Matrix} out  (T, D)
 *
 * @typedef {object} Block
 * @property {Matrix} input  (T, C)
 * @property {Matrix} normed  (T, C), what queries, keys and values are computed from
 * @property {Head[]} heads
 * @property {Matrix} [thought]  (T, C), what the feed-forward layer writes
 * @property {Matrix} output  (T, C)
 *
 * @typedef {object} Trace
 * @property {number[]} tokens
 * @property {number} T
 * @property {Block[]} layers
 * @property {Matrix} final  (T, C), the last state of the residual stream
 * @property {Matrix} logits  (T, V)
 *
 * @typedef {{scale: number, gain?: Matrix, bias?: Matrix}} Norm
 * @typedef {"query" | "key" | "value"} What
 *
 * Changes the weights (T, T) of a head.
 * @typedef {(weights: Matrix, T: number) => Matrix} ChangeWeights
 */

/** @type {What[]} */
export const QKV = ["query", "key", "value"];

const LAYER_EPS = 1e-5; // torch's default
const RMS_EPS = 1e-6; // as in model.py

/** @param {ModelData} data @returns {Promise<Model>} */
export async function loadModel(data) {
  const { config } = data;
  const tensors = new Map();
  if (data.weights) {
    const numbers = await unpack(data.weights.numbers);
    let start = 0;
    for (const [name, size] of data.weights.sizes) {
      tensors.set(name, numbers.subarray(start, start + size));
      start += size;
    }
  }
  const alphabet = data.alphabet.map((point) => String.fromCodePoint(point));
  return {
    config,
    tensors,
    alphabet,
    ids: new Map(alphabet.map((character, id) => [character, id])),
    C: config.n_embd || alphabet.length,
    D: config.n_embd / config.n_head,
    V: alphabet.length,
  };
}

/** @param {Model} model @param {string} name */
export function tensorOf(model, name) {
  const tensor = model.tensors.get(name);
  if (!tensor) throw new Error(`the page has no weights ${name}`);
  return tensor;
}

/** @param {number} layer @param {number} head */
export function headName(layer, head) {
  return `L${layer + 1}H${head + 1}`;
}

// --- norms -------------------------------------------------------------------------------------

/** How a norm maps a row x: a scale, and for LayerNorm a mean, a gain and a bias beside it.
 * @param {Model} model
 * @param {string} name
 * @param {Matrix} x  (C)
 * @returns {Norm | null}
 */
export function normOf(model, name, x) {
  const kind = model.config.norm;
  if (kind === "none") return null;
  const mean = kind === "layer" ? total(x) / x.length : 0;
  let square = 0;
  for (const value of x) square += (value - mean) ** 2;
  return {
    scale: 1 / Math.sqrt(square / x.length + (kind === "layer" ? LAYER_EPS : RMS_EPS)),
    gain: model.tensors.get(`${name}.weight`),
    bias: model.tensors.get(`${name}.bias`),
  };
}

/** A norm whose scale is held fixed is linear: it maps `part`, one of the summands of x, alone.
 * @param {Norm | null} norm
 * @param {Matrix} part  (C)
 * @param {boolean} withBias
 */
export function applyNorm(norm, part, withBias) {
  if (!norm) return part;
  const { gain, bias } = norm;
  const mean = gain ? total(part) / part.length : 0;
  return part.map(
    (value, i) =>
      (value - mean) * norm.scale * (gain ? gain[i] : 1) + (withBias && bias ? bias[i] : 0),
  );
}

/** Each row of x (n, C) through the norm.
 * @param {Model} model
 * @param {string} name
 * @param {Matrix} x
 */
export function normalise(model, name, x) {
  const y = new Float32Array(x.length);
  for (let i = 0; i < x.length / model.C; i++) {
    const from = row(x, i, model.C);
    y.set(applyNorm(normOf(model, name, from), from, true), i * model.C);
  }
  return y;
}

// --- attention ---------------------------------------------------------------------------------

/** The share (C) that a character gets of the embedding of the one before it; zeros without one.
 * @param {Model} model
 * @param {number | undefined} before  id of the one before
 * @returns {Matrix}
 */
export function shareOf(model, before) {
  if (before === undefined) return new Float32Array(model.C);
  const weights = tensorOf(model, "token_shift");
  const embedding = row(tensorOf(model, "token_embedding.weight"), before, model.C);
  return embedding.map((value, i) => value * weights[i]);
}

/** The first state of the residual stream (T, C): token embeddings, with token_shift a share of the
 * one before, and position embeddings.
 * @param {Model} model
 * @param {number[]} tokens
 * @param {(t: number) => number} positionOf
 * @param {(t: number) => number | undefined} beforeOf  id of the character before
 */
export function embed(model, tokens, positionOf = (t) => t, beforeOf = (t) => tokens[t - 1]) {
  const { C, config } = model;
  const rowOf = (/** @type {string} */ name, /** @type {number} */ index) =>
    row(tensorOf(model, `${name}_embedding.weight`), index, C);
  const x = new Float32Array(tokens.length * C);
  tokens.forEach((id, t) => {
    let vector = rowOf("token", id);
    if (config.token_shift) vector = add(vector, shareOf(model, beforeOf(t)));
    if (config.positions === "learned") vector = add(vector, rowOf("position", positionOf(t)));
    x.set(vector, t * C);
  });
  return config.embedding_norm ? normalise(model, "embedding_norm", x) : x;
}

/** Rotary positions: each pair of dimensions (i, i + D/2) is rotated by an angle that grows with
 * the position.
 * @param {Matrix} vector  (D)
 * @param {number} position
 */
export function rotate(vector, position) {
  const D = vector.length;
  const turned = new Float32Array(D);
  for (let i = 0; i < D / 2; i++) {
    const angle = Math.fround(position * Math.fround(10000 ** Math.fround(-i / (D / 2))));
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    turned[i] = vector[i] * cos + vector[i + D / 2] * sin;
    turned[i + D / 2] = vector[i + D / 2] * cos - vector[i] * sin;
  }
  return turned;
}

/** Rows [h D, (h + 1) D) of a layer's query, key or value matrix: those of head h, (D, C).
 * @param {Model} model
 * @param {number} layer
 * @param {number} head
 * @param {What} what
 */
export function headMatrix(model, layer, head, what) {
  const matrix = tensorOf(model, `blocks.${layer}.attention.${what}.weight`);
  return row(matrix, head, model.D * model.C);
}

/** Query, key or value (n, D) of each row of x (n, C), which is normalised already.
 * @param {Model} model
 * @param {number} layer
 * @param {number} head
 * @param {What} what
 * @param {Matrix} x
 */
export function project(model, layer, head, what, x, positionOf = (/** @type {number} */ t) => t) {
  const { D, C, config } = model;
  const vectors = linear(x, headMatrix(model, layer, head, what), C);
  if (what === "value") return vectors;
  for (let t = 0; t < vectors.length / D; t++) {
    let vector = row(vectors, t, D);
    if (config.positions === "rotary") vector = rotate(vector, positionOf(t));
    if (config.qk_norm) vector = scale(vector, qkScale(vector));
    vectors.set(vector, t * D);
  }
  return vectors;
}

/** @param {Matrix} vector  a query or a key (D) */
export function qkScale(vector) {
  return 1 / Math.sqrt(dot(vector, vector) / vector.length + RMS_EPS);
}

/** Scores q·k / √D of every query of q (T, D) and every key of k (T, D): (T, T), not masked.
 * @param {Matrix} q
 * @param {Matrix} k
 * @param {number} D
 */
export function scoresOf(q, k, D) {
  const T = q.length / D;
  const scores = new Float32Array(T * T);
  for (let i = 0; i < T; i++) {
    for (let j = 0; j < T; j++) scores[i * T + j] = dot(row(q, i, D), row(k, j, D)) / Math.sqrt(D);
  }
  return scores;
}

/** Mask and softmax: row i is a distribution over the characters 0 to i.
 * @param {Matrix} scores  (T, T)
 * @param {number} T
 */
function weightsOf(scores, T) {
  const weights = new Float32Array(T * T);
  for (let i = 0; i < T; i++) {
    weights.set(softmax(scores.subarray(i * T, i * T + i + 1)), i * T);
  }
  return weights;
}

/** Each row of out (T, D) is a mixture of the rows of v (T, D).
 * @param {Matrix} weights  (T, T)
 * @param {Matrix} v
 * @param {number} T
 */
function mix(weights, v, T) {
  const D = v.length / T;
  const out = new Float32Array(T * D);
  for (let i = 0; i < T; i++) {
    for (let j = 0; j <= i; j++) {
      const weight = weights[i * T + j];
      for (let d = 0; d < D; d++) out[i * D + d] += weight * v[j * D + d];
    }
  }
  return out;
}

/** Attention of one head, from q, k and v (T, D) on.
 * @param {Matrix[]} qkv
 * @param {number} T
 * @param {ChangeWeights | null} [change]
 * @returns {Head}
 */
function attend([q, k, v], T, change) {
  const scores = scoresOf(q, k, q.length / T);
  const computed = weightsOf(scores, T);
  const weights = change ? change(computed, T) : computed;
  return { q, k, v, scores, weights, out: mix(weights, v, T) };
}

/** @param {Head[]} heads @param {number} T */
function sideBySide(heads, T) {
  const D = heads[0].out.length / T;
  const C = heads.length * D;
  const joined = new Float32Array(T * C);
  heads.forEach((head, h) => {
    for (let t = 0; t < T; t++) joined.set(row(head.out, t, D), t * C + h * D);
  });
  return joined;
}

// --- the rest of the model ---------------------------------------------------------------------

const ACTIVATIONS = {
  relu: (/** @type {number} */ x) => Math.max(x, 0),
  gelu: (/** @type {number} */ x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  relu2: (/** @type {number} */ x) => Math.max(x, 0) ** 2,
};

/** torch's nn.Linear `name` on x (n, ins).
 * @param {Model} model
 * @param {string} name
 * @param {Matrix} x
 * @param {number} ins
 */
function linearOf(model, name, x, ins) {
  return linear(x, tensorOf(model, `${name}.weight`), ins, model.tensors.get(`${name}.bias`));
}

/** What part `name` of a block writes for its inner state x (T, width), and the stream (T, C) after
 * it. Without a residual stream, x replaces what stood there.
 * @param {Model} model
 * @param {string} name
 * @param {Matrix} stream
 * @param {Matrix} x
 * @param {number} T
 */
function writeTo(model, name, stream, x, T) {
  if (!model.config.residual) return { written: x, output: x };
  const written = linearOf(model, `${name}.projection`, x, x.length / T);
  return { written, output: add(stream, written) };
}

/** Block `layer` of input (T, C), with pauses.
 * @param {Model} model
 * @param {number} layer
 * @param {Matrix} input
 * @param {number} T
 * @param {(layer: number, head: number) => ChangeWeights | null} changeOf
 * @returns {Generator<undefined, Block, void>}
 */
function* blockOf(model, layer, input, T, changeOf) {
  const { C, config } = model;
  const name = `blocks.${layer}`;
  const normed = normalise(model, `${name}.attention_norm`, input);
  const heads = [];
  for (let head = 0; head < config.n_head; head++) {
    const qkv = QKV.map((what) => project(model, layer, head, what, normed));
    heads.push(attend(qkv, T, changeOf(layer, head)));
    yield;
  }
  const middle = writeTo(model, `${name}.attention`, input, sideBySide(heads, T), T).output;
  if (config.feed_forward === "none") return { input, normed, heads, output: middle };
  const read = normalise(model, `${name}.feed_forward_norm`, middle);
  const hidden = linearOf(model, `${name}.feed_forward.up`, read, C);
  const active = hidden.map(ACTIVATIONS[config.feed_forward]);
  yield;
  const { written, output } = writeTo(model, `${name}.feed_forward`, middle, active, T);
  return { input, normed, heads, thought: written, output };
}

/** Logits (T, V) of the last state of the residual stream (T, C).
 * @param {Model} model
 * @param {Matrix} x
 */
function readOut(model, x) {
  const { C, config } = model;
  const normed = normalise(model, "norm", x);
  const logits = config.n_embd ? linearOf(model, "lm_head", normed, C) : normed;
  const cap = config.logit_softcap;
  return cap ? logits.map((value) => cap * Math.tanh(value / cap)) : logits;
}

/** Everything the model computes for `tokens`.
 *
 * With `before`, a trace of the same tokens, layers below `firstLayer` are taken from it.
 * @param {Model} model
 * @param {number[]} tokens
 * @param {(layer: number, head: number) => ChangeWeights | null} [changeOf]
 * @param {Trace | null} [before]
 * @param {number} [firstLayer]
 * @returns {Trace}
 */
export function forward(model, tokens, changeOf, before, firstLayer) {
  const slices = forwardInSlices(model, tokens, changeOf, before, firstLayer);
  for (;;) {
    const { done, value } = slices.next();
    if (done) return value;
  }
}

/** The same, with pauses in which others may work.
 * @param {Model} model
 * @param {number[]} tokens
 * @param {(layer: number, head: number) => ChangeWeights | null} changeOf
 * @param {Trace | null} before
 * @returns {Generator<undefined, Trace, void>}
 */
export function* forwardInSlices(
  model,
  tokens,
  changeOf = () => null,
  before = null,
  firstLayer = 0,
) {
  const T = tokens.length;
  let x = embed(model, tokens);
  const layers = [];
  for (let layer = 0; layer < model.config.n_layer; layer++) {
    const known = layer < firstLayer ? before?.layers[layer] : null;
    layers.push(known ?? (yield* blockOf(model, layer, x, T, changeOf)));
    x = layers[layer].output;
    yield;
  }
  return { tokens, T, layers, final: x, logits: readOut(model, x) };
}

/** A trace of what torch computed, for a model whose weights are not in the page. It has heads and
 * logits only; what needs more of it is hidden.
 * @param {Model} model
 * @param {number[]} tokens
 * @param {Matrix} numbers
 */
export function replay(model, tokens, numbers) {
  const T = tokens.length;
  const { n_layer: L, n_head: H } = model.config;
  const size = T * model.D;
  const layers = range(L).map((layer) => ({
    heads: range(H).map((head) =>
      attend(
        QKV.map((_, part) => row(numbers, (layer * 3 + part) * H + head, size)),
        T,
      ),
    ),
  }));
  const logits = numbers.subarray(L * 3 * H * size);
  return /** @type {Trace} */ ({ tokens, T, layers, logits });
}

// --- what follows from the logits --------------------------------------------------------------

/** The model's distribution (V) over the character that follows `position`.
 * @param {Model} model
 * @param {Matrix} logits  (T, V)
 * @param {number} position
 */
export function oddsAt(model, logits, position) {
  return softmax(row(logits, position, model.V));
}

/** The probability of the text's own next character at each position but the last.
 * @param {Model} model
 * @param {Trace} trace
 */
export function ownOdds(model, { tokens, logits }) {
  return tokens.slice(1).map((id, t) => oddsAt(model, logits, t)[id]);
}

/** Mean loss in nats of the text's own next characters, and null for a text of one.
 * @param {Model} model
 * @param {Trace} trace
 */
export function lossOf(model, trace) {
  const odds = ownOdds(model, trace);
  return odds.length ? -total(odds.map(Math.log)) / odds.length : null;
}
