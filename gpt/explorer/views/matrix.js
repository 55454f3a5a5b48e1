/* View 3: the open head's matrix: scores, masked, weights. */

function matrixView() {
  const canvas = find("matrix-canvas");
  canvas.addEventListener("pointermove", (event) => {
    const cell = canvas.cellAt(event);
    if (cell) point(cell.row, Math.min(cell.column, cell.row));
  });
  canvas.addEventListener("click", (event) => {
    const cell = canvas.cellAt(event);
    if (cell) hold(cell.row, Math.min(cell.column, cell.row));
  });
  find("save-picture").addEventListener("click", () => savePicture(canvas));
  find("copy-row").addEventListener("click", () => copyRow());
  const numbers = numbersTable("The matrix as a table", () => {
    const { T } = app.trace;
    const values = stageValues();
    const names = glyphs();
    const rows = names.map((name, i) => [
      `${i + 1} ${name}`,
      ...Array.from(row(values, i, T), (value) => stageNumber(value)),
    ]);
    return { head: ["asks \\ looked at", ...names.map((name, j) => `${j + 1} ${name}`)], rows };
  });
  find("matrix-reading").after(numbers);
  let picture = null;
  let shown = null;
  return () => {
    const { T } = app.trace;
    const { layer, head, stage, query, key } = app.state;
    const open = openHead();
    if (shown?.open !== open || shown.stage !== stage || shown.theme !== colour("paper")) {
      picture = stagePixels(open, stage, T);
      shown = { open, stage, theme: colour("paper") };
      numbers.refresh();
    }
    const most = Math.max(34 + 3 * T, Math.min(760, canvas.parentElement.clientWidth));
    const names = glyphs();
    drawGrid(canvas, {
      picture,
      rows: { names, at: query, ...ASKS },
      columns: { names, at: key, ...LOOKED_AT },
      most,
    });
    canvas.setAttribute(
      "aria-label",
      `Matrix of ${headName(layer, head)}: a row for each character that asks, a column for each looked at. Arrows move as in the text.`,
    );
    find("matrix-reading").replaceChildren(...readingOf(open, query, key));
  };
}

function stageValues() {
  const { scores, weights } = openHead();
  const { T } = app.trace;
  if (app.state.stage === "weights") return weights;
  return app.state.stage === "scores"
    ? scores
    : scores.map((score, n) => (n % T > Math.floor(n / T) ? -Infinity : score));
}

function stageNumber(value) {
  return app.state.stage === "weights" ? percent(value) : number(value);
}

function stagePixels(open, stage, T) {
  if (stage === "weights") return weightPixels(open.weights, T);
  const shade = ramp();
  const seen =
    stage === "scores" ? open.scores : open.scores.filter((_, n) => n % T <= Math.floor(n / T));
  const [low, high] = extent(seen);
  return pixels(T, T, (i, j) => {
    if (stage === "masked" && j > i) return null;
    return shade(((open.scores[i * T + j] - low) / (high - low || 1)) ** 2);
  });
}

function readingOf(open, query, key) {
  const n = query * app.trace.T + key;
  return [
    el("b", { className: "query", textContent: saidAt(query) }),
    " asks ",
    el("b", { className: "key", textContent: saidAt(key) }),
    `: score ${number(open.scores[n])} → weight ${percent(open.weights[n])}`,
    ` · uniform weights would give ${percent(1 / (query + 1))}`,
  ];
}

function savePicture(canvas) {
  const { layer, head, stage } = app.state;
  const link = el("a", {
    download: `${headName(layer, head)}-${stage}.png`,
    href: canvas.toDataURL("image/png"),
  });
  link.click();
}

/** The asking character's row, one key a line, so that a spreadsheet takes it. */
function rowAsText() {
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
    find("copied").textContent = "the browser did not allow it; the table below has the numbers";
  }
}
