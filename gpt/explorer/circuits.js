/* What a head does, measured on the text itself, and where its numbers come from. */

/** What a head may look at, as gpt/attention/roles.py defines it, which a test holds this to.
 * `picks(tokens, i, j)`: does position i, asking, find it at j? */
const ROLES = [
  { name: "previous character", picks: (tokens, i, j) => j === i - 1 },
  { name: "itself", picks: (tokens, i, j) => j === i },
  { name: "first character of the text", picks: (tokens, i, j) => j === 0 },
  {
    name: "earlier copies of itself",
    picks: (tokens, i, j) => j < i && tokens[j] === tokens[i],
  },
  {
    name: "what followed it last time (induction)",
    picks: (tokens, i, j) => j > 0 && j < i && tokens[j - 1] === tokens[i],
  },
];

/** How much of its weight a head gives to each role, beside what equal weights would give.
 *
 * Only queries count that have a choice and something to find; NaN if there are none.
 */
function rolesOf(weights, tokens) {
  const T = tokens.length;
  return ROLES.map(({ name, picks }) => {
    let [share, uniform, count] = [0, 0, 0];
    for (let i = 1; i < T; i++) {
      let [found, given] = [0, 0];
      for (let j = 0; j <= i; j++) {
        if (!picks(tokens, i, j)) continue;
        found += 1;
        given += weights[i * T + j];
      }
      if (!found) continue;
      share += given;
      uniform += found / (i + 1);
      count += 1;
    }
    return { name, share: share / count, uniform: uniform / count };
  });
}

/** Mean entropy of the rows as a share of the most there can be: 0 one character, 1 all alike. */
function spreadOf(weights, T) {
  let sum = 0;
  for (let i = 1; i < T; i++) {
    let entropy = 0;
    for (let j = 0; j <= i; j++) {
      const weight = weights[i * T + j];
      if (weight > 0) entropy -= weight * Math.log(weight);
    }
    sum += entropy / Math.log(i + 1);
  }
  return T > 1 ? sum / (T - 1) : 0;
}

/** Mean number of characters that the weights reach back, and what equal weights would reach. */
function reachOf(weights, T) {
  let [reach, uniform] = [0, 0];
  for (let i = 1; i < T; i++) {
    for (let j = 0; j <= i; j++) reach += weights[i * T + j] * (i - j);
    uniform += i / 2;
  }
  return { share: reach / (T - 1), uniform: uniform / (T - 1) };
}

/** 0 at chance, 1 for a head that does nothing else. */
function lift({ share, uniform }) {
  return uniform < 1 ? (share - uniform) / (1 - uniform) : 0;
}

/** The role that stands out most from chance. */
function mainRole(weights, tokens) {
  return rolesOf(weights, tokens).reduce((best, role) => (lift(role) > lift(best) ? role : best));
}

// --- where a score came from -------------------------------------------------------------------

/** What wrote into the stream that layer `layer` reads at `position`: parts that sum to it. */
function streamParts(model, trace, layer, position) {
  let parts = embeddingParts(model, trace.tokens[position], position);
  for (let earlier = 0; earlier < layer; earlier++) {
    const written = blockParts(model, trace.layers[earlier], earlier, position);
    parts = model.config.residual ? [...parts, ...written] : written;
  }
  return parts;
}

function embeddingParts(model, token, position) {
  const { C, tensors, config } = model;
  const parts = [
    { name: "character", vector: row(tensors.get("token_embedding.weight"), token, C) },
  ];
  if (config.positions === "learned") {
    parts.push({
      name: "position",
      vector: row(tensors.get("position_embedding.weight"), position, C),
    });
  }
  return config.embedding_norm
    ? normParts(model, "embedding_norm", parts, "embedding norm's bias")
    : parts;
}

/** The parts of a norm's output, its scale frozen; a bias of its own becomes one more part. */
function normParts(model, name, parts, biasName) {
  const norm = normOf(model, name, parts.map((part) => part.vector).reduce(add));
  const normed = parts.map((part) => ({ ...part, vector: applyNorm(norm, part.vector, false) }));
  return norm?.bias ? [...normed, { name: biasName, vector: norm.bias }] : normed;
}

function blockParts(model, block, layer, position) {
  const { C, D, config, tensors } = model;
  if (block.thought && !config.residual) {
    return [{ name: `L${layer + 1} feed-forward`, vector: row(block.thought, position, C) }];
  }
  const parts = block.heads.map((head, h) => ({
    name: headName(layer, h),
    vector: writtenBy(model, layer, h, row(head.out, position, D)),
  }));
  const bias = config.residual && tensors.get(`blocks.${layer}.attention.projection.bias`);
  if (bias) parts.push({ name: `L${layer + 1} projection's bias`, vector: bias });
  if (block.thought)
    parts.push({ name: `L${layer + 1} feed-forward`, vector: row(block.thought, position, C) });
  return parts;
}

/** What a head writes into the stream (n, C) for its output `out` (n, D). */
function writtenBy(model, layer, head, out) {
  const { C, D, config, tensors } = model;
  const written = new Float32Array((out.length / D) * C);
  const projection = config.residual && tensors.get(`blocks.${layer}.attention.projection.weight`);
  for (let t = 0; t < out.length / D; t++) {
    const vector = row(out, t, D);
    if (!projection) written.set(vector, t * C + head * D);
    else {
      for (let c = 0; c < C; c++) {
        written[t * C + c] = dot(
          vector,
          projection.subarray(c * C + head * D, c * C + (head + 1) * D),
        );
      }
    }
  }
  return written;
}

/** Parts of a head's query or key at `position`; with the norms' scales frozen they sum to it. */
function vectorParts(model, trace, { layer, head, position, what }) {
  const { C, config } = model;
  const name = `blocks.${layer}.attention_norm`;
  const matrix = headMatrix(model, layer, head, what);
  const parts = normParts(
    model,
    name,
    streamParts(model, trace, layer, position),
    "norm's bias",
  ).map((part) => {
    const vector = linear(part.vector, matrix, C);
    return { ...part, vector: config.positions === "rotary" ? rotate(vector, position) : vector };
  });
  if (!config.qk_norm) return parts;
  const scale = qkScale(parts.map((part) => part.vector).reduce(add));
  return parts.map((part) => ({ ...part, vector: part.vector.map((value) => value * scale) }));
}

/** The score of query i and key j as a sum over pairs: what wrote the query × what wrote the key. */
function scoreParts(model, trace, { layer, head, query, key }) {
  const asked = vectorParts(model, trace, { layer, head, position: query, what: "query" });
  const held = vectorParts(model, trace, { layer, head, position: key, what: "key" });
  const scores = asked.map((a) => held.map((b) => dot(a.vector, b.vector) / Math.sqrt(model.D)));
  return {
    scores,
    queries: asked.map((part, a) => ({ name: part.name, score: total(scores[a]) })),
    keys: held.map((part, b) => ({ name: part.name, score: total(scores.map((line) => line[b])) })),
  };
}

// --- a head's rule over the alphabet -----------------------------------------------------------

/** Does what the embedding wrote still stand in the stream that `layer` reads? */
function readsEmbedding(model, layer) {
  return layer === 0 || model.config.residual;
}

/** Is what the heads of `layer` write still in the stream that the logits are read from? */
function reachesLogits(model, layer) {
  const { residual, n_layer, feed_forward } = model.config;
  return residual || (layer === n_layer - 1 && feed_forward === "none");
}

/** Queries, keys or values (n, D) of characters `ids` at their positions, if the stream that the
 * layer reads held their embeddings and nothing else. In layer 1 that is all there is. */
function projectAlone(model, { layer, head, what, ids, positionOf }) {
  const x = normalise(
    model,
    `blocks.${layer}.attention_norm`,
    embed(model, ids, positionOf),
    model.C,
  );
  return project(model, layer, head, what, x, positionOf);
}

/** Scores (n, n) of every character at position `query` and every character at position `key`. */
function characterScores(model, { layer, head, ids, query, key }) {
  const q = projectAlone(model, { layer, head, what: "query", ids, positionOf: () => query });
  const k = projectAlone(model, { layer, head, what: "key", ids, positionOf: () => key });
  return scoresOf(q, k, ids.length, model.D);
}

/** Scores (T, T) of character `asks` at every position and character `held` at every position. */
function placeScores(model, { layer, head, asks, held, T }) {
  const everywhere = (what, id) =>
    projectAlone(model, { layer, head, what, ids: Array(T).fill(id), positionOf: (t) => t });
  return scoresOf(everywhere("query", asks), everywhere("key", held), T, model.D);
}

/** If full weight went to each character at `key`, what the head would add to the logits (n, V).
 *
 * Straight from the head to the logits, the final norm's scale held as it is for `final`, the
 * stream's last state (C) at the query. A shift of all logits changes no odds: each row's mean is 0.
 */
function outputRises(model, { layer, head, ids, key, final }) {
  const { C, V, tensors } = model;
  const v = projectAlone(model, { layer, head, what: "value", ids, positionOf: () => key });
  const written = writtenBy(model, layer, head, v);
  const norm = normOf(model, "norm", final);
  const rises = new Float32Array(ids.length * V);
  ids.forEach((_, n) => {
    const logits = linear(
      applyNorm(norm, row(written, n, C), false),
      tensors.get("lm_head.weight"),
      C,
    );
    const mean = total(logits) / V;
    rises.set(
      logits.map((value) => value - mean),
      n * V,
    );
  });
  return rises;
}

// --- changes by hand ---------------------------------------------------------------------------

/** Ways to replace a head's weights (T, T), by name. */
const EDITS = {
  mute: { label: "muted", weigh: () => 0 },
  uniform: { label: "the same weight for all", weigh: (i, j) => (j <= i ? 1 / (i + 1) : 0) },
  self: { label: "only itself", weigh: (i, j) => (j === i ? 1 : 0) },
  previous: {
    label: "only the previous character",
    weigh: (i, j) => (j === Math.max(i - 1, 0) ? 1 : 0),
  },
};

/** Weights (T, T) as `edit` has them: all of one of EDITS, or one weight set and the rest of its
 * row scaled so that the row still sums to one. */
function edited(weights, T, edit) {
  if (edit.kind !== "set") {
    return Float32Array.from(weights, (_, n) => EDITS[edit.kind].weigh(Math.floor(n / T), n % T));
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

/** Mean loss in nats of the text's own next characters, and null for a text of one. */
function lossOf(trace, V) {
  if (trace.T < 2) return null;
  let sum = 0;
  for (let t = 0; t < trace.T - 1; t++)
    sum -= Math.log(softmax(row(trace.logits, t, V))[trace.tokens[t + 1]]);
  return sum / (trace.T - 1);
}

function headName(layer, head) {
  return `L${layer + 1}H${head + 1}`;
}
