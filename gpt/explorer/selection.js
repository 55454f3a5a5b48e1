/* The selection, and the pointer and keys that change it. */

import { leave, remember } from "./address.js";
import { app, hasHeads, openHead } from "./app.js";
import { drawSoon } from "./drawing.js";
import { headName } from "./model.js";
import { ranked, row } from "./numbers.js";

/** @import { Selection } from "./app.js" */

/** Show another selection. Where it names no key, the key is the one with the largest weight.
 * @param {Partial<Selection>} change
 */
export function select(change) {
  const { state, trace } = app;
  const { query, layer, head } = state;
  Object.assign(state, change);
  const moved = query !== state.query || layer !== state.layer || head !== state.head;
  if (hasHeads() && (moved || state.key > state.query) && !("key" in change)) {
    const weights = row(openHead().weights, state.query, trace.T).subarray(0, state.query + 1);
    state.key = ranked(weights)[0];
  }
  drawSoon("selection");
}

/** The pointer is over a character: preview it as the query, or as the key while a query is held.
 * @param {number | null} position
 * @param {number} [key]
 */
export function point(position, key) {
  if (position === null) return;
  const { locked, query, direction } = app.state;
  if (!locked) select(key === undefined ? { query: position } : { query: position, key });
  else if (key === undefined && direction === "from" && position <= query)
    select({ key: position });
}

/** A click: hold a character, or let go of the one that is held.
 * @param {number | null} position
 * @param {number} [key]
 */
export function hold(position, key) {
  if (position === null) return;
  const { locked, query } = app.state;
  const again = locked && query === position && (key === undefined || key === app.state.key);
  select({ query: position, ...(key === undefined ? {} : { key }), locked: !again });
  remember();
}

/** @param {number} layer @param {number} head */
export function selectHead(layer, head) {
  select({ layer, head });
  remember();
}

/** Open a head at a query, and keep the way back to a section.
 * @param {{layer: number, head: number, query: number}} place
 * @param {string} section
 */
export function visit({ layer, head, query }, section) {
  const { state } = app;
  leave(`${headName(state.layer, state.head)} at ${state.query + 1}`, section);
  select({ layer, head, query, locked: true });
  remember();
}

/** Arrows move the query, up and down the head, page keys the layer, shift and arrows the key.
 * @param {KeyboardEvent} event
 */
export function walk(event) {
  const onButton = event.target instanceof Element && event.target.closest("button");
  const presses = onButton && (event.key === "Enter" || event.key === " ");
  const change = moveOf(event.key, event.shiftKey);
  if (!change || presses || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  select(hasHeads() ? change : { query: change.query ?? app.state.query });
  remember();
}

/** What a key changes, if it is one of ours.
 * @param {string} name
 * @param {boolean} shift
 * @returns {Partial<Selection> | null}
 */
function moveOf(name, shift) {
  const { state, trace } = app;
  const { n_layer: L, n_head: H } = app.model.config;
  const within = (/** @type {number} */ value, /** @type {number} */ count) =>
    Math.min(Math.max(value, 0), count - 1);
  const sideways = (/** @type {number} */ step) =>
    shift
      ? { key: within(state.key + step, state.query + 1) }
      : { query: within(state.query + step, trace.T) };
  switch (name) {
    case "ArrowLeft":
      return sideways(-1);
    case "ArrowRight":
      return sideways(1);
    case "Home":
      return { query: 0 };
    case "End":
      return { query: trace.T - 1 };
    case "ArrowUp":
      return { head: within(state.head - 1, H) };
    case "ArrowDown":
      return { head: within(state.head + 1, H) };
    case "PageUp":
      return { layer: within(state.layer - 1, L) };
    case "PageDown":
      return { layer: within(state.layer + 1, L) };
    case "Enter":
    case " ":
      return { locked: !state.locked };
    case "Escape":
      return { locked: false };
    default:
      return null;
  }
}
