/* The forward pass of gpt/model.py, which keeps all that it passes through.
 *
 * T characters, C = n_embd, H = n_head, D = head_size, V characters in the alphabet. A head is as
 * the notes have it: q, k, v (T, D), scores and weights (T, T), out (T, D).
 */

const LAYER_EPS = 1e-5; // torch's default
const RMS_EPS = 1e-6; // as in model.py

/** A model that can run: its config, its alphabet and its weights by their names in model.py. */
async function loadModel(data) {
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

/** How a norm maps a row x: a scale, and for LayerNorm a mean, a gain and a bias beside it. */
function normOf(model, name, x) {
  const kind = model.config.norm;
  if (kind === "none") return null;
  const mean = kind === "layer" ? total(x) / x.length : 0;
  let square = 0;
  for (const value of x) square += (value - mean) ** 2;
  const scale = 1 / Math.sqrt(square / x.length + (kind === "layer" ? LAYER_EPS : RMS_EPS));
  return {
    scale,
    gain: model.tensors.get(`${name}.weight`),
    bias: model.tensors.get(`${name}.bias`),
  };
}

/** A norm with its scale frozen is linear: what becomes of `part`, one of the summands of x. */
function applyNorm(norm, part, withBias) {
  if (!norm) return part;
  const mean = norm.gain ? total(part) / part.length : 0;
  return part.map(
    (value, i) =>
      (value - mean) * norm.scale * (norm.gain ? norm.gain[i] : 1) +
      (withBias && norm.bias ? norm.bias[i] : 0),
  );
}

function normalise(model, name, x, width) {
  const y = new Float32Array(x.length);
  for (let i = 0; i < x.length / width; i++) {
    const from = row(x, i, width);
    y.set(applyNorm(normOf(model, name, from), from, true), i * width);
  }
  return y;
}

/** The residual stream's first state: which character, and where it stands. */
function embed(model, tokens, positionOf = (t) => t) {
  const { C, tensors, config } = model;
  const x = new Float32Array(tokens.length * C);
  tokens.forEach((id, t) => {
    const character = row(tensors.get("token_embedding.weight"), id, C);
    const learned = config.positions === "learned";
    x.set(
      learned
        ? add(character, row(tensors.get("position_embedding.weight"), positionOf(t), C))
        : character,
      t * C,
    );
  });
  return config.embedding_norm ? normalise(model, "embedding_norm", x, C) : x;
}

/** Rotary positions: each pair of dimensions (i, i + D/2) turned by an angle that grows with t. */
function rotate(vector, position) {
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

/** Rows [h D, (h + 1) D) of a layer's query, key or value matrix: those of head h, (D, C). */
function headMatrix(model, layer, head, what) {
  return row(
    model.tensors.get(`blocks.${layer}.attention.${what}.weight`),
    head,
    model.D * model.C,
  );
}

/** Query, key or value of each row of x (n, C), which is normalised already: (n, D). */
function project(model, layer, head, what, x, positionOf = (t) => t) {
  const { D, C, config } = model;
  const vectors = linear(x, headMatrix(model, layer, head, what), C);
  if (what === "value") return vectors;
  for (let t = 0; t < vectors.length / D; t++) {
    let vector = row(vectors, t, D);
    if (config.positions === "rotary") vector = rotate(vector, positionOf(t));
    const scale = config.qk_norm ? qkScale(vector) : 1;
    vectors.set(
      vector.map((value) => value * scale),
      t * D,
    );
  }
  return vectors;
}

function qkScale(vector) {
  return 1 / Math.sqrt(dot(vector, vector) / vector.length + RMS_EPS);
}

/** Scores q.k / sqrt(D) of every pair (T, T), those into the future too: the mask comes later. */
function scoresOf(q, k, T, D) {
  const scores = new Float32Array(T * T);
  for (let i = 0; i < T; i++) {
    for (let j = 0; j < T; j++) scores[i * T + j] = dot(row(q, i, D), row(k, j, D)) / Math.sqrt(D);
  }
  return scores;
}

/** Mask and softmax: row i shares one whole out among the characters 0 to i. */
function weightsOf(scores, T) {
  const weights = new Float32Array(T * T);
  for (let i = 0; i < T; i++) {
    weights.set(softmax(scores.subarray(i * T, i * T + i + 1)), i * T);
  }
  return weights;
}

/** Each row of out (T, D) is a mixture of the rows of v. */
function mix(weights, v, T, D) {
  const out = new Float32Array(T * D);
  for (let i = 0; i < T; i++) {
    for (let j = 0; j <= i; j++) {
      const weight = weights[i * T + j];
      for (let d = 0; d < D; d++) out[i * D + d] += weight * v[j * D + d];
    }
  }
  return out;
}

function headOf(model, layer, head, normed, T, edit) {
  const [q, k, v] = ["query", "key", "value"].map((what) =>
    project(model, layer, head, what, normed),
  );
  const scores = scoresOf(q, k, T, model.D);
  const weights = edit ? edit(weightsOf(scores, T), T) : weightsOf(scores, T);
  return { q, k, v, scores, weights, out: mix(weights, v, T, model.D) };
}

function sideBySide(heads, T, D) {
  const C = heads.length * D;
  const joined = new Float32Array(T * C);
  heads.forEach((head, h) => {
    for (let t = 0; t < T; t++) joined.set(row(head.out, t, D), t * C + h * D);
  });
  return joined;
}

const ACTIVATIONS = {
  relu: (x) => Math.max(x, 0),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  relu2: (x) => Math.max(x, 0) ** 2,
};

/** Block `layer` of input x (T, C). `editOf(layer, head)` may give a function that changes weights. */
function blockOf(model, layer, input, T, editOf) {
  const { C, D, tensors, config } = model;
  const name = `blocks.${layer}`;
  const project_ = (part, x, width) =>
    config.residual
      ? linear(
          x,
          tensors.get(`${name}.${part}.projection.weight`),
          width,
          tensors.get(`${name}.${part}.projection.bias`),
        )
      : x;
  const normed = normalise(model, `${name}.attention_norm`, input, C);
  const heads = Array.from({ length: config.n_head }, (_, head) =>
    headOf(model, layer, head, normed, T, editOf(layer, head)),
  );
  const attended = project_("attention", sideBySide(heads, T, D), C);
  const middle = config.residual ? add(input, attended) : attended;
  if (config.feed_forward === "none") return { input, normed, heads, attended, output: middle };
  const hidden = linear(
    normalise(model, `${name}.feed_forward_norm`, middle, C),
    tensors.get(`${name}.feed_forward.up.weight`),
    C,
    tensors.get(`${name}.feed_forward.up.bias`),
  ).map(ACTIVATIONS[config.feed_forward]);
  const thought = project_("feed_forward", hidden, hidden.length / T);
  const output = config.residual ? add(middle, thought) : thought;
  return { input, normed, heads, attended, middle, thought, output };
}

/** Logits (T, V) of the last state of the residual stream (T, C). */
function readOut(model, x) {
  const { C, tensors, config } = model;
  const normed = normalise(model, "norm", x, C);
  const logits = config.n_embd
    ? linear(normed, tensors.get("lm_head.weight"), C, tensors.get("lm_head.bias"))
    : normed;
  const cap = config.logit_softcap;
  return cap ? logits.map((value) => cap * Math.tanh(value / cap)) : logits;
}

/** Everything the model computes for `tokens`.
 *
 * With `before`, a trace of the same tokens, layers below `firstLayer` are taken from it.
 */
function forward(model, tokens, editOf = () => null, before = null, firstLayer = 0) {
  const T = tokens.length;
  let x = embed(model, tokens);
  const layers = [];
  for (let layer = 0; layer < model.config.n_layer; layer++) {
    layers.push(
      before && layer < firstLayer ? before.layers[layer] : blockOf(model, layer, x, T, editOf),
    );
    x = layers[layer].output;
  }
  return { tokens, T, layers, final: x, logits: readOut(model, x) };
}

/** A trace of what torch computed, for a model whose weights are too large to travel. */
function replay(model, tokens, numbers) {
  const T = tokens.length;
  const { n_layer: L, n_head: H } = model.config;
  const size = T * model.D;
  const take = (layer, head, what) => row(numbers, (layer * 3 + what) * H + head, size);
  const layers = Array.from({ length: L }, (_, layer) => ({
    heads: Array.from({ length: H }, (_, head) => {
      const [q, k, v] = [0, 1, 2].map((what) => take(layer, head, what));
      const scores = scoresOf(q, k, T, model.D);
      const weights = weightsOf(scores, T);
      return { q, k, v, scores, weights, out: mix(weights, v, T, model.D) };
    }),
  }));
  return { tokens, T, layers, logits: numbers.subarray(L * 3 * H * size) };
}
