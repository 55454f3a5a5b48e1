/* The selection and the reader's text in the page's address. */

import { app, CLOSED } from "./app.js";
import { headName } from "./model.js";

/** @import { Selection } from "./app.js" */

/** The address of the reader's text with a selection of it.
 * @param {Selection} selection
 */
export function addressOf({ layer, head, query, key, locked, direction, share, stage }) {
  const fields = new URLSearchParams({
    head: headName(layer, head),
    lesson: app.state.lesson === CLOSED ? "closed" : String(app.state.lesson + 1),
    query: String(query + 1),
    key: String(key + 1),
    held: String(Number(locked)),
    show: direction,
    share: String(Math.round(100 * share)),
    stage,
  });
  if (app.text !== app.data.text) fields.set("text", app.text);
  return `#${fields}`;
}

export function remember() {
  history.replaceState(history.state, "", addressOf(app.state));
}

/** From here on the address is another place, and the browser's way back leads to this one.
 * @param {string} here  its name
 * @param {string} section  that the reader leaves
 */
export function leave(here, section) {
  history.replaceState({ ...history.state, section }, "", addressOf(app.state));
  history.pushState({ back: here }, "");
}

/** The section that the reader left here, once the way back was taken.
 * @returns {string | undefined}
 */
export function sectionLeft() {
  return history.state?.section;
}

/** The name of the place that the way back leads to.
 * @returns {string | undefined}
 */
export function wayBack() {
  return history.state?.back;
}

/** What the address holds now. */
export function remembered() {
  return new URLSearchParams(location.hash.slice(1));
}

/** The part of an address's selection that makes sense for the model and its text.
 * @param {URLSearchParams} fields
 * @returns {Partial<Selection>}
 */
export function selectionOf(fields) {
  const { n_layer: L, n_head: H } = app.model.config;
  const whole = (
    /** @type {string} */ name,
    /** @type {number} */ from,
    /** @type {number} */ to,
  ) => {
    const value = Number(fields.get(name));
    return Number.isInteger(value) && value >= from && value <= to ? value : null;
  };
  /** @type {Partial<Selection>} */
  const found = { locked: fields.get("held") === "1" };
  const [, layer, head] = /^L(\d+)H(\d+)$/.exec(fields.get("head") ?? "")?.map(Number) ?? [];
  if (layer >= 1 && layer <= L && head >= 1 && head <= H)
    Object.assign(found, { layer: layer - 1, head: head - 1 });
  const query = whole("query", 1, app.trace.T);
  const key = query && whole("key", 1, query);
  if (query) found.query = query - 1;
  if (key) found.key = key - 1;
  const share = whole("share", 10, 100);
  if (share) found.share = share / 100;
  const lesson = whole("lesson", 1, app.data.lesson.steps.length);
  if (lesson) found.lesson = lesson - 1;
  if (fields.get("lesson") === "closed") found.lesson = CLOSED;
  const [show, stage] = [fields.get("show"), fields.get("stage")];
  if (show === "from" || show === "to") found.direction = show;
  if (stage === "scores" || stage === "masked" || stage === "weights") found.stage = stage;
  return found;
}
