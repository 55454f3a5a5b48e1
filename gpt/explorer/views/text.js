/* View 1: the text, marked with the open head's weights, and the next character. */

import { wayBack } from "../address.js";
import { allHeads, app, characterAt, hasHeads, openHead } from "../app.js";
import { colour, css, ramp, readableOn, sized } from "../draw.js";
import { barRows, el, find, findKind, inRole, note } from "../html.js";
import { headName, oddsAt } from "../model.js";
import { ranked, total } from "../numbers.js";
import { changeWeights } from "../reading.js";
import { hold, point, selectHead } from "../selection.js";
import { glyph, number, percent, said, saidAt } from "../words.js";
import { asker, lossInWords, oddsBars, selectedOf } from "./common.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Matrix } from "../numbers.js" */

const MOST_LOOKS = 8; // at the selected character, by weight

/** The weights that the open head gives from, or to, the query: one a position. */
function weightsShown() {
  const { query, direction } = app.state;
  const { weights } = openHead();
  const { T } = app.trace;
  return Float32Array.from({ length: T }, (_, t) =>
    direction === "from" ? weights[query * T + t] : weights[t * T + query],
  );
}

/** Those of `weights` that make up the largest `share` of their sum; the others are zero.
 * @param {Matrix} weights
 * @param {number} share
 */
function topOf(weights, share) {
  const enough = share * total(weights);
  const kept = new Float32Array(weights.length);
  let sum = 0;
  for (const t of ranked(weights)) {
    if (sum >= enough - 1e-6) break;
    kept[t] = weights[t];
    sum += weights[t];
  }
  return kept;
}

/** @returns {Draw} */
export function textView() {
  const list = find("characters");
  const positionOf = (/** @type {Event} */ event) => {
    const target = /** @type {Element} */ (event.target);
    /** @type {HTMLElement | null} */
    const option = target.closest("[role=option]");
    return option ? Number(option.dataset.position) : null;
  };
  list.addEventListener("pointermove", (event) => point(positionOf(event)));
  list.addEventListener("click", (event) => hold(positionOf(event)));
  /** @type {HTMLElement[]} */
  let options = [];
  return (change) => {
    if (change === "trace") {
      options = app.trace.tokens.map((_, position) => optionAt(position));
      list.replaceChildren(
        ...options.flatMap((option, position) => [option, ...breakAfter(characterAt(position))]),
      );
    }
    const { query, key, locked, share } = app.state;
    const shade = ramp();
    const weights = hasHeads() ? topOf(weightsShown(), share) : new Float32Array(options.length);
    options.forEach((option, t) => {
      const rgb = shade(weights[t]);
      option.style.backgroundColor = css(rgb);
      option.style.color = readableOn(rgb);
      option.classList.toggle("query", t === query);
      option.classList.toggle("key", t === key && hasHeads());
      option.setAttribute("aria-selected", String(t === query));
    });
    list.classList.toggle("locked", locked);
    list.setAttribute("aria-activedescendant", `c${query + 1}`);
    drawArcs(options, weights);
  };
}

/** @param {number} position */
function optionAt(position) {
  const shown = glyph(characterAt(position));
  const option = el("span", { id: `c${position + 1}`, textContent: shown });
  option.dataset.position = String(position);
  option.setAttribute("role", "option");
  option.classList.toggle("odd", [...shown].length > 2);
  option.setAttribute("aria-label", saidAt(position));
  return option;
}

/** The text breaks at its own line ends and between words.
 * @param {string} character
 */
function breakAfter(character) {
  return character === "\n" ? [el("br")] : character === " " ? [el("wbr")] : [];
}

/** A curve from the query to each character that is marked, as thick as the weight.
 * @param {HTMLElement[]} options
 * @param {Matrix} weights
 */
function drawArcs(options, weights) {
  const paper = find("paper");
  const arcs = findKind(HTMLCanvasElement, "arcs");
  const context = sized(arcs, paper.clientWidth, paper.clientHeight);
  const { query, direction } = app.state;
  const top = (/** @type {HTMLElement} */ option) => [
    option.offsetLeft + option.offsetWidth / 2,
    option.offsetTop + 2,
  ];
  const [x, y] = top(options[query]);
  context.strokeStyle = css(colour(direction === "from" ? "key" : "query"));
  weights.forEach((weight, t) => {
    if (weight < 0.02 || t === query) return;
    const [toX, toY] = top(options[t]);
    const height = Math.min(26, 8 + Math.abs(toX - x) / 8);
    context.globalAlpha = 0.25 + 0.75 * weight;
    context.lineWidth = 1 + 4 * weight;
    context.beginPath();
    context.moveTo(x, y);
    context.quadraticCurveTo((x + toX) / 2, Math.min(y, toY) - height, toX, toY);
    context.stroke();
  });
}

/** Who looks at the selected character, and how much of its weight each gives.
 * @returns {Draw}
 */
export function looksView() {
  const box = find("looks");
  return () => {
    const { state, trace } = app;
    box.hidden = state.direction === "from";
    if (box.hidden) return;
    const weights = weightsShown();
    const order = ranked(weights).filter((t) => t >= state.query);
    const [first, others] = [order.slice(0, MOST_LOOKS), order.slice(MOST_LOOKS)];
    const bars = first.map((t) => ({
      name: `${glyph(characterAt(t))} at ${t + 1}`,
      to: weights[t],
      text: percent(weights[t]),
      ghost: 1 / (t + 1),
      role: "query",
    }));
    const sum = number(total(weights));
    const rest = number(total(others.map((t) => weights[t])));
    const also = others.length ? `, those of the ${others.length} not shown to ${rest}` : "";
    box.replaceChildren(
      el("h3", {}, "Who attends to ", asker(), ", and with how much of its weight?"),
      barRows(bars),
      note(
        `${trace.T - state.query} characters may attend to it: itself and those after it. Their weights sum to ${sum}${also}. The mark shows the uniform weight.`,
      ),
    );
  };
}

/** @returns {Draw} */
export function oddsView() {
  const box = find("odds");
  let loss = "";
  return (change) => {
    if (change === "trace") loss = lossInWords();
    const { model, trace, untouched } = app;
    const { query } = app.state;
    const now = oddsAt(model, trace.logits, query);
    const before = trace === untouched ? undefined : oddsAt(model, untouched.logits, query);
    const most = before ? now.map((share, id) => Math.max(share, before[id])) : now;
    const next = query + 1 < trace.T ? trace.tokens[query + 1] : undefined;
    const truth =
      next === undefined
        ? "the text ends here"
        : `in the text: ${said(model.alphabet[next])}, ${percent(now[next])}`;
    box.replaceChildren(
      el("h3", {}, "Next character after ", asker()),
      oddsBars(ranked(most).slice(0, 8), now, { before, next }),
      note(truth),
      ...(loss ? [note(loss)] : []),
    );
  };
}

/** @returns {Draw} */
export function sentenceView() {
  const chooser = findKind(HTMLSelectElement, "head");
  const heads = allHeads();
  chooser.append(
    ...heads.map(({ layer, head }) => el("option", { textContent: headName(layer, head) })),
  );
  chooser.addEventListener("change", () => {
    const { layer, head } = heads[chooser.selectedIndex];
    selectHead(layer, head);
  });
  find("undo").addEventListener("click", () => changeWeights(new Map()));
  const back = find("back");
  back.addEventListener("click", () => history.back());
  return () => {
    const { layer, head, query, key, locked } = app.state;
    chooser.selectedIndex = layer * app.model.config.n_head + head;
    find("undo").hidden = app.edits.size === 0;
    const place = wayBack();
    back.hidden = !place;
    back.textContent = place ? `← back to ${place}` : "";
    const gives = hasHeads() ? ` gives ${given()} to ${saidAt(key)}` : "";
    find("sentence").textContent = `${saidAt(query)}${gives}${locked ? " (held)" : ""}`;
  };
}

/** The weight of the selected key, and beside the reader's changes the model's own. */
function given() {
  const { layer, head } = app.state;
  const [before, now] = [app.untouched, app.trace].map((read) =>
    percent(selectedOf(read.layers[layer].heads[head].weights)),
  );
  return app.edits.size ? `${now} (unchanged model: ${before})` : now;
}

/** What the colours mean: the ramp of weights, and the roles.
 * @returns {Draw}
 */
export function legendView() {
  const shares = [0, 0.01, 0.1, 0.25, 0.5, 1];
  const roles = ["query", "key", "value", "output"];
  return (change) => {
    if (change !== "trace") return;
    const shade = ramp();
    const swatches = shares.map((share) => {
      const swatch = el("span", { className: "swatch", textContent: percent(share) });
      swatch.style.backgroundColor = css(shade(share));
      swatch.style.color = readableOn(shade(share));
      return swatch;
    });
    const named = roles.map((role) => el("span", {}, inRole(role, "■ "), role));
    find("legend").replaceChildren(el("span", {}, "weight ", ...swatches), ...named);
  };
}
