/* View 2: all heads, each with its main pattern on this text. */

import { allHeads, app, characterAt } from "../app.js";
import { copyPicture, weightPixels } from "../draw.js";
import { el, find, numbersTable } from "../html.js";
import { headName, ownOdds } from "../model.js";
import { findMuteCosts, hasMuteCosts, isLong, muteCosts } from "../muting.js";
import { ranked } from "../numbers.js";
import { lift, mainRole, reachOf, ROLES, rolesOf, spreadOf } from "../roles.js";
import { selectHead, walk } from "../selection.js";
import { number, percent, said, saidAt, signed } from "../words.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Cost } from "../muting.js" */
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
  /** @type {number[]} */
  let odds = [];
  const showCosts = () => {
    const costs = muteCosts();
    const here = odds[app.state.query];
    cells.forEach((cell, n) => cell.showCost(costs && (costs[n] ?? "soon"), here));
    worth.textContent = costs ? worthOf(costs, here) : "";
    ask.hidden = costs !== undefined || !hasMuteCosts();
    numbers.refresh();
  };
  ask.addEventListener("click", () => {
    findMuteCosts(showCosts);
    showCosts();
  });
  return (change) => {
    for (const cell of cells) {
      cell.showIfOpen();
      if (change === "trace") cell.drawWeights();
    }
    if (change === "trace") odds = ownOdds(app.model, app.untouched);
    if (!isLong()) findMuteCosts(showCosts);
    showCosts();
  };
}

/** Which head is missed most and which least, on the text and at the selected character.
 * @param {Cost[]} costs  as far as they are known
 * @param {number | undefined} here  the probability of the text's next character
 */
function worthOf(costs, here) {
  const heads = allHeads();
  if (costs.length < heads.length) return "What muting each head costs is being computed …";
  const name = (/** @type {number} */ n) => headName(heads[n].layer, heads[n].head);
  const rises = Float32Array.from(costs, ({ rise }) => rise);
  const order = ranked(rises);
  const [most, least] = [order[0], order[order.length - 1]];
  const helps = rises[least] < 0 ? ", without which the loss is lower" : "";
  const text = `On this text, muting ${name(most)} (${signed(rises[most], 3)}) costs most, muting ${name(least)} (${signed(rises[least], 3)}) least${helps}.`;
  const { query } = app.state;
  if (here === undefined) return text;
  const worst = ranked(Float32Array.from(costs, ({ odds }) => -odds[query]))[0];
  return `${text} After ${saidAt(query)}, muting ${name(worst)} costs most: ${leftOf(costs[worst], here)}.`;
}

/** What is left of the probability of the text's next character at the query.
 * @param {Cost} cost
 * @param {number} here  with all heads
 */
function leftOf({ odds }, here) {
  const { query } = app.state;
  return `${said(characterAt(query + 1))}: ${percent(here)} → ${percent(odds[query])}`;
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
    /** @param {Cost | "soon" | undefined} found @param {number | undefined} here */
    showCost(found, here) {
      const known = found !== "soon" && found;
      const rise = known ? signed(known.rise, 3) : "…";
      const left = known && here !== undefined ? leftOf(known, here) : "\u00a0";
      cost.hidden = !found;
      cost.replaceChildren(`muting costs ${rise}`, el("small", { textContent: left }));
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
  const costs = muteCosts() ?? [];
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
      signed(costs[n]?.rise ?? NaN, 3),
    ];
  });
  return { head, rows };
}
