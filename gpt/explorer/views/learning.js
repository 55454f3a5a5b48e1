/* View 9: the same text at other steps of the training. */

import { allHeads, app } from "../app.js";
import { drawGrid, weightPixels } from "../draw.js";
import { barRows, el, find, note, numbersTable } from "../html.js";
import { headName, oddsAt } from "../model.js";
import { ranked, row, unpack } from "../numbers.js";
import { mainRole, ROLES, rolesOf } from "../roles.js";
import { glyphsOf, number, percent, said } from "../words.js";
import { ASKS, LOOKED_AT, oddsBars } from "./common.js";

/** @import { Snapshot } from "../app.js" */
/** @import { Draw } from "../drawing.js" */
/** @import { Matrix } from "../numbers.js" */

/**
 * The text at one step; `weights` (T, T) are those of each head, in the order of `allHeads`.
 * @typedef {{step: number, valLoss: number | null, weights: Matrix[], logits: Matrix}} Moment
 */

const NO_HISTORY =
  "This run kept no other checkpoint. With log.keep 0 it keeps all, and a slider here selects among them.";
const ANOTHER_TEXT =
  "The page has the other checkpoints' numbers for its first text only, so this section still shows that text.";

/** @returns {Promise<Draw>} */
export async function learningView() {
  const box = find("learning-content");
  if (!app.data.history.length) {
    box.append(note(NO_HISTORY));
    return () => {};
  }
  const { tokens } = app.untouched;
  const moments = await momentsOf();
  const last = String(moments.length - 1);
  const slider = el("input", { type: "range", id: "moment", max: last, value: last });
  const step = el("output");
  const anotherText = note(ANOTHER_TEXT);
  const canvas = el("canvas", { ariaHidden: "true" });
  const [facts, habit, odds] = [el("p", { className: "numbers" }), el("div"), el("div")];
  const numbers = numbersTable("The pattern of this head at every step, as a table", () =>
    habitsTable(moments, tokens),
  );
  box.append(
    anotherText,
    el("label", { className: "wide", htmlFor: "moment" }, "training step ", slider, step),
    facts,
    el("div", { className: "columns even" }, canvas, el("div", {}, odds, habit)),
    numbers,
  );
  const draw = () => {
    const moment = moments[Number(slider.value)];
    anotherText.hidden = app.text === app.data.text;
    step.textContent = String(moment.step);
    slider.setAttribute("aria-valuetext", `step ${moment.step}`);
    facts.textContent =
      moment.valLoss === null
        ? ""
        : `validation loss ${number(moment.valLoss, 3)} nats per character`;
    drawMoment(canvas, moment, tokens, Math.min(460, box.clientWidth));
    odds.replaceChildren(...oddsThen(moment, tokens));
    habit.replaceChildren(...habitThen(moment, moments, tokens));
    numbers.refresh();
  };
  slider.addEventListener("input", draw);
  return draw;
}

/** The run's checkpoints by step: the others, and the page's own. */
async function momentsOf() {
  const { data, untouched } = app;
  const others = await Promise.all(data.history.map(momentOf));
  const own = {
    step: data.step,
    valLoss: data.valLoss,
    weights: untouched.layers.flatMap((block) => block.heads.map((head) => head.weights)),
    logits: untouched.logits,
  };
  return [...others, own].sort((a, b) => a.step - b.step);
}

/** @param {Snapshot} snapshot @returns {Promise<Moment>} */
async function momentOf({ step, valLoss, numbers }) {
  const values = await unpack(numbers);
  const size = app.untouched.T ** 2;
  const weights = allHeads().map((_, n) => row(values, n, size));
  return { step, valLoss, weights, logits: values.subarray(weights.length * size) };
}

/** The weights (T, T) of the open head.
 * @param {Moment} moment
 */
function openWeights({ weights }) {
  return weights[app.state.layer * app.model.config.n_head + app.state.head];
}

/** @param {HTMLCanvasElement} canvas @param {Moment} moment @param {number[]} tokens @param {number} most */
function drawMoment(canvas, moment, tokens, most) {
  const names = glyphsOf(tokens);
  drawGrid(canvas, {
    picture: weightPixels(openWeights(moment), tokens.length),
    rows: { names, at: queryThen(tokens), ...ASKS },
    columns: { names, ...LOOKED_AT },
    most,
  });
}

/** The query, within the text of the moments.
 * @param {number[]} tokens
 */
function queryThen(tokens) {
  return Math.min(app.state.query, tokens.length - 1);
}

/** @param {Moment} moment @param {number[]} tokens */
function oddsThen({ step, logits }, tokens) {
  const query = queryThen(tokens);
  const odds = oddsAt(app.model, logits, query);
  const asker = `${said(app.model.alphabet[tokens[query]])} at ${query + 1}`;
  return [
    el("h4", {}, `Next character after ${asker}, at step ${step}`),
    oddsBars(ranked(odds).slice(0, 6), odds, { next: tokens[query + 1] }),
  ];
}

/** How the open head's main pattern grew during training.
 * @param {Moment} moment
 * @param {Moment[]} moments
 * @param {number[]} tokens
 */
function habitThen(moment, moments, tokens) {
  const { layer, head } = app.state;
  const { name, uniform } = mainRole(openWeights(moments[moments.length - 1]), tokens);
  const index = ROLES.findIndex((role) => role.name === name);
  const bars = moments.map((then) => {
    const { share } = rolesOf(openWeights(then), tokens)[index];
    return {
      name: `step ${then.step}`,
      to: share,
      text: percent(share),
      ghost: uniform,
      marked: then === moment,
    };
  });
  return [
    el("h4", {}, `${headName(layer, head)}, weight on: ${name}`),
    barRows(bars),
    note(`The mark shows the score of uniform weights: ${percent(uniform)}.`),
  ];
}

/** @param {Moment[]} moments @param {number[]} tokens */
function habitsTable(moments, tokens) {
  const rows = moments.map((moment) => [
    String(moment.step),
    ...rolesOf(openWeights(moment), tokens).map(({ share }) => percent(share)),
  ]);
  return { head: ["step", ...ROLES.map(({ name }) => name)], rows };
}
