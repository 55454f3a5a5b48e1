/* View 3: the open head's matrix: scores, masked scores, weights. */

import { app, characterAt, openHead } from "../app.js";
import { colour, drawGrid, valuePixels, weightPixels } from "../draw.js";
import { el, find, findKind, matrixRows, numbersTable } from "../html.js";
import { headName } from "../model.js";
import { hold, point } from "../selection.js";
import { glyph, glyphsOf, number, percent } from "../words.js";
import { asker, ASKS, LOOKED_AT, lookedAt, selectedOf } from "./common.js";

/** @import { CellAt } from "../draw.js" */
/** @import { Draw } from "../drawing.js" */

/** @returns {Draw} */
export function matrixView() {
  const canvas = findKind(HTMLCanvasElement, "matrix-canvas");
  /** @type {CellAt} */
  let cellAt = () => null;
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (cell) point(cell.row, Math.min(cell.column, cell.row));
  });
  canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell) hold(cell.row, Math.min(cell.column, cell.row));
  });
  find("save-picture").addEventListener("click", () => savePicture(canvas));
  find("copy-row").addEventListener("click", copyRow);
  const numbers = numbersTable("The matrix as a table", () => {
    const names = glyphsOf(app.trace.tokens).map((name, i) => `${i + 1} ${name}`);
    const write = app.state.stage === "weights" ? percent : number;
    return { head: ["query \\ key", ...names], rows: matrixRows(names, stageValues(), write) };
  });
  find("matrix-reading").after(numbers);
  /** @type {HTMLCanvasElement} */
  let picture;
  /** @type {unknown[]} */
  let shown = [];
  return () => {
    const { layer, head, stage, query, key } = app.state;
    const { T, tokens } = app.trace;
    const now = [openHead(), stage, colour("paper")];
    if (now.some((part, i) => part !== shown[i])) {
      picture = stagePixels();
      shown = now;
      numbers.refresh();
    }
    const names = glyphsOf(tokens);
    const room = canvas.parentElement?.clientWidth ?? 0;
    cellAt = drawGrid(canvas, {
      picture,
      rows: { names, at: query, ...ASKS },
      columns: { names, at: key, ...LOOKED_AT },
      most: Math.max(34 + 3 * T, Math.min(760, room)),
    });
    canvas.setAttribute(
      "aria-label",
      `Matrix of ${headName(layer, head)}: a row for each query, a column for each key. The arrow keys move as in the text.`,
    );
    find("matrix-reading").replaceChildren(...reading());
  };
}

/** The open head's (T, T) at the chosen stage. */
function stageValues() {
  const { scores, weights } = openHead();
  const { T } = app.trace;
  if (app.state.stage === "weights") return weights;
  return app.state.stage === "scores"
    ? scores
    : scores.map((score, n) => (n % T > Math.floor(n / T) ? -Infinity : score));
}

function stagePixels() {
  const { T } = app.trace;
  const values = stageValues();
  return app.state.stage === "weights" ? weightPixels(values, T) : valuePixels(values, T, T);
}

function reading() {
  const { scores, weights } = openHead();
  return [
    asker(),
    " attends to ",
    lookedAt(),
    `: score ${number(selectedOf(scores))} → weight ${percent(selectedOf(weights))}`,
    ` · uniform weight ${percent(1 / (app.state.query + 1))}`,
  ];
}

/** @param {HTMLCanvasElement} canvas */
function savePicture(canvas) {
  const { layer, head, stage } = app.state;
  const download = `${headName(layer, head)}-${stage}.png`;
  el("a", { download, href: canvas.toDataURL("image/png") }).click();
}

/** The query's row, one key a line, as a spreadsheet reads it. */
export function rowAsText() {
  const { query } = app.state;
  const { scores, weights } = openHead();
  const lines = ["position\tcharacter\tscore\tweight"];
  for (let j = 0; j <= query; j++) {
    const n = query * app.trace.T + j;
    lines.push([j + 1, glyph(characterAt(j)), scores[n], weights[n]].join("\t"));
  }
  return `${lines.join("\n")}\n`;
}

async function copyRow() {
  try {
    await navigator.clipboard.writeText(rowAsText());
    find("copied").textContent = `copied ${app.state.query + 1} lines`;
  } catch {
    find("copied").textContent =
      "the browser did not allow it; the table below holds the same numbers";
  }
}
