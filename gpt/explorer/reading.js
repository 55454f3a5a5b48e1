/* What the model reads: the reader's text, and the reader's edits of its attention weights. */

import { remember } from "./address.js";
import { allHeads, app } from "./app.js";
import { drawSoon } from "./drawing.js";
import { edited } from "./edits.js";
import { find } from "./html.js";
import { forward, headName } from "./model.js";
import { select } from "./selection.js";
import { said } from "./words.js";

/** @import { Edit } from "./edits.js" */
/** @import { ChangeWeights } from "./model.js" */

/** Run the model on `tokens`, without edits.
 * @param {number[]} tokens
 */
function read(tokens) {
  app.edits = new Map();
  app.untouched = app.trace = forward(app.model, tokens);
  const query = Math.min(app.state.query, tokens.length - 1);
  app.state.query = -1; // so that the query counts as new and its key is looked for
  select({ query });
  drawSoon("trace");
}

/** Read as much of `text` as the model can, and tell what is left out.
 * @param {string} text
 */
export function readText(text) {
  const { ids, config } = app.model;
  const characters = Array.from(text.replace(/\r\n?/g, "\n"));
  const unknown = [...new Set(characters.filter((character) => !ids.has(character)))];
  const readable = characters.filter((character) => ids.has(character));
  const known = readable.slice(-config.block_size);
  const problems = [];
  if (unknown.length)
    problems.push(`left out, because the model does not know them: ${unknown.map(said).join(" ")}`);
  if (readable.length > known.length)
    problems.push(`the model reads the last ${config.block_size} characters, its whole context`);
  if (!known.length) problems.push("type at least one character that the model knows");
  find("own-text-problem").textContent = problems.join("; ");
  if (!known.length) return;
  app.text = known.join("");
  read(tokensOf(app.text));
  remember();
}

/** @param {string} text */
export function tokensOf(text) {
  return Array.from(text, (character) => /** @type {number} */ (app.model.ids.get(character)));
}

/** Run the model again with other edits.
 * @param {Map<string, Edit>} edits
 */
export function changeWeights(edits) {
  const touched = allHeads().filter(({ layer, head }) => {
    const name = headName(layer, head);
    return edits.has(name) || app.edits.has(name);
  });
  const firstLayer = Math.min(...touched.map(({ layer }) => layer));
  app.edits = edits;
  app.trace = edits.size
    ? forward(app.model, app.untouched.tokens, changeOf, app.untouched, firstLayer)
    : app.untouched;
  drawSoon("trace");
}

/** @param {number} layer @param {number} head @returns {ChangeWeights | null} */
function changeOf(layer, head) {
  const edit = app.edits.get(headName(layer, head));
  return edit ? (weights, T) => edited(weights, T, edit) : null;
}
