/* View 6: the head's rule: other characters, and other positions. */

import { app, characterAt, openHead } from "../app.js";
import {
  characterScores,
  outputRises,
  placeScores,
  reachesLogits,
  readsEmbedding,
} from "../circuits.js";
import { drawGrid, drawStrip, standingOut } from "../draw.js";
import { el, find, inRole, matrixRows, note, numbersTable, refill, signedRows } from "../html.js";
import { range, ranked, row } from "../numbers.js";
import { scoreAlone, scoreParts } from "../parts.js";
import { glyph, said, signed } from "../words.js";
import { ASKS, LOOKED_AT, selectedOf } from "./common.js";

/** @import { CellAt } from "../draw.js" */
/** @import { Draw } from "../drawing.js" */
/** @import { Matrix } from "../numbers.js" */

const NEXT = { title: "next character", role: "output" };
const MOST_CHARACTERS = 100; // shown of an alphabet; of a larger one, the text's own
const MOST_DISTANCE = 64;

function charactersShown() {
  const { model, trace } = app;
  return model.V <= MOST_CHARACTERS
    ? range(model.V)
    : [...new Set(trace.tokens)].sort((a, b) => a - b);
}

/** @returns {Draw} */
export function ruleView() {
  const asks = ruleTable(ASKS, LOOKED_AT);
  const rises = ruleTable(LOOKED_AT, NEXT);
  const [asksWords, risesWords, sum, place] = [el("p"), el("p"), el("div"), el("div")];
  const absent = note("");
  find("rule-content").append(
    absent,
    el(
      "div",
      { className: "columns even" },
      el("div", {}, el("h4", {}, "Which query matches which key?"), asksWords, asks.element),
      el(
        "div",
        {},
        el("h4", {}, "Which next character does a key favour?"),
        risesWords,
        rises.element,
      ),
    ),
    sum,
    place,
  );
  return () => {
    const { model, trace, state } = app;
    const { layer, query, key } = state;
    const ids = charactersShown();
    const [asking, held] = [query, key].map((position) => ids.indexOf(trace.tokens[position]));
    const readable = readsEmbedding(model, layer);
    const reaches = readable && reachesLogits(model, layer);
    const final = row(trace.final, query, model.C);
    const scores = readable ? characterScores(model, { ...state, ids }) : null;
    const raised = reaches ? outputRises(model, { ...state, ids, final }) : null;
    absent.textContent = absenceOf(readable, reaches);
    asks.show(scores, { ids, at: asking }, { ids, at: held });
    rises.show(raised && columnsOf(raised, model.V, ids), { ids, at: held }, { ids });
    asksWords.replaceChildren(...(scores ? bestMatches(row(scores, asking, ids.length), ids) : []));
    risesWords.replaceChildren(...(raised ? effects(row(raised, held, model.V)) : []));
    sum.replaceChildren(...(scores ? toTheScore(scores[asking * ids.length + held]) : []));
    refill(place, readable ? placePicture() : []);
  };
}

/** The columns `ids` of a matrix that is `width` wide.
 * @param {Matrix} matrix
 * @param {number} width
 * @param {number[]} ids
 */
function columnsOf(matrix, width, ids) {
  const rows = matrix.length / width;
  return Float32Array.from({ length: rows * ids.length }, (_, n) => {
    return matrix[Math.floor(n / ids.length) * width + ids[n % ids.length]];
  });
}

/** @param {boolean} readable @param {boolean} reaches */
function absenceOf(readable, reaches) {
  if (!readable)
    return "Without a residual stream this layer does not read the embedding, so there is no rule over the alphabet.";
  const share = app.model.config.token_shift
    ? "Each embedding also holds a share of the character before. It is left out here, so this rule is not all that the head goes by, not even in layer 1. "
    : "";
  return reaches
    ? share
    : `${share}Without a residual stream the output of this head does not reach the logits directly, so there is no table of next characters.`;
}

/**
 * Characters along a side of a table; `at` is the one that is marked.
 * @typedef {{ids: number[], at?: number}} Side
 */

/** A table over the alphabet as a picture whose cells are read out under the pointer.
 * @param {typeof ASKS} down
 * @param {typeof ASKS} across
 */
function ruleTable(down, across) {
  const canvas = el("canvas", { ariaHidden: "true" });
  const reading = el("p", { className: "numbers" });
  /** @type {{values: Matrix, rows: Side, columns: Side}} */
  let shown = { values: new Float32Array(), rows: { ids: [] }, columns: { ids: [] } };
  /** @type {CellAt} */
  let cellAt = () => null;
  const name = (/** @type {number} */ id) => glyph(app.model.alphabet[id]);
  const numbers = numbersTable(`${down.title} × ${across.title}, as a table`, () => ({
    head: [`${down.title} \\ ${across.title}`, ...shown.columns.ids.map(name)],
    rows: matrixRows(shown.rows.ids.map(name), shown.values, (value) => signed(value)),
  }));
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (!cell) return;
    const { values, rows, columns } = shown;
    const value = values[cell.row * columns.ids.length + cell.column];
    const [from, to] = [rows.ids[cell.row], columns.ids[cell.column]].map((id) =>
      said(app.model.alphabet[id]),
    );
    reading.textContent = `${from} × ${to}: ${signed(value)}`;
  });
  const element = el("div", {}, el("div", { className: "scroll" }, canvas), reading, numbers);
  const show = (
    /** @type {Matrix | null} */ values,
    /** @type {Side} */ rows,
    /** @type {Side} */ columns,
  ) => {
    element.hidden = !values;
    if (!values) return;
    reading.textContent = "";
    shown = { values, rows, columns };
    cellAt = drawGrid(canvas, {
      picture: standingOut(values, rows.ids.length, columns.ids.length),
      rows: { names: rows.ids.map(name), at: rows.at, ...down },
      columns: { names: columns.ids.map(name), at: columns.at, ...across },
      most: Math.min(700, element.parentElement?.clientWidth ?? 0),
    });
    numbers.refresh();
  };
  return { element, show };
}

/** Entries of `values` in words: 'q' +4.2, 'u' +1.0
 * @param {Matrix} values
 * @param {number[]} order  of the indices
 * @param {number[]} ids  of all of `values`
 */
function listed(values, order, ids) {
  return order.map((n) => `${said(app.model.alphabet[ids[n]])} ${signed(values[n], 1)}`).join(", ");
}

/** @param {Matrix} scores  (n), of the query on each character @param {number[]} ids */
function bestMatches(scores, ids) {
  const { query, key } = app.state;
  const places = { none: "", rotary: ` ${query - key} before it`, learned: ` at ${key + 1}` };
  return [
    "For the query ",
    inRole("query", said(characterAt(query))),
    `, the best of all keys${places[app.model.config.positions]}: `,
    `${listed(scores, ranked(scores).slice(0, 5), ids)}.`,
  ];
}

/** @param {Matrix} rises  (V) */
function effects(rises) {
  const order = ranked(rises);
  const ids = range(app.model.V);
  return [
    "With full weight on ",
    inRole("key", said(characterAt(app.state.key))),
    `, this head raises the logits of ${listed(rises, order.slice(0, 4), ids)}. It lowers those of ${listed(rises, order.slice(-4).reverse(), ids)}. The scale of the final norm is held fixed.`,
  ];
}

/** How the match of the two selected characters becomes their score in the text, as one sum.
 * @param {number} match
 */
function toTheScore(match) {
  const { model, trace, state } = app;
  const score = selectedOf(openHead().scores);
  const inText = scoreAlone(scoreParts(model, trace, state));
  const title = el(
    "h4",
    {},
    "From the match of ",
    ...selectedPair(),
    " to their score in the text",
  );
  if (state.layer === 0 && !model.config.token_shift) {
    const told = `Layer 1 reads nothing but the embedding: the match is the score, ${signed(score)}.`;
    return [title, el("p", { textContent: told })];
  }
  return [
    title,
    el("p", {
      textContent:
        `The match is ${signed(match)}. In the text the stream holds more, and the norms scale all of it to one length: ` +
        `of the match, ${signed(inText)} is left. The rest of the score comes from pairs in which something else in the stream takes part.`,
    }),
    signedRows([
      { name: "the match", score: match },
      { name: "the norms", score: inText - match },
      { name: "the rest", score: score - inText },
      { name: "the score", score, role: "output" },
    ]),
  ];
}

/** The two selected characters, in words. */
function selectedPair() {
  const { query, key } = app.state;
  return [
    inRole("query", said(characterAt(query))),
    " and ",
    inRole("key", said(characterAt(key))),
  ];
}

// --- other positions ---------------------------------------------------------------------------

/** The two selected characters at other positions. */
function placePicture() {
  const { model, trace, state } = app;
  const { positions, block_size } = model.config;
  const { query, key } = state;
  const pair = selectedPair();
  const title = el("h4", {}, "Other positions");
  if (positions === "none") {
    const told = "This model has no positions: ";
    return [title, el("p", {}, told, ...pair, " match alike everywhere.")];
  }
  const T = positions === "learned" ? trace.T : Math.min(block_size, MOST_DISTANCE);
  const [asks, held] = [trace.tokens[query], trace.tokens[key]];
  const scores = placeScores(model, { ...state, asks, held, T });
  if (positions === "learned") return [title, ...placeGrid(scores, pair)];
  const byDistance = scores.filter((_, n) => n % T === 0); // the key at the first position
  return [title, ...distanceStrip(byDistance, pair)];
}

/** @param {Matrix} scores  (T, T) @param {(Node | string)[]} pair */
function placeGrid(scores, pair) {
  const { T } = app.trace;
  const { query, key } = app.state;
  const canvas = el("canvas", { ariaHidden: "true" });
  const places = range(T).map((t) => String(t + 1));
  const names = places.map((place) => place.slice(-1));
  drawGrid(canvas, {
    picture: standingOut(scores, T, T),
    rows: { names, at: query, ...ASKS },
    columns: { names, at: key, ...LOOKED_AT },
    most: Math.min(500, find("rule-content").clientWidth),
  });
  return [
    el("p", {}, "The match of ", ...pair, " at all pairs of positions."),
    el("div", { className: "scroll" }, canvas),
    numbersTable("Position × position, as a table", () => ({
      head: ["query at \\ key at", ...places],
      rows: matrixRows(places, scores, (score) => signed(score)),
    })),
  ];
}

/** @param {Matrix} scores  by distance @param {(Node | string)[]} pair */
function distanceStrip(scores, pair) {
  const distance = app.state.query - app.state.key;
  const canvas = el("canvas", { ariaHidden: "true" });
  const width = Math.min(640, find("rule-content").clientWidth);
  drawStrip(canvas, scores, "ink", { width, height: 90 });
  const here =
    distance < scores.length
      ? ` Here the distance is ${distance}, and the match ${signed(scores[distance])}.`
      : "";
  return [
    el(
      "p",
      {},
      "The match of ",
      ...pair,
      ` at the distances 0 to ${scores.length - 1}. It is highest at distance ${ranked(scores)[0]}.${here}`,
    ),
    canvas,
    numbersTable("Match by distance, as a table", () => ({
      head: ["distance", "match"],
      rows: Array.from(scores, (score, back) => [String(back), signed(score)]),
    })),
  ];
}
