/* Views 5 to 7: where a match came from, a head's rule, and every step with its numbers. */

// --- 5 where the match came from ---------------------------------------------------------------

const MOST_PAIRS = 6;

function sourceView() {
  const box = find("source-content");
  const numbers = numbersTable("Every pair of parts, as a table", () => {
    const { scores, queries, keys } = app.parts;
    return { head: ["query \\ key", ...keys.map((part) => part.name)], rows: queries.map((part, a) => [part.name, ...scores[a].map((value) => signed(value, 3))]) };
  });
  const content = el("div");
  box.append(content, numbers);
  return () => {
    const { layer, head, query, key } = app.state;
    const parts = (app.parts = scoreParts(app.model, app.trace, { layer, head, query, key }));
    const score = openHead().scores[query * app.trace.T + key];
    const sum = total(parts.scores.map(total));
    const sorted = (list) => [...list].sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
    content.replaceChildren(
      el("div", { className: "columns" },
        el("div", {}, el("h4", {}, "What wrote the ", el("b", { className: "query", textContent: "query" }), ` of ${saidAt(query)}`), signedRows(sorted(parts.queries), "query")),
        el("div", {}, el("h4", {}, "What wrote the ", el("b", { className: "key", textContent: "key" }), ` of ${saidAt(key)}`), signedRows(sorted(parts.keys), "key"))),
      el("p", { className: "numbers", textContent: `Either list sums to ${signed(sum, 4)}; the score is ${signed(score, 4)}; difference ${Math.abs(sum - score).toExponential(0)}.` }),
      el("p", {}, "The strongest pairs: ", ...strongestPairs(parts), "."),
    );
    numbers.refresh();
  };
}

function strongestPairs({ scores, queries, keys }) {
  const pairs = scores.flatMap((line, a) => line.map((score, b) => ({ score, a, b })));
  pairs.sort((one, other) => Math.abs(other.score) - Math.abs(one.score));
  return pairs.slice(0, MOST_PAIRS).flatMap(({ score, a, b }, n) => [
    n ? ", " : "",
    el("b", { className: "query", textContent: queries[a].name }), " × ",
    el("b", { className: "key", textContent: keys[b].name }), ` ${signed(score)}`,
  ]);
}

// --- 6 the head's rule -------------------------------------------------------------------------

const MOST_CHARACTERS = 100; // shown of an alphabet; of a larger one, the text's own

function charactersShown() {
  const { model, trace } = app;
  return model.V <= MOST_CHARACTERS ? model.alphabet.map((_, id) => id) : [...new Set(trace.tokens)].sort((a, b) => a - b);
}

function ruleView() {
  const box = find("rule-content");
  const asks = ruleTable("asks (query)", "looked at (key)");
  const place = el("div");
  const rises = ruleTable("looked at", "next character");
  const words = { asks: el("p"), rises: el("p") };
  const absent = el("p", { className: "note" });
  box.append(absent, el("div", { className: "columns even" },
    el("div", {}, el("h4", { textContent: "Who asks for whom" }), words.asks, asks.element),
    el("div", {}, el("h4", { textContent: "If I attend to it, what comes next?" }), words.rises, rises.element)), place);
  return () => {
    const { model, trace, state } = app;
    const { layer, head, query, key } = state;
    const ids = charactersShown();
    const at = { row: ids.indexOf(trace.tokens[query]), column: ids.indexOf(trace.tokens[key]) };
    const distance = model.config.positions === "rotary" ? query - key : 0;
    const [readable, reaches] = [readsEmbedding(model, layer), reachesLogits(model, layer)];
    absent.textContent = absenceOf(readable, reaches);
    const scores = readable ? characterScores(model, { layer, head, ids, distance }) : null;
    const final = row(trace.final, query, model.C);
    const raised = readable && reaches ? outputRises(model, { layer, head, ids, final }) : null;
    asks.show(scores, ids, ids, at);
    const all = model.alphabet.map((_, id) => id);
    rises.show(raised, ids, model.V <= MOST_CHARACTERS ? all : null, { row: at.column, column: -1 });
    words.asks.replaceChildren(...(scores ? asksWords(scores, ids, at, distance) : []));
    words.rises.replaceChildren(...(raised ? risesWords(raised, at.column, trace.tokens[key]) : []));
    place.replaceChildren(...(readable ? placePicture() : []));
  };
}

function absenceOf(readable, reaches) {
  if (!readable) return "Without a residual stream this layer no longer reads the embeddings themselves: there is no rule over the alphabet to show.";
  return reaches ? "" : "Without a residual stream what this head writes does not reach the logits directly: there is no table of what it makes rise.";
}

/** A table over the alphabet as a picture whose rows and columns can be asked about. */
function ruleTable(rowName, columnName) {
  const canvas = el("canvas", { ariaHidden: "true" });
  const reading = el("p", { className: "numbers" });
  let shown = null;
  const name = (id) => glyph(app.model.alphabet[id]);
  const numbers = numbersTable(`${rowName} × ${columnName}, as a table`, () => ({
    head: [`${rowName} \\ ${columnName}`, ...shown.columns.map(name)],
    rows: shown.rows.map((id, i) => [name(id), ...Array.from(row(shown.values, i, shown.columns.length), (value) => signed(value))]),
  }));
  canvas.addEventListener("pointermove", (event) => {
    const cell = canvas.cellAt(event);
    if (!cell) return;
    const value = shown.values[cell.row * shown.columns.length + cell.column];
    const [from, to] = [shown.rows[cell.row], shown.columns[cell.column]].map((id) => said(app.model.alphabet[id]));
    reading.textContent = `${from} × ${to}: ${signed(value)}`;
  });
  const picture = el("div", {}, el("div", { className: "scroll" }, canvas), reading, numbers);
  return {
    element: picture,
    show(values, rows, columns, at) {
      picture.hidden = !values || !columns;
      if (picture.hidden) return;
      if (shown?.values !== values) reading.textContent = "";
      shown = { values, rows, columns };
      drawGrid(canvas, {
        picture: valuePixels(values, rows.length, columns.length),
        rows: rows.map(name), columns: columns.map(name), rowName, columnName, at,
        most: Math.min(620, picture.parentElement.clientWidth),
      });
      numbers.refresh();
    },
  };
}

/** The largest entries of `values`, in words: 'q' +4.2, 'u' +1.0 */
function listed(values, order, ids) {
  return order.map((n) => `${said(app.model.alphabet[ids[n]])} ${signed(values[n], 1)}`).join(", ");
}

function asksWords(scores, ids, at, distance) {
  const line = row(scores, at.row, ids.length);
  const apart = app.model.config.positions === "rotary" ? ` ${distance} before it` : "";
  return ["When ", el("b", { className: "query", textContent: said(app.model.alphabet[ids[at.row]]) }), ` asks, it matches best, among all characters${apart}: `,
    `${listed(line, ranked(line).slice(0, 5), ids)}.`];
}

function risesWords(rises, index, id) {
  const line = row(rises, index, app.model.V);
  const order = ranked(line);
  const ids = app.model.alphabet.map((_, n) => n);
  return ["Full weight on ", el("b", { className: "key", textContent: said(app.model.alphabet[id]) }),
    ` raises ${listed(line, order.slice(0, 4), ids)}; and lowers ${listed(line, order.slice(-4).reverse(), ids)} (logits, by this head alone, the final norm held as it is here).`];
}

/** What the model knows of place: position × position, or match by distance, or nothing. */
function placePicture() {
  const { model, trace, state } = app;
  const { layer, head, query, key } = state;
  const title = (textContent) => el("h4", { textContent });
  if (model.config.positions === "none") return [title("Place"), el("p", { textContent: "This model is told nothing of where a character stands." })];
  const canvas = el("canvas", { ariaHidden: "true" });
  if (model.config.positions === "learned") {
    const T = trace.T;
    const values = positionScores(model, { layer, head, T });
    const names = Array.from({ length: T }, (_, t) => String((t + 1) % 10));
    drawGrid(canvas, { picture: valuePixels(values, T, T), rows: names, columns: names, rowName: "asks at", columnName: "looked at", at: { row: query, column: key }, most: Math.min(500, find("rule-content").clientWidth) });
    const numbers = numbersTable("Position × position, as a table", () => ({
      head: ["asks at \\ looked at", ...names.map((_, t) => t + 1)],
      rows: names.map((_, t) => [t + 1, ...Array.from(row(values, t, T), (value) => signed(value))]),
    }));
    return [title("Position asks for position"), el("p", { textContent: "The same, for the position embeddings alone: the darker, the better the match." }), el("div", { className: "scroll" }, canvas), numbers];
  }
  const most = Math.min(model.config.block_size, 64);
  const scores = distanceScores(model, { layer, head, ids: [trace.tokens[query], trace.tokens[key]], most });
  drawStrip(canvas, scores, "ink", { width: Math.min(620, find("rule-content").clientWidth), height: 90 });
  const best = ranked(scores)[0];
  const numbers = numbersTable("Score by distance, as a table", () => ({ head: ["characters back", "score"], rows: Array.from(scores, (score, d) => [String(d), signed(score)]) }));
  return [title("How far back?"), el("p", {}, "The score that ", el("b", { className: "query", textContent: said(characterAt(query)) }), " and ",
    el("b", { className: "key", textContent: said(characterAt(key)) }), ` would have 0, 1, 2 … ${most - 1} characters apart: best at ${best}.`), canvas, numbers];
}

// --- 7 step by step ----------------------------------------------------------------------------

function stepsView() {
  const list = find("steps-content");
  return () => {
    list.replaceChildren(...stepsOf().map(stepElement));
  };
}

function stepElement({ title, line, shape, words, strips = [], matrix = null }) {
  const { number: at, text } = app.data.lines[line];
  const item = el("li", {}, el("h3", { textContent: title }),
    el("p", { className: "source-line" }, el("span", { textContent: `model.py:${at}` }), el("code", { textContent: text }), el("span", { textContent: shape })),
    el("p", {}, ...words));
  for (const strip of strips) item.append(stripElement(strip));
  if (matrix) item.append(matrixElement(matrix));
  if (strips.length) {
    const longest = Math.max(...strips.map(({ values }) => values.length));
    item.append(numbersTable("the numbers", () => ({
      head: ["", ...Array.from({ length: longest }, (_, d) => String(d + 1))],
      rows: strips.map(({ name, values }) => [name, ...Array.from(values, (value) => number(value, 3))]),
    })));
  }
  return item;
}

function stripElement({ name, values, role, note = "" }) {
  const canvas = el("canvas", { ariaHidden: "true" });
  drawStrip(canvas, values, role, { width: Math.min(384, find("steps-content").clientWidth - 40), height: 30 });
  return el("div", { className: "strip" }, el("span", { className: `name ${role}`, textContent: name }), canvas, el("span", { className: "amount", textContent: note }));
}

function matrixElement({ name, values, columns, summary }) {
  const rows = values.length / columns;
  const picture = valuePixels(values, rows, columns);
  picture.setAttribute("aria-hidden", "true");
  picture.className = "weights";
  const numbers = numbersTable(summary, () => ({
    head: ["", ...Array.from({ length: columns }, (_, c) => String(c + 1))],
    rows: Array.from({ length: rows }, (_, r) => [String(r + 1), ...Array.from(row(values, r, columns), (value) => number(value, 3))]),
  }));
  return el("div", {}, el("p", { className: "note", textContent: name }), picture, numbers);
}

function stepsOf() {
  const { model, trace, state } = app;
  const { layer, head, query } = state;
  const { config, D, C } = model;
  const open = openHead();
  const block = trace.layers[layer];
  const full = model.tensors.size > 0;
  const asker = el("b", { className: "query", textContent: saidAt(query) });
  const qkv = [
    { name: "query", values: row(open.q, query, D), role: "query" },
    { name: "key", values: row(open.k, query, D), role: "key" },
    { name: "value", values: row(open.v, query, D), role: "value" },
  ];
  const steps = [];
  if (full) {
    const first = row(trace.layers[0].input, query, C);
    steps.push({
      title: "Embed: a character becomes a vector", line: config.positions === "learned" ? "position" : "embed", shape: `x (T, C) = (${trace.T}, ${C})`,
      words: [asker, ` is number ${trace.tokens[query]} of the ${model.V} characters: row ${trace.tokens[query]} of the embedding`, config.positions === "learned" ? `, plus row ${query} of the position table.` : "."],
      strips: [{ name: "x", values: first, role: "ink" }],
    });
    const names = layer ? `After ${layer} ${layer > 1 ? "layers have" : "layer has"} written to it, the` : "The";
    if (config.norm !== "none") steps.push({
      title: `Normalise, on the way into layer ${layer + 1}`, line: "norm", shape: `(${trace.T}, ${C})`,
      words: [`${names} vector is brought to a common size, so that no character shouts.`],
      strips: [{ name: "before", values: row(block.input, query, C), role: "ink" }, { name: "x", values: row(block.normed, query, C), role: "ink" }],
    });
  }
  steps.push({
    title: "Three linear maps of x: query, key and value", line: "qkv", shape: `Wq, Wk, Wv (D, C) = (${D}, ${C}); q, k, v (T, D) = (${trace.T}, ${D})`,
    words: ["Every character makes all three: ", ...captions(), ". Here they are for ", asker.cloneNode(true),
      `, as the scores use them${afterwards(config)}.`],
    strips: qkv,
    matrix: full ? { name: `Wq of ${headName(layer, head)}: ${D} rows, each times x makes one number of the query (light: low, dark: high)`, values: headMatrix(model, layer, head, "query"), columns: C, summary: "Wq as a table" } : null,
  });
  if (config.positions === "rotary") steps.push({ title: "Turn query and key by their position", line: "rotary", shape: `(T, D) = (${trace.T}, ${D})`,
    words: [`Pairs of dimensions turn by an angle that grows with the position, here ${query + 1}: so a score depends on how far apart two characters are.`] });
  if (config.qk_norm) steps.push({ title: "Bring queries and keys to one length", line: "qk_norm", shape: `|q| = |k| = √D = ${number(Math.sqrt(D))}`,
    words: [`So no score can exceed √D = ${number(Math.sqrt(D))}; direction alone decides. Here |q| is ${number(Math.sqrt(dot(qkv[0].values, qkv[0].values)))}.`] });
  return [...steps, ...scoreSteps(open), ...outputSteps(open)];
}

function captions() {
  return [
    el("b", { className: "query", textContent: "what am I looking for?" }), ", ",
    el("b", { className: "key", textContent: "what do I have?" }), ", ",
    el("b", { className: "value", textContent: "what can I share?" }),
  ];
}

function afterwards(config) {
  const done = [config.positions === "rotary" && "turned", config.qk_norm && "brought to one length"].filter(Boolean);
  return done.length ? `, query and key already ${done.join(" and ")} (next steps)` : "";
}

function scoreSteps(open) {
  const { query, key } = app.state;
  const { T } = app.trace;
  const { D } = app.model;
  const [q, k] = [row(open.q, query, D), row(open.k, key, D)];
  const score = open.scores[query * T + key];
  const allowed = open.scores.subarray(query * T, query * T + query + 1);
  const weights = weightsOf(open.scores, T).subarray(query * T, query * T + query + 1);
  return [
    { title: "Score: multiply query with key, and add up", line: "score", shape: `scores (T, T) = (${T}, ${T})`,
      words: [el("b", { className: "query", textContent: saidAt(query) }), " · ", el("b", { className: "key", textContent: saidAt(key) }),
        ` = ${number(dot(q, k))}; divided by √D = ${number(Math.sqrt(D))} it is ${number(score)}. The division keeps the softmax from being too sure.`],
      strips: [{ name: "query", values: q, role: "query" }, { name: "key", values: k, role: "key" }, { name: "q × k", values: q.map((value, d) => value * k[d]), role: "ink", note: `sum ${number(dot(q, k))}` }] },
    { title: "Mask: nobody looks into the future", line: "mask", shape: `(${T}, ${T})`,
      words: [`Of the ${T} scores of this row the last ${T - 1 - query} become −∞; ${query + 1} remain.`],
      strips: [{ name: "scores", values: allowed, role: "ink" }] },
    { title: "Softmax: scores become weights that sum to one", line: "softmax", shape: `weights (T, T) = (${T}, ${T})`,
      words: [`e^${number(score)} = ${number(Math.exp(score))}, divided by the sum of all ${query + 1}, is `, el("b", { textContent: percent(weights[key]) }), `. The row sums to ${number(total(weights), 4)}.`],
      strips: [{ name: "weights", values: weights, role: "ink" }] },
  ];
}

const MOST_SUMMANDS = 4;

function outputSteps(open) {
  const { model, trace, state } = app;
  const { layer, head, query } = state;
  const { T } = trace;
  const { D, C, V, config } = model;
  const weights = row(open.weights, query, T).slice(0, query + 1);
  const order = ranked(weights).slice(0, MOST_SUMMANDS);
  const out = row(open.out, query, D);
  const steps = [{
    title: "Mix: the values, each times its weight, added up", line: "mix", shape: `out (T, D) = (${T}, ${D})`,
    words: ["What the looked-at characters ", el("b", { className: "value", textContent: "share" }), `, mixed. The ${order.length} largest weights make up ${percent(total(order.map((j) => weights[j])))}; the sum is over all ${query + 1}.`],
    strips: [...order.map((j) => ({ name: `${percent(weights[j])} × ${glyph(characterAt(j))} at ${j + 1}`, values: row(open.v, j, D).map((value) => value * weights[j]), role: "value" })), { name: "sum", values: out, role: "output" }],
  }];
  const odds = softmax(row(trace.logits, query, V));
  if (model.tensors.size) {
    const written = writtenBy(model, layer, head, out);
    steps.push({
      title: config.residual ? "Project, and add to the stream" : "Put the heads side by side", line: config.residual ? "project" : "residual", shape: `(T, C) = (${T}, ${C})`,
      words: config.residual ? [`What ${headName(layer, head)} writes; the other heads of the layer write theirs, and all are added to x.`] : ["Each head fills its own dimensions of the next vector."],
      strips: [{ name: `${headName(layer, head)} writes`, values: written, role: "output" }, { name: "x after layer", values: row(trace.layers[layer].output, query, C), role: "ink" }],
    });
  }
  const best = ranked(odds).slice(0, 3);
  steps.push({
    title: "Read out: odds of the next character", line: "read_out", shape: `logits (T, V) = (${T}, ${V})`,
    words: [`After the last layer, softmax over the alphabet: ${best.map((id) => `${said(model.alphabet[id])} ${percent(odds[id])}`).join(", ")}.`],
    strips: [{ name: "odds", values: odds, role: "output" }],
  });
  return steps;
}
