/* What muting each head costs on the text: a forward pass for each head, in slices, so that the page
 * goes on. gpt/attention/decompose.py's `mute_losses` does the same.
 */

import { allHeads, app, hasHeads, hasWeights } from "./app.js";
import { edited } from "./edits.js";
import { forwardInSlices, lossOf, ownOdds } from "./model.js";

/** @import { ChangeWeights, Trace } from "./model.js" */

const SLICE = 12; // milliseconds of work, and as many of rest
const LONG = 6e7; // products in a block, a tenth of a second: more are computed on demand alone

/**
 * What muting a head costs: the rise of the text's loss [nats a character], and the probability that
 * is left to the text's next character at each position but the last.
 * @typedef {{rise: number, odds: number[]}} Cost
 */

/** By text: the cost of each head, in the order of `allHeads`, as far as they are known. They are
 * those of the model as it is, whatever the reader changes.
 * @type {Map<string, Cost[]>}
 */
const known = new Map();

/** The costs of as many heads as are known; undefined until they are asked for. */
export function muteCosts() {
  return known.get(app.text);
}

/** Is there a loss at all, and are there weights to compute it with? */
export function hasMuteCosts() {
  return hasHeads() && hasWeights() && app.untouched.T > 1;
}

/** Does a block of this text keep the page busy for longer than a reader bears? */
export function isLong() {
  const { data, model, untouched } = app;
  return (data.parameters / model.config.n_layer) * untouched.T > LONG;
}

/** Compute the costs on the text as it is now, unless they are known.
 * @param {() => void} show  is called after each head
 */
export function findMuteCosts(show) {
  const { text, untouched } = app;
  if (!hasMuteCosts() || known.has(text)) return;
  const costs = /** @type {Cost[]} */ ([]);
  known.set(text, costs);
  const found = costsOf(untouched);
  const goOn = () => {
    if (app.text !== text) {
      known.delete(text); // begun for a text that is gone
      return;
    }
    const pause = performance.now() + SLICE;
    while (performance.now() < pause) {
      const { done, value } = found.next();
      if (done) return;
      if (value === undefined) continue;
      costs.push(value);
      show();
    }
    setTimeout(goOn, SLICE);
  };
  setTimeout(goOn);
}

/** The cost of one head after the other, and undefined in between, where there may be a rest.
 * @param {Trace} whole
 * @returns {Generator<Cost | undefined, void, void>}
 */
function* costsOf(whole) {
  const { model } = app;
  const loss = /** @type {number} */ (lossOf(model, whole));
  for (const { layer, head } of allHeads()) {
    const change = (/** @type {number} */ l, /** @type {number} */ h) =>
      l === layer && h === head ? muted : null;
    const without = yield* forwardInSlices(model, whole.tokens, change, whole, layer);
    const rise = /** @type {number} */ (lossOf(model, without)) - loss;
    yield { rise, odds: ownOdds(model, without) };
  }
}

/** @type {ChangeWeights} */
const muted = (weights, T) => edited(weights, T, { kind: "mute" });
