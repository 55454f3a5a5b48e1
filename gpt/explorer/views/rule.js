/* View 6: the head's rule: other characters, and other places. */

const MOST_CHARACTERS = 100; // shown of an alphabet; of a larger one, the text's own

function charactersShown() {
  const { model, trace } = app;
  return model.V <= MOST_CHARACTERS
    ? model.alphabet.map((_, id) => id)
    : [...new Set(trace.tokens)].sort((a, b) => a - b);
}

function ruleView() {
  const box = find("rule-content");
  const asks = ruleTable(ASKS, LOOKED_AT);
  const place = el("div");
  const rises = ruleTable(LOOKED_AT, { title: "next character", role: "output" });
  const words = { asks: el("p"), rises: el("p") };
  const absent = el("p", { className: "note" });
  box.append(
    absent,
    el(
      "div",
      { className: "columns even" },
      el("div", {}, el("h4", { textContent: "Who asks for whom" }), words.asks, asks.element),
      el(
        "div",
        {},
        el("h4", { textContent: "If I attend to it, what comes next?" }),
        words.rises,
        rises.element,
      ),
    ),
    place,
  );
  return () => {
    const { model, trace, state } = app;
    const { layer, head, query, key } = state;
    const ids = charactersShown();
    const [asking, held] = [query, key].map((position) => ids.indexOf(trace.tokens[position]));
    const [readable, reaches] = [readsEmbedding(model, layer), reachesLogits(model, layer)];
    absent.textContent = absenceOf(readable, reaches);
    const scores = readable ? characterScores(model, { layer, head, ids, query, key }) : null;
    const final = row(trace.final, query, model.C);
    const raised =
      readable && reaches ? outputRises(model, { layer, head, ids, key, final }) : null;
    asks.show(scores, { ids, at: asking }, { ids, at: held });
    rises.show(raised && columnsOf(raised, model.V, ids), { ids, at: held }, { ids });
    words.asks.replaceChildren(...(scores ? asksWords(scores, ids, asking) : []));
    words.rises.replaceChildren(...(raised ? risesWords(raised, held, trace.tokens[key]) : []));
    refill(place, readable ? placePicture() : []);
  };
}

/** The columns `ids` of a matrix that is `width` wide. */
function columnsOf(matrix, width, ids) {
  const rows = matrix.length / width;
  return Float32Array.from({ length: rows * ids.length }, (_, n) => {
    return matrix[Math.floor(n / ids.length) * width + ids[n % ids.length]];
  });
}

function absenceOf(readable, reaches) {
  if (!readable)
    return "Without a residual stream this layer no longer reads the embeddings themselves: there is no rule over the alphabet to show.";
  return reaches
    ? ""
    : "Without a residual stream what this head writes does not reach the logits directly: there is no table of what it makes rise.";
}

/** A table over the alphabet as a picture whose rows and columns can be asked about. */
function ruleTable(down, across) {
  const canvas = el("canvas", { ariaHidden: "true" });
  const reading = el("p", { className: "numbers" });
  let shown = null;
  const name = (id) => glyph(app.model.alphabet[id]);
  const numbers = numbersTable(`${down.title} × ${across.title}, as a table`, () => ({
    head: [`${down.title} \\ ${across.title}`, ...shown.columns.ids.map(name)],
    rows: shown.rows.ids.map((id, i) => [
      name(id),
      ...Array.from(row(shown.values, i, shown.columns.ids.length), (value) => signed(value)),
    ]),
  }));
  canvas.addEventListener("pointermove", (event) => {
    const cell = canvas.cellAt(event);
    if (!cell) return;
    const value = shown.values[cell.row * shown.columns.ids.length + cell.column];
    const [from, to] = [shown.rows.ids[cell.row], shown.columns.ids[cell.column]].map((id) =>
      said(app.model.alphabet[id]),
    );
    reading.textContent = `${from} × ${to}: ${signed(value)}`;
  });
  const picture = el("div", {}, el("div", { className: "scroll" }, canvas), reading, numbers);
  return {
    element: picture,
    show(values, rows, columns) {
      picture.hidden = !values;
      if (picture.hidden) return;
      if (shown?.values !== values) reading.textContent = "";
      shown = { values, rows, columns };
      drawGrid(canvas, {
        picture: standingOut(values, rows.ids.length, columns.ids.length),
        rows: { names: rows.ids.map(name), at: rows.at, ...down },
        columns: { names: columns.ids.map(name), at: columns.at, ...across },
        most: Math.min(700, picture.parentElement.clientWidth),
      });
      numbers.refresh();
    },
  };
}

/** The largest entries of `values`, in words: 'q' +4.2, 'u' +1.0 */
function listed(values, order, ids) {
  return order.map((n) => `${said(app.model.alphabet[ids[n]])} ${signed(values[n], 1)}`).join(", ");
}

function asksWords(scores, ids, asking) {
  const line = row(scores, asking, ids.length);
  const { query, key } = app.state;
  const places = { none: "", rotary: ` ${query - key} before it`, learned: ` at ${key + 1}` }[
    app.model.config.positions
  ];
  return [
    "When ",
    el("b", { className: "query", textContent: said(app.model.alphabet[ids[asking]]) }),
    ` asks, it matches best, among all characters${places}: `,
    `${listed(line, ranked(line).slice(0, 5), ids)}.`,
  ];
}

function risesWords(rises, index, id) {
  const line = row(rises, index, app.model.V);
  const order = ranked(line);
  const ids = app.model.alphabet.map((_, n) => n);
  return [
    "Full weight on ",
    el("b", { className: "key", textContent: said(app.model.alphabet[id]) }),
    ` raises ${listed(line, order.slice(0, 4), ids)}; and lowers ${listed(line, order.slice(-4).reverse(), ids)} (logits, by this head alone, the final norm held as it is here).`,
  ];
}

/** The two characters as they are, at other places: the other half of the rule. */
function placePicture() {
  const {
    model,
    trace,
    state: { layer, head, query, key },
  } = app;
  const pair = [
    el("b", { className: "query", textContent: said(characterAt(query)) }),
    " and ",
    el("b", { className: "key", textContent: said(characterAt(key)) }),
  ];
  const title = el("h4", { textContent: "And at other places?" });
  if (model.config.positions === "none")
    return [
      title,
      el(
        "p",
        {},
        "This model is told nothing of where a character stands: ",
        ...pair,
        " score the same everywhere.",
      ),
    ];
  const [asks, held] = [trace.tokens[query], trace.tokens[key]];
  if (model.config.positions === "learned")
    return [title, ...placeGrid(placeScores(model, { layer, head, asks, held, T: trace.T }), pair)];
  const most = Math.min(model.config.block_size, 64);
  const scores = placeScores(model, { layer, head, asks, held, T: most }).filter(
    (_, n) => n % most === 0,
  ); // key at 1
  return [title, ...distanceStrip(scores, pair)];
}

function placeGrid(scores, pair) {
  const {
    trace: { T },
    state: { query, key },
  } = app;
  const canvas = el("canvas", { ariaHidden: "true" });
  const names = Array.from({ length: T }, (_, t) => String((t + 1) % 10));
  drawGrid(canvas, {
    picture: standingOut(scores, T, T),
    rows: { names, at: query, ...ASKS },
    columns: { names, at: key, ...LOOKED_AT },
    most: Math.min(500, find("rule-content").clientWidth),
  });
  const numbers = numbersTable("Position × position, as a table", () => ({
    head: ["asks at \\ looked at", ...names.map((_, t) => String(t + 1))],
    rows: names.map((_, t) => [
      String(t + 1),
      ...Array.from(row(scores, t, T), (score) => signed(score)),
    ]),
  }));
  return [
    el("p", {}, "What ", ...pair, " would score, wherever the two stood."),
    el("div", { className: "scroll" }, canvas),
    numbers,
  ];
}

function distanceStrip(scores, pair) {
  const { query, key } = app.state;
  const canvas = el("canvas", { ariaHidden: "true" });
  drawStrip(canvas, scores, "ink", {
    width: Math.min(640, find("rule-content").clientWidth),
    height: 90,
  });
  const numbers = numbersTable("Score by distance, as a table", () => ({
    head: ["characters back", "score"],
    rows: Array.from(scores, (score, distance) => [String(distance), signed(score)]),
  }));
  const here =
    query - key < scores.length
      ? ` Here they are ${query - key} apart: ${signed(scores[query - key])}.`
      : "";
  return [
    el(
      "p",
      {},
      "What ",
      ...pair,
      ` would score 0, 1, 2 … ${scores.length - 1} characters apart: best at ${ranked(scores)[0]}.${here}`,
    ),
    canvas,
    numbers,
  ];
}
