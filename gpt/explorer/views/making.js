/* The first steps of view 7: how the query of one character, and the key and the value of the one
 * that it looks at, are made.
 */

import { app, characterAt, hasWeights } from "../app.js";
import { inRole } from "../html.js";
import { headMatrix, QKV, rotate, shareOf } from "../model.js";
import { lengthOf, linear, row } from "../numbers.js";
import { glyph, number, saidAt } from "../words.js";
import { asker, headVector, lookedAt } from "./common.js";
import { strip, withLength } from "./step.js";

/** @import { Matrix } from "../numbers.js" */
/** @import { Step, Strip } from "./step.js" */

/** From two characters to the query of one, and the key and the value of the other.
 * @returns {Step[]}
 */
export function makingSteps() {
  return hasWeights() ? [...streamSteps(), ...projectionSteps()] : [givenVectorsStep()];
}

/** The selected query and the selected key, which may be the same.
 * @returns {{role: string, position: number}[]}
 */
function bothSides() {
  const { query, key } = app.state;
  const sides = [
    { role: "query", position: query },
    { role: "key", position: key },
  ];
  return query === key ? sides.slice(0, 1) : sides;
}

/** The query, the key and the value, as far as there are vectors of them.
 * @param {Matrix[]} vectors
 * @returns {Strip[]}
 */
function roleStrips(vectors) {
  const { query, key } = app.state;
  const positions = [query, key, key];
  return vectors.map((values, i) => strip(`${QKV[i]} of ${nameAt(positions[i])}`, values, QKV[i]));
}

/** y at 37
 * @param {number} position
 */
function nameAt(position) {
  return `${glyph(characterAt(position))} at ${position + 1}`;
}

/** From the characters to the vectors that the layer reads.
 * @returns {Step[]}
 */
function streamSteps() {
  const { model, trace, state } = app;
  const { config, C } = model;
  const block = trace.layers[state.layer];
  const learned = config.positions === "learned";
  const shape = `(T, C) = (${trace.T}, ${C})`;
  const rows = (/** @type {Matrix} */ states, /** @type {string} */ what) =>
    bothSides().map(({ position, role }) =>
      strip(`${what} of ${nameAt(position)}`, row(states, position, C), role),
    );
  const embedding = {
    title: "Embed: a character becomes a vector",
    line: config.token_shift ? "shift" : learned ? "position" : "embed",
    shape: `x ${shape}`,
    words: [
      ...bothSides().flatMap(({ role, position }) => originOf(role, position)),
      config.embedding_norm ? "The embedding is then normalised. " : "",
      "Ids and rows are counted from 0, as in the code; characters from 1.",
    ],
    strips: [...bothSides().flatMap(shareStrips), ...rows(trace.layers[0].input, "x")],
  };
  if (config.norm === "none") return [embedding];
  const normalising = {
    title: `Normalise the input of layer ${state.layer + 1}`,
    line: "norm",
    shape,
    words: ["The norm brings the vectors of all characters to a common scale."],
    strips: [...rows(block.input, "before"), ...rows(block.normed, "x")].map(withLength),
  };
  return [embedding, normalising];
}

/** Which rows of the embeddings a character's x comes from.
 * @param {string} role
 * @param {number} position
 */
function originOf(role, position) {
  const id = app.trace.tokens[position];
  const learned = app.model.config.positions === "learned";
  const before = idBefore(position);
  const share =
    before === undefined ? "" : `, plus a share of row ${before}, that of the character before`;
  const place = learned ? `, plus row ${position} of the position embedding` : "";
  return [
    inRole(role, saidAt(position)),
    ` has id ${id}: its x is row ${id} of the token embedding${share}${place}. `,
  ];
}

/** The id of the character before, where token_shift gives a share of it.
 * @param {number} position
 */
function idBefore(position) {
  return app.model.config.token_shift ? app.trace.tokens[position - 1] : undefined;
}

/** @param {{role: string, position: number}} side */
function shareStrips({ role, position }) {
  const before = idBefore(position);
  const name = `share for ${nameAt(position)}`;
  return before === undefined ? [] : [strip(name, shareOf(app.model, before), role)];
}

/** Query, key and value, and what is done to query and key before the score.
 * @returns {Step[]}
 */
function projectionSteps() {
  const { model, trace, state } = app;
  const { layer, head, query, key } = state;
  const { config, C, D } = model;
  const x = (/** @type {number} */ position) => row(trace.layers[layer].normed, position, C);
  const matrices = QKV.map((what) => headMatrix(model, layer, head, what));
  let vectors = [query, key, key].map((position, i) => linear(x(position), matrices[i], C));
  const [made, ...others] = roleStrips(vectors);
  const inputs = [query, key].map((position) =>
    strip(`x of ${nameAt(position)}`, x(position), "ink"),
  );
  /** @type {Step[]} */
  const steps = [
    {
      title: "Three linear maps of x: query, key and value",
      line: "qkv",
      shape: `Wq, Wk, Wv (D, C) = (${D}, ${C}); q, k, v (T, D) = (${trace.T}, ${D})`,
      words: [
        ...captions(),
        ". Each number is the product of one row of a matrix with x. Stronger entries of a matrix are larger.",
      ],
      strips: [inputs[0], made, ...(query === key ? [] : inputs.slice(1)), ...others],
      matrices: QKV.map((role, i) => ({ name: `W${role[0]}`, values: matrices[i], role })),
    },
  ];
  if (config.positions === "rotary") {
    vectors = [rotate(vectors[0], query), rotate(vectors[1], key)];
    steps.push(rotatingStep(vectors));
  }
  if (config.qk_norm) steps.push(normalisingStep(vectors));
  return steps;
}

/** @param {Matrix[]} vectors  the query and the key after it @returns {Step} */
function rotatingStep(vectors) {
  const { query, key } = app.state;
  return {
    title: "Rotate query and key by their position",
    line: "rotary",
    shape: `(T, D) = (${app.trace.T}, ${app.model.D})`,
    words: [
      "Each pair of dimensions is rotated by an angle that grows with the position, here ",
      `${query + 1} and ${key + 1}. The score then depends on the distance between query and key, ${query - key}.`,
    ],
    strips: roleStrips(vectors),
  };
}

/** @param {Matrix[]} vectors  the query and the key before it, and more @returns {Step} */
function normalisingStep(vectors) {
  const { query, key } = app.state;
  const root = number(Math.sqrt(app.model.D));
  const [q, k] = vectors.map((vector) => number(lengthOf(vector)));
  return {
    title: "Normalise query and key",
    line: "qk_norm",
    shape: `|q| = |k| = √D = ${root}`,
    words: [
      `Their lengths were ${q} and ${k}. Only their directions matter now, and no score can exceed √D = ${root}.`,
    ],
    strips: roleStrips([headVector("q", query), headVector("k", key)]),
  };
}

/** The same where the page has no weights.
 * @returns {Step}
 */
function givenVectorsStep() {
  const { query, key } = app.state;
  return {
    title: "Three linear maps of x: query, key and value",
    line: "qkv",
    shape: `q, k, v (T, D) = (${app.trace.T}, ${app.model.D})`,
    words: [...captions(), ", as the scores use them."],
    strips: roleStrips([headVector("q", query), headVector("k", key), headVector("v", key)]),
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
    ". Here are the query of ",
    asker(),
    ", and the key and the value of ",
    lookedAt(),
  ];
}
