/* View 0: the notes' example, with every number, in eight steps. */

import { remember } from "../address.js";
import { app, CLOSED, hasHeads } from "../app.js";
import { el, find, findKind } from "../html.js";
import { fitted, follow, reckoning, sourcesOf } from "../lesson.js";
import { headName } from "../model.js";
import { ranked, row } from "../numbers.js";
import { select } from "../selection.js";
import { saidAt } from "../words.js";
import { boardOf, letOneStop, letType, moveAmong } from "./board.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Given, LessonData, Made, Name, Numbers } from "../lesson.js" */
/** @import { Matrix } from "../numbers.js" */
/** @import { Board, Fields } from "./board.js" */

const ROWS = [[0], [1, 2, 3], [4, 5, 6, 7]]; // steps that stand side by side
const ROOM = 5; // characters of a number

/**
 * @typedef {object} Play
 * @property {LessonData} lesson
 * @property {[Name, Board][]} boards
 * @property {Numbers} original  the notes' numbers
 * @property {number} step
 * @property {{i: number, j: number}} place  of the number looked at, in each table of the step
 */

/** @returns {Draw} */
export function startView() {
  const { lesson } = app.data;
  const names = /** @type {Name[]} */ (Object.keys(lesson.tables));
  app.lesson = follow(givenNumbers(lesson), lesson.names.length, false);
  /** @type {Play} */
  const play = {
    lesson,
    boards: names.map((name) => [name, boardOf(lesson.tables[name], name in lesson.given)]),
    original: app.lesson,
    step: CLOSED,
    place: { i: 0, j: 0 },
  };
  const blocks = lesson.steps.map((_, step) => blockOf(play, step));
  blocks[lesson.tables.covered.step].append(find("lesson-mask"));
  const rows = ROWS.map((steps) =>
    el("div", { className: "lesson-row" }, ...steps.map((step) => blocks[step])),
  );
  rows[0].append(find("lesson-controls"));
  find("lesson-board").append(...rows);
  listen(play);
  write(play);
  return () => {
    showStep(play);
    const { layer, head, query } = app.state;
    const last = play.step === lesson.steps.length - 1;
    const same = hasHeads()
      ? `the same in your model: ${headName(layer, head)}, ${saidAt(query)}`
      : "in your model";
    find("lesson-next").textContent = last ? `now ${same}` : "next";
  };
}

/** @param {LessonData} lesson */
function givenNumbers({ given }) {
  const numbers = Object.entries(given).map(([name, cells]) => [name, Float32Array.from(cells)]);
  return /** @type {Record<Given, Float32Array<ArrayBuffer>>} */ (Object.fromEntries(numbers));
}

// --- the board ---------------------------------------------------------------------------------

/** What a step makes, below its title.
 * @param {Play} play
 * @param {number} step
 */
function blockOf(play, step) {
  const title = el("h3", { textContent: `${step + 1} ${play.lesson.steps[step].title}` });
  const tables = boardsOf(play, step).map(([, { table }]) => table);
  title.dataset.role = tables[0].dataset.role;
  return el("div", { className: "lesson-block" }, title, ...tables);
}

/** The tables that a step makes.
 * @param {Play} play
 * @param {number} step
 */
function boardsOf({ lesson, boards }, step) {
  return boards.filter(([name]) => lesson.tables[name].step === step);
}

/** Write every number, and mark those that are not the notes'.
 * @param {Play} play
 */
function write({ boards, original }) {
  for (const [name, { cells, inputs }] of boards) {
    const texts = fitted(app.lesson[name], ROOM);
    cells.forEach((cell, n) => {
      if (!inputs.length) cell.textContent = texts[n];
      else if (!("typed" in inputs[n].dataset)) inputs[n].value = texts[n];
      cell.classList.toggle("changed", !Object.is(app.lesson[name][n], original[name][n]));
    });
  }
}

// --- what the reader does ----------------------------------------------------------------------

/** @param {Play} play */
function listen(play) {
  const { lesson, boards } = play;
  for (const [name, board] of boards) {
    if (board.inputs.length) letType(board, fieldsOf(play, /** @type {Given} */ (name)));
    else letLook(play, lesson.tables[name].step, board);
  }
  const ahead = findKind(HTMLInputElement, "lesson-ahead");
  ahead.addEventListener("change", () => change(play, app.lesson));
  find("lesson-again").addEventListener("click", () => {
    ahead.checked = false;
    change(play, play.original);
  });
  find("lesson-back").addEventListener("click", () => go(play.step - 1));
  find("lesson-next").addEventListener("click", () => {
    if (play.step < lesson.steps.length - 1) go(play.step + 1);
    else showModel();
  });
  const details = findKind(HTMLDetailsElement, "lesson");
  details.addEventListener("toggle", () => {
    if (details.open === (app.state.lesson === CLOSED)) go(details.open ? 0 : CLOSED);
  });
}

/** The numbers of a table as its fields read and change them.
 * @param {Play} play
 * @param {Given} name
 * @returns {Fields}
 */
function fieldsOf(play, name) {
  return {
    valueAt: (n) => app.lesson[name][n],
    change(n, value) {
      const numbers = app.lesson[name].slice();
      numbers[n] = value;
      change(play, { ...app.lesson, [name]: numbers });
    },
    complain(problem) {
      find("lesson-problem").textContent = problem;
    },
  };
}

/** Let the reader look at what a number of a step's table is made of.
 * @param {Play} play
 * @param {number} step
 * @param {Board} board
 */
function letLook(play, step, { cells, width }) {
  moveAmong(cells, width);
  cells.forEach((cell, n) => {
    const look = () => {
      if (play.step !== step) return;
      play.place = { i: Math.floor(n / width), j: n % width };
      light(play);
    };
    cell.addEventListener("focus", look);
    cell.addEventListener("pointerenter", look);
  });
}

/** @param {Play} play @param {Record<Given, Matrix>} given */
function change(play, given) {
  const { checked } = findKind(HTMLInputElement, "lesson-ahead");
  app.lesson = follow(given, play.lesson.names.length, checked);
  write(play);
  light(play);
}

/** @param {number} step */
function go(step) {
  select({ lesson: step });
  remember();
}

/** The model's own steps, for the head and the character that are selected. */
function showModel() {
  const heading = find(hasHeads() ? "steps" : "no-attention").querySelector("h2");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus();
  heading.scrollIntoView();
}

// --- a step ------------------------------------------------------------------------------------

/** Show the step that the address names.
 * @param {Play} play
 */
function showStep(play) {
  const { lesson: step } = app.state;
  findKind(HTMLDetailsElement, "lesson").open = step !== CLOSED;
  if (step === CLOSED || step === play.step) return;
  const first = play.step === CLOSED;
  play.step = step;
  play.place = exampleOf(play);
  const { i, j } = play.place;
  for (const [name, { cells, inputs, width }] of play.boards) {
    const makes = play.lesson.tables[name].step === step;
    if (!inputs.length) letOneStop(cells, makes ? i * width + j : null);
  }
  const { title, sentence, code } = play.lesson.steps[step];
  find("lesson-place").textContent = `${step + 1} of ${play.lesson.steps.length}`;
  find("lesson-title").textContent = title;
  find("lesson-sentence").textContent = sentence;
  find("lesson-code").replaceChildren(...code.map(sourceLine));
  findKind(HTMLButtonElement, "lesson-back").disabled = step === 0;
  light(play);
  const made = boardsOf(play, step);
  if (!first) made[made.length - 1][1].table.scrollIntoView({ block: "nearest" });
}

/** @param {{number: number, text: string}} line */
function sourceLine({ number, text }) {
  return el(
    "p",
    { className: "source-line" },
    el("span", { textContent: `model.py:${number}` }),
    el("code", { textContent: text }),
  );
}

/** The number that a step opens with: where someone is covered, or the one that asks and the one
 * that it gives the most.
 * @param {Play} play
 */
function exampleOf({ lesson, step }) {
  const { names, asker, tables } = lesson;
  const T = names.length;
  if (step === tables.covered.step) return { i: 0, j: T - 1 };
  const pairs = step === tables.scores.step || step === tables.weights.step;
  return { i: asker, j: pairs ? ranked(row(app.lesson.weights, asker, T))[0] : 0 };
}

/** Mark the tables that the step makes and those that it makes them from, the number looked at and
 * its own sources; and write how it comes about.
 * @param {Play} play
 */
function light(play) {
  const { lesson, boards, step, place } = play;
  const { i, j } = place;
  const T = lesson.names.length;
  const made = boardsOf(play, step);
  const looked = made.filter(([name, { width }]) => !(name in lesson.given) && j < width);
  const from = made.flatMap(([name]) => sourcesOf(name, i, 0, T).map(([source]) => source));
  const parts = looked.flatMap(([name]) => sourcesOf(name, i, j, T));
  for (const [name, { table, cells, width }] of boards) {
    const makes = lesson.tables[name].step === step && !(name in lesson.given && step > 0);
    table.dataset.lit = makes ? "made" : from.includes(name) ? "from" : "no";
    cells.forEach((cell, n) => {
      const [line, column] = [Math.floor(n / width), n % width];
      const source = parts.some(
        ([other, part]) =>
          other === name && (part.row ?? line) === line && (part.column ?? column) === column,
      );
      const chosen = line === i && column === j && looked.some(([other]) => other === name);
      cell.classList.toggle("source", source && !chosen);
      cell.classList.toggle("chosen", chosen);
    });
  }
  const lines = looked.map(([name]) =>
    reckoning(/** @type {Made} */ (name), i, j, app.lesson, lesson.names),
  );
  find("lesson-reckoning").textContent = (step ? lines : lesson.remarks).join("\n");
}
