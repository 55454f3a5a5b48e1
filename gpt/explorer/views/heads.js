/* View 2: all heads, each with its main pattern on this text. */

import { allHeads, app } from "../app.js";
import { copyPicture, weightPixels } from "../draw.js";
import { el, find, numbersTable } from "../html.js";
import { headName } from "../model.js";
import { findMuteCosts, hasMuteCosts, isLong, muteCosts } from "../muting.js";
import { ranked } from "../numbers.js";
import { lift, mainRole, reachOf, ROLES, rolesOf, spreadOf } from "../roles.js";
import { selectHead, walk } from "../selection.js";
import { number, percent, signed } from "../words.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Matrix } from "../numbers.js" */

const ASK = "compute what muting each head costs (this takes a while)";

/** @returns {Draw} */
export function headsView() {
  const grid = find("grid");
  grid.style.setProperty("--heads", String(app.model.config.n_head));
  const cells = allHeads().map(({ layer, head }) => headCell(layer, head));
  const numbers = numbersTable(
    "The pattern of every head, and of uniform weights, as a table",
    rolesTable,
  );
  const [worth, ask] = [
    el("p", { id: "worth" }),
    el("button", { type: "button", textContent: ASK }),
  ];
  grid.append(...cells.map((cell) => cell.button));
  grid.before(worth, ask);
  grid.after(numbers);
  grid.addEventListener("keydown", walk);
  const showCosts = () => {
    const costs = muteCosts();
    cells.forEach((cell, n) => cell.showCost(costs[n]));
    worth.textContent = worthOf(costs);
    ask.hidden = !hasMuteCosts() || !isLong() || costs.length > 0;
    numbers.refresh();
  };
  ask.addEventListener("click", () => {
    findMuteCosts(showCosts);
    ask.hidden = true;
  });
  return (change) => {
    for (const cell of cells) {
      cell.showIfOpen();
      if (change === "trace") cell.drawWeights();
    }
    if (change !== "trace") return;
    showCosts();
    if (!isLong()) findMuteCosts(showCosts);
  };
}

/** What is lost with each head, in words: the most and the least.
 * @param {number[]} costs  as far as they are known
 */
function worthOf(costs) {
  const heads = allHeads();
  if (costs.length < heads.length) return "";
  const order = ranked(Float32Array.from(costs));
  const said = (/** @type {number} */ n) =>
    `${headName(heads[n].layer, heads[n].head)} (${signed(costs[n], 3)})`;
  const least = order[order.length - 1];
  const helps = costs[least] < 0 ? ", without which the loss is lower" : "";
  return `On this text, muting ${said(order[0])} costs most, muting ${said(least)} least${helps}.`;
}

/** @param {number} layer @param {number} head */
function headCell(layer, head) {
  const canvas = el("canvas", { ariaHidden: "true" });
  const habit = el("span", { className: "habit" });
  const cost = el("span", { className: "cost" });
  const name = headName(layer, head);
  const button = el(
    "button",
    { type: "button", className: "head-cell" },
    el("b", { textContent: name }),
    canvas,
    habit,
    cost,
  );
  button.addEventListener("click", () => selectHead(layer, head));
  return {
    button,
    showIfOpen() {
      const open = layer === app.state.layer && head === app.state.head;
      button.setAttribute("aria-pressed", String(open));
      button.tabIndex = open ? 0 : -1;
      if (open && button.parentElement?.contains(document.activeElement)) button.focus();
    },
    /** @param {number | undefined} value */
    showCost(value) {
      cost.textContent = value === undefined ? "" : `muting costs ${signed(value, 3)}`;
    },
    drawWeights() {
      const { weights } = app.trace.layers[layer].heads[head];
      copyPicture(canvas, weightPixels(weights, app.trace.T));
      habit.replaceChildren(...(app.edits.has(name) ? ["changed by hand"] : habitOf(weights)));
    },
  };
}

const CLEAR = 0.25; // of the way from chance to always: from here on a head has a role
const NEAR = 0.6; // of the mean distance by chance

/** What a head does, as gpt/attention/roles.py says it, and beside it what uniform weights do.
 * @param {Matrix} weights  (T, T)
 */
function habitOf(weights) {
  const { tokens, T } = app.trace;
  if (T < 2) return ["a single character attends to itself"];
  const role = mainRole(weights, tokens);
  const [spread, reach] = [spreadOf(weights, T), reachOf(weights, T)];
  const beside = (/** @type {string} */ words, /** @type {string} */ uniform) => [
    words,
    el("small", { textContent: `uniform ${uniform}` }),
  ];
  if (lift(role) >= CLEAR)
    return beside(`${role.name}: ${percent(role.share)}`, percent(role.uniform));
  if (spread >= 0.9) return beside(`spread evenly: entropy ${percent(spread)}`, percent(1));
  const habit = reach.share < NEAR * reach.uniform ? "nearby characters" : "mixed";
  return beside(`${habit}: ${number(reach.share, 1)} back`, number(reach.uniform, 1));
}

function rolesTable() {
  const { tokens, T, layers } = app.trace;
  const head = [
    "head",
    ...ROLES.map((role) => `${role.name} (uniform)`),
    "entropy",
    "characters back (uniform)",
    "muting costs",
  ];
  const costs = muteCosts();
  const rows = allHeads().map(({ layer, head: h }, n) => {
    const { weights } = layers[layer].heads[h];
    const reach = reachOf(weights, T);
    return [
      headName(layer, h),
      ...rolesOf(weights, tokens).map(
        ({ share, uniform }) => `${percent(share)} (${percent(uniform)})`,
      ),
      percent(spreadOf(weights, T)),
      `${number(reach.share, 1)} (${number(reach.uniform, 1)})`,
      signed(costs[n] ?? NaN, 3),
    ];
  });
  return { head, rows };
}
