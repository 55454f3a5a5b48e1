/* What the views share. */

import { app, openHead } from "../app.js";
import { barRows, inRole } from "../html.js";
import { lossOf } from "../model.js";
import { row } from "../numbers.js";
import { glyph, number, percent, saidAt } from "../words.js";

/** @import { Matrix } from "../numbers.js" */

/** The two sides of a matrix: title, and the role whose colour it has. */
export const ASKS = { title: "query", role: "query" };
export const LOOKED_AT = { title: "key", role: "key" };

/** The selected query, in words. */
export function asker() {
  return inRole("query", saidAt(app.state.query));
}

/** The selected key, in words. */
export function lookedAt() {
  return inRole("key", saidAt(app.state.key));
}

/** @param {"q" | "k" | "v" | "out"} what @param {number} position */
export function headVector(what, position) {
  return row(openHead()[what], position, app.model.D);
}

/** The weight of the selected key.
 * @param {Matrix} matrix  (T, T), weights or scores
 */
export function selectedOf(matrix) {
  return matrix[app.state.query * app.trace.T + app.state.key];
}

/** The loss of the text, and what it was before the reader's changes. A text of one has none. */
export function lossInWords() {
  const { model, untouched, trace } = app;
  const [before, now] = [untouched, trace].map((read) => lossOf(model, read));
  if (before === null || now === null) return "";
  const former = trace === untouched ? "" : `${number(before, 3)} → `;
  return `Loss of this text: ${former}${number(now, 3)} nats per character.`;
}

/** Bars of the probabilities of characters `ids`; with `before`, their former ones are marked.
 * @param {number[]} ids
 * @param {Matrix} odds  (V)
 * @param {{before?: Matrix, next?: number}} options  `next`: the text's own next character
 */
export function oddsBars(ids, odds, { before, next }) {
  return barRows(
    ids.map((id) => ({
      name: glyph(app.model.alphabet[id]),
      to: odds[id],
      text: (before ? `${percent(before[id])} → ` : "") + percent(odds[id]),
      role: "output",
      marked: id === next,
      ghost: before ? before[id] : null,
    })),
  );
}
