/* The page: its data, its views, and what the reader does to it as a whole. */

import { remember, remembered, sectionLeft, selectionOf } from "./address.js";
import { allHeads, app, hasHeads, hasWeights } from "./app.js";
import { characterScores } from "./circuits.js";
import { forgetColours } from "./draw.js";
import { addView, drawSoon } from "./drawing.js";
import { find, findKind, goTo } from "./html.js";
import { forward, loadModel, replay } from "./model.js";
import { unpack, unpackFloats } from "./numbers.js";
import { readText, tokensOf } from "./reading.js";
import { lift, mainRole } from "./roles.js";
import { select, walk } from "./selection.js";
import { number, percent } from "./words.js";
import { headsView } from "./views/heads.js";
import { learningView } from "./views/learning.js";
import { matrixView, rowAsText } from "./views/matrix.js";
import { ruleView } from "./views/rule.js";
import { sourceView } from "./views/source.js";
import { startView } from "./views/start.js";
import { stepsView } from "./views/steps.js";
import { legendView, looksView, oddsView, sentenceView, textView } from "./views/text.js";
import { tryView } from "./views/try.js";
import { whyView } from "./views/why.js";

/** @import { Data } from "./app.js" */
/** @import { View } from "./drawing.js" */
/** @import { Head } from "./model.js" */

/** @param {Data} data */
async function start(data) {
  app.data = data;
  app.model = await loadModel(data);
  app.text = data.text;
  const tokens = tokensOf(data.text);
  app.trace = app.untouched = data.trace
    ? replay(app.model, tokens, await unpack(data.trace))
    : forward(app.model, tokens);
  showFacts();
  showBadge();
  hideWhatIsAbsent();
  elements("main").forEach(show);
  show(find("bar"));
  await addViews();
  listen();
  select(mostStriking());
  recall();
  drawSoon("trace");
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

/** @param {string} selector @returns {NodeListOf<HTMLElement>} */
function elements(selector) {
  return document.querySelectorAll(selector);
}

/** @param {HTMLElement} element */
function show(element) {
  element.hidden = false;
}

/** @param {HTMLElement} element */
function hide(element) {
  element.hidden = true;
}

// --- about the model ---------------------------------------------------------------------------

function showFacts() {
  const { data, model } = app;
  const { n_layer: L, n_head: H, n_embd: C, block_size } = model.config;
  const loss = data.valLoss === null ? "" : `, validation loss ${number(data.valLoss, 3)}`;
  const shape = L ? `${L} layers of ${H} heads, n_embd ${C}` : "a bigram table";
  find("facts").textContent =
    `${data.run}, step ${data.step}${loss}: ${shape}, ${data.parameters.toLocaleString("en")} parameters, context of ${block_size} characters`;
  document.title = `Attention of ${data.run}`;
}

function showBadge() {
  const { reference } = app.data;
  const badge = find("badge");
  if (!reference) {
    badge.textContent =
      "this model is too large for the page, which shows torch's numbers for this text only";
    return;
  }
  const difference = differenceFrom(unpackFloats(reference.logits));
  const good = difference < 1e-3;
  badge.className = good ? "good" : "bad";
  badge.textContent = `${good ? "✓ the page computes what torch computes" : "✗ the page and torch disagree"}: largest difference of a logit ${difference.toExponential(1)}`;
  badge.title = `For the text that came with the page. Storing the weights in 16 bits moved torch's own logits by up to ${reference.rounding.toExponential(1)}.`;
}

/** The largest difference between the page's logits and torch's, which may be the last of them.
 * @param {Float32Array} expected
 */
function differenceFrom(expected) {
  const { logits } = app.untouched;
  const found = logits.subarray(logits.length - expected.length);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0);
}

/** Hide what needs attention or weights that this page does not have. */
function hideWhatIsAbsent() {
  if (!hasHeads()) elements(".attention-only").forEach(hide);
  find("no-attention").hidden = hasHeads();
  if (!hasWeights()) elements(".weights-only").forEach(hide);
  find("typing").hidden = !hasWeights();
}

// --- the views ---------------------------------------------------------------------------------

async function addViews() {
  /** @type {[string, View][]} */
  const views = [
    ["start", startView],
    ["text", textView],
    ["text", oddsView],
    ["bar", sentenceView],
  ];
  if (hasHeads()) {
    views.push(
      ["text", legendView],
      ["text", looksView],
      ["heads", headsView],
      ["matrix", matrixView],
    );
    views.push(["why", whyView], ["steps", stepsView], ["learning", learningView]);
    if (hasWeights()) views.push(["source", sourceView], ["rule", ruleView], ["try", tryView]);
  }
  const draws = await Promise.all(views.map(([, view]) => view()));
  draws.forEach((draw, n) => addView(views[n][0], draw));
}

// --- what the reader does ----------------------------------------------------------------------

function listen() {
  for (const id of ["characters", "matrix-canvas"]) find(id).addEventListener("keydown", walk);
  for (const name of ["direction", "stage"]) {
    find(name).addEventListener("change", (event) => {
      select({ [name]: /** @type {HTMLInputElement} */ (event.target).value });
      remember();
    });
  }
  const share = findKind(HTMLInputElement, "share");
  share.addEventListener("input", () => {
    select({ share: Number(share.value) / 100 });
    showChoices();
    remember();
  });
  let typed = 0;
  const field = findKind(HTMLTextAreaElement, "own-text");
  field.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => readText(field.value), 250);
  });
  window.addEventListener("hashchange", recall);
  window.addEventListener("popstate", () => {
    recall();
    const section = sectionLeft();
    if (section) goTo(section);
  });
  window.addEventListener("resize", () => drawSoon("selection"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    forgetColours();
    drawSoon("trace");
  });
}

/** Show what the address holds. */
function recall() {
  const fields = remembered(); // before `readText` changes the address
  const text = fields.get("text") ?? app.data.text;
  if (text !== app.text && hasWeights()) {
    findKind(HTMLTextAreaElement, "own-text").value = text;
    findKind(HTMLDetailsElement, "typing").open = true;
    readText(text);
  }
  select(selectionOf(fields));
  showChoices();
}

function showChoices() {
  const { direction, stage, share } = app.state;
  for (const choice of document.querySelectorAll("[name=direction], [name=stage]")) {
    const radio = /** @type {HTMLInputElement} */ (choice);
    radio.checked = radio.value === direction || radio.value === stage;
  }
  findKind(HTMLInputElement, "share").value = String(100 * share);
  find("share-value").textContent = percent(share);
}

// --- what the page opens with ------------------------------------------------------------------

/** The head whose pattern is furthest above chance, and its largest weight on another character. */
function mostStriking() {
  const { layers, tokens, T } = app.trace;
  let best = { layer: 0, head: 0, query: T - 1 };
  let most = -1;
  for (const { layer, head } of allHeads()) {
    const open = layers[layer].heads[head];
    const found = lift(mainRole(open.weights, tokens));
    if (found <= most) continue;
    most = found;
    best = { layer, head, query: surestQuery(open, T) };
  }
  return best;
}

/** The query of the text's second half with the largest weight on an earlier character.
 * @param {Head} head
 * @param {number} T
 */
function surestQuery(head, T) {
  let [best, most] = [T - 1, 0];
  for (let i = Math.floor(T / 2); i < T; i++) {
    for (let j = 0; j < i; j++) {
      if (head.weights[i * T + j] > most) [best, most] = [i, head.weights[i * T + j]];
    }
  }
  return best;
}

// for tests and the curious
Object.assign(window, { explorer: { app, select, remember, rowAsText, characterScores } });
start(JSON.parse(find("data").textContent ?? "")).catch((problem) => {
  find("badge").className = "bad";
  find("badge").textContent = `this page could not be read: ${problem.message}`;
});
