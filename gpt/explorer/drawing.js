/* When the views are drawn. */

import { find } from "./html.js";

/**
 * "trace": the numbers are new. "selection": another character or head is selected.
 * @typedef {"trace" | "selection"} Change
 *
 * Makes its elements once; what it returns draws them.
 * @typedef {() => Draw | Promise<Draw>} View
 * @typedef {(change: Change) => void} Draw
 */

/** @type {{draw: Draw, catchUp: () => void}[]} */
const views = [];
/** @type {Change | null} */
let pending = null;
let settled = 0;

/** Draw before the next frame; several changes until then are drawn once.
 * @param {Change} change
 */
export function drawSoon(change) {
  if (pending === null) requestAnimationFrame(drawNow);
  if (pending !== "trace") pending = change;
}

function drawNow() {
  const change = /** @type {Change} */ (pending);
  pending = null;
  for (const view of views) view.draw(change);
  clearTimeout(settled);
  settled = setTimeout(() => views.forEach((view) => view.catchUp()), 300);
}

/** Add a view in the section `id`. While it is out of sight, it waits until the selection rests, so
 * that the views in sight follow at once.
 * @param {string} id
 * @param {Draw} draw
 */
export function addView(id, draw) {
  let inSight = true;
  /** @type {Change | null} */
  let waiting = null;
  const catchUp = () => {
    const change = waiting;
    waiting = null;
    if (change) draw(change);
  };
  const observer = new IntersectionObserver((entries) => {
    inSight = entries[entries.length - 1].isIntersecting;
    if (inSight) catchUp();
  });
  observer.observe(find(id));
  views.push({
    catchUp,
    draw(change) {
      waiting = waiting === "trace" ? waiting : change;
      if (inSight) catchUp();
    },
  });
}
