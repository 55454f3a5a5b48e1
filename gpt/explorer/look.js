/* Views 1 to 4: the text, all heads, the matrix, why a weight is what it is.
 *
 * Each view makes its elements once and returns `draw(change)`; all show one selection.
 *
 * `change` is "trace" when the numbers are new and "selection" when another character or head is
 * looked at. `app` (page.js) has the model, the trace and the state.
 */

function openHead() {
  return app.trace.layers[app.state.layer]?.heads[app.state.head];
}

function characterAt(position) {
  return app.model.alphabet[app.trace.tokens[position]];
}

/** 'u' at 17 */
function saidAt(position) {
  return `${said(characterAt(position))} at ${position + 1}`;
}

function glyphs() {
  return Array.from(app.trace.tokens, (id) => glyph(app.model.alphabet[id]));
}

/** The weights that the open head gives from, or to, the asking character: one a position. */
function weightsShown() {
  const { query, direction } = app.state;
  const { weights } = openHead();
  return Array.from({ length: app.trace.T }, (_, t) =>
    direction === "from" ? weights[query * app.trace.T + t] : weights[t * app.trace.T + query],
  );
}

/** Those of `weights` that make up the largest `share` of their sum; the others are zero. */
function topOf(weights, share) {
  const enough = share * total(weights);
  const kept = weights.map(() => 0);
  let sum = 0;
  for (const t of ranked(weights)) {
    if (sum >= enough - 1e-6) break;
    kept[t] = weights[t];
    sum += weights[t];
  }
  return kept;
}

// --- 1 the text --------------------------------------------------------------------------------

function textView() {
  const list = find("characters");
  const positionOf = (event) => {
    const option = event.target.closest("[role=option]");
    return option ? Number(option.dataset.position) : null;
  };
  list.addEventListener("pointermove", (event) => point(positionOf(event)));
  list.addEventListener("click", (event) => hold(positionOf(event)));
  let options = [];
  const fill = () => {
    options = Array.from(app.trace.tokens, (id, position) => {
      const character = app.model.alphabet[id];
      const shown = glyph(character);
      const option = el("span", { id: `c${position + 1}`, textContent: shown, data: { position } });
      option.setAttribute("role", "option");
      option.classList.toggle("odd", [...shown].length > 2);
      option.setAttribute("aria-label", `${said(character)} at ${position + 1}`);
      return option;
    });
    list.replaceChildren(
      ...options.flatMap((option) => [option, ...breakAfter(characterAt(option.dataset.position))]),
    );
  };
  return (change) => {
    if (change === "trace") fill();
    const { query, key, locked, share } = app.state;
    const shade = ramp();
    const weights = openHead() ? topOf(weightsShown(), share) : options.map(() => 0);
    options.forEach((option, t) => {
      const rgb = shade(weights[t]);
      option.style.backgroundColor = css(rgb);
      option.style.color = readableOn(rgb);
      option.classList.toggle("query", t === query);
      option.classList.toggle("key", t === key && Boolean(openHead()));
      option.setAttribute("aria-selected", String(t === query));
    });
    list.classList.toggle("locked", locked);
    list.setAttribute("aria-activedescendant", `c${query + 1}`);
    drawArcs(options, weights);
  };
}

/** Lines end where the text's own end, and else where a word does. */
function breakAfter(character) {
  return character === "\n" ? [el("br")] : character === " " ? [el("wbr")] : [];
}

/** A curve from the asking character to each one looked at, as thick as the weight. */
function drawArcs(options, weights) {
  const paper = find("paper");
  const context = contextOf(find("arcs"), paper.clientWidth, paper.clientHeight);
  const { query, direction } = app.state;
  const top = (option) => [option.offsetLeft + option.offsetWidth / 2, option.offsetTop + 2];
  const [x, y] = top(options[query]);
  context.strokeStyle = css(colour(direction === "from" ? "key" : "query"));
  weights.forEach((weight, t) => {
    if (weight < 0.02 || t === query) return;
    const [toX, toY] = top(options[t]);
    const lift = Math.min(26, 8 + Math.abs(toX - x) / 8);
    context.globalAlpha = 0.25 + 0.75 * weight;
    context.lineWidth = 1 + 4 * weight;
    context.beginPath();
    context.moveTo(x, y);
    context.quadraticCurveTo((x + toX) / 2, Math.min(y, toY) - lift, toX, toY);
    context.stroke();
  });
}

function oddsView() {
  const box = find("odds");
  return () => {
    const { query } = app.state;
    const [now, before] = [app.trace, app.untouched].map((trace) =>
      softmax(row(trace.logits, query, app.model.V)),
    );
    const next = query + 1 < app.trace.T ? app.trace.tokens[query + 1] : null;
    const changed = app.trace !== app.untouched;
    const shown = ranked(changed ? now.map((share, id) => Math.max(share, before[id])) : now).slice(
      0,
      8,
    );
    const rows = shown.map((id) => ({
      name: glyph(app.model.alphabet[id]),
      to: now[id],
      text: changed ? `${percent(before[id])} → ${percent(now[id])}` : percent(now[id]),
      role: "output",
      marked: id === next,
      ghost: changed ? before[id] : null,
    }));
    const truth =
      next === null
        ? "the text ends here"
        : `the text has ${said(app.model.alphabet[next])}: ${percent(now[next])}`;
    box.replaceChildren(
      el(
        "h3",
        {},
        "What comes after ",
        el("b", { className: "query", textContent: saidAt(query) }),
        "?",
      ),
      barRows(rows),
      el("p", { className: "note", textContent: truth }),
    );
  };
}

function sentenceView() {
  const chooser = find("head");
  const { n_layer: L, n_head: H } = app.model.config;
  for (let layer = 0; layer < L; layer++) {
    for (let head = 0; head < H; head++)
      chooser.append(el("option", { textContent: headName(layer, head) }));
  }
  chooser.addEventListener("change", () =>
    openHeadAt(Math.floor(chooser.selectedIndex / H), chooser.selectedIndex % H),
  );
  find("undo").addEventListener("click", () => changeWeights(new Map()));
  return () => {
    const { layer, head, query, key, locked } = app.state;
    chooser.selectedIndex = layer * H + head;
    find("undo").hidden = app.edits.size === 0;
    const open = openHead();
    const gives = open
      ? ` gives ${percent(open.weights[query * app.trace.T + key])} to ${saidAt(key)}`
      : "";
    find("sentence").textContent = `${saidAt(query)}${gives}${locked ? " (held)" : ""}`;
  };
}

/** What the colours mean: the ramp of weights, and the roles. */
function legendView() {
  const shares = [0, 0.01, 0.1, 0.25, 0.5, 1];
  return (change) => {
    if (change !== "trace") return;
    const shade = ramp();
    const swatches = shares.map((share) => {
      const swatch = el("span", { className: "swatch", textContent: percent(share) });
      swatch.style.backgroundColor = css(shade(share));
      swatch.style.color = readableOn(shade(share));
      return swatch;
    });
    const roles = {
      query: "the character that asks",
      key: "the one looked at",
      value: "what is shared",
      output: "what comes of it",
    };
    const named = Object.entries(roles).map(([role, meaning]) =>
      el("span", {}, el("b", { className: role, textContent: "■ " }), meaning),
    );
    find("legend").replaceChildren(el("span", {}, "weight ", ...swatches), ...named);
  };
}

// --- 2 all heads -------------------------------------------------------------------------------

function headsView() {
  const grid = find("grid");
  const { n_layer: L, n_head: H } = app.model.config;
  grid.style.setProperty("--heads", H);
  const cells = [];
  for (let layer = 0; layer < L; layer++) {
    for (let head = 0; head < H; head++) {
      const canvas = el("canvas", { ariaHidden: "true" });
      const habit = el("span", { className: "habit" });
      const button = el(
        "button",
        { type: "button", className: "head-cell" },
        el("b", { textContent: headName(layer, head) }),
        canvas,
        habit,
      );
      button.addEventListener("click", () => openHeadAt(layer, head));
      cells.push({ layer, head, canvas, habit, button });
    }
  }
  const numbers = numbersTable("What every head looks at, beside uniform weights, as a table", () =>
    rolesTable(),
  );
  grid.append(...cells.map((cell) => cell.button));
  grid.after(numbers);
  grid.addEventListener("keydown", walk);
  return (change) => {
    for (const { layer, head, canvas, habit, button } of cells) {
      const open = layer === app.state.layer && head === app.state.head;
      button.setAttribute("aria-pressed", String(open));
      button.tabIndex = open ? 0 : -1;
      if (open && grid.contains(document.activeElement)) button.focus();
      if (change !== "trace") continue;
      const { weights } = app.trace.layers[layer].heads[head];
      const picture = weightPixels(weights, app.trace.T);
      Object.assign(canvas, { width: picture.width, height: picture.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      const edit = app.edits.get(headName(layer, head));
      habit.replaceChildren(...(edit ? ["changed by hand"] : habitOf(weights)));
    }
    if (change === "trace") numbers.refresh();
  };
}

const CLEAR = 0.25; // of the way from chance to always: from here on a head has a habit

/** What a head does, in a few words, and beside it what uniform weights would do. */
function habitOf(weights) {
  const { tokens, T } = app.trace;
  if (T < 2) return ["one character alone looks at itself"];
  const role = mainRole(weights, tokens);
  const [spread, reach] = [spreadOf(weights, T), reachOf(weights, T)];
  const beside = (words, uniform) => [words, el("small", { textContent: `uniform ${uniform}` })];
  if (lift(role) >= CLEAR)
    return beside(`${role.name}: ${percent(role.share)}`, percent(role.uniform));
  if (spread >= 0.9) return beside(`spread evenly: entropy ${percent(spread)}`, percent(1));
  return beside(`mixed: ${number(reach.share, 1)} characters back`, number(reach.uniform, 1));
}

function rolesTable() {
  const { tokens, T } = app.trace;
  const head = [
    "head",
    ...ROLES.map((role) => `${role.name} (uniform)`),
    "entropy",
    "characters back (uniform)",
  ];
  const rows = app.trace.layers.flatMap((block, layer) =>
    block.heads.map(({ weights }, h) => {
      const roles = rolesOf(weights, tokens).map(
        (role) => `${percent(role.share)} (${percent(role.uniform)})`,
      );
      const reach = reachOf(weights, T);
      return [
        headName(layer, h),
        ...roles,
        percent(spreadOf(weights, T)),
        `${number(reach.share, 1)} (${number(reach.uniform, 1)})`,
      ];
    }),
  );
  return { head, rows };
}

// --- 3 the matrix ------------------------------------------------------------------------------

const ASKS = { title: "asks (query)", role: "query" };
const LOOKED_AT = { title: "looked at (key)", role: "key" };

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

// --- 4 why this weight -------------------------------------------------------------------------

const MOST_KEYS = 12; // in the ranking, until all are asked for

function whyView() {
  const box = find("why-content");
  const waterfall = el("canvas", { ariaHidden: "true" });
  let all = false;
  let products = [];
  const numbers = numbersTable("The score, dimension by dimension, as a table", () => ({
    head: ["dimension", "q", "k", "q × k / √D"],
    rows: products.map(({ d, q, k, product }) => [
      String(d + 1),
      number(q, 3),
      number(k, 3),
      signed(product, 3),
    ]),
  }));
  const ranking = el("div", {
    className: "scroll",
    tabIndex: 0,
    role: "region",
    ariaLabel: "keys, ranked by weight",
  });
  const more = el("button", { type: "button" });
  more.addEventListener("click", () => {
    all = !all;
    draw();
  });
  const sum = el("p", { className: "numbers" });
  const intro = el("p");
  box.append(
    intro,
    ranking,
    more,
    el("h4", { textContent: "The score as a sum over the dimensions of q and k" }),
    waterfall,
    sum,
    numbers,
  );
  ranking.addEventListener("click", (event) => {
    const line = event.target.closest("tr[data-key]");
    if (line) select({ key: Number(line.dataset.key) });
  });
  function draw() {
    const { query, key } = app.state;
    const open = openHead();
    const order = ranked(row(open.scores, query, app.trace.T).slice(0, query + 1));
    const shown = all ? order : order.slice(0, MOST_KEYS);
    intro.replaceChildren(
      "The keys that ",
      el("b", { className: "query", textContent: saidAt(query) }),
      ` may look at, best match first. It cannot look at the ${app.trace.T - 1 - query} after it: the mask sets their scores to −∞.`,
    );
    ranking.replaceChildren(rankingTable(open, shown, query, key));
    more.hidden = order.length <= MOST_KEYS;
    more.textContent = all ? `only the first ${MOST_KEYS}` : `all ${order.length} keys`;
    products = productsOf(open, query, key);
    const score = open.scores[query * app.trace.T + key];
    drawWaterfall(
      waterfall,
      products.map(({ product }) => product),
      score,
      { width: Math.min(760, box.clientWidth) },
    );
    const plus = products.filter(({ product }) => product > 0);
    sum.textContent =
      `${app.model.D} products, the largest first: ${signed(total(plus.map(({ product }) => product)))} from the ${plus.length} dimensions that agree, ` +
      `${signed(score - total(plus.map(({ product }) => product)))} from those that do not; the last bar is their sum, the score ${signed(score)}.`;
    numbers.refresh();
  }
  return draw;
}

function productsOf(open, query, key) {
  const { D } = app.model;
  const [q, k] = [row(open.q, query, D), row(open.k, key, D)];
  return Array.from(q, (value, d) => ({
    d,
    q: value,
    k: k[d],
    product: (value * k[d]) / Math.sqrt(D),
  })).sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
}

function rankingTable(open, keys, query, chosen) {
  const { T } = app.trace;
  const { D } = app.model;
  const most = open.scores
    .subarray(query * T, query * T + query + 1)
    .reduce((a, b) => Math.max(a, b));
  const head = [
    "",
    "key, with what is around it",
    "q·k",
    "÷ √D",
    "e^(score − best)",
    "weight",
    "× uniform",
  ];
  const body = keys.map((j) => {
    const score = open.scores[query * T + j];
    const weight = open.weights[query * T + j];
    const cells = [
      number(score * Math.sqrt(D)),
      number(score),
      number(Math.exp(score - most), 3),
      percent(weight),
      `${number(weight * (query + 1), 1)}×`,
    ];
    const choose = el("button", {
      type: "button",
      className: "plain",
      ariaLabel: `look at ${saidAt(j)}`,
      textContent: String(j + 1),
    });
    return el(
      "tr",
      { className: j === chosen ? "chosen" : "", data: { key: j } },
      el("td", {}, choose),
      el("td", {}, contextAt(j)),
      ...cells.map((textContent) => el("td", { textContent })),
    );
  });
  return el(
    "table",
    { className: "ranking" },
    el("thead", {}, ...[tableRow("th", head, "col")]),
    el("tbody", {}, ...body),
  );
}

/** A character between its neighbours. */
function contextAt(position) {
  const side = (from, to) =>
    Array.from(app.trace.tokens.slice(Math.max(0, from), to), (id) =>
      glyph(app.model.alphabet[id]),
    ).join("");
  return el(
    "code",
    {},
    side(position - 6, position),
    el("b", { className: "key", textContent: glyph(characterAt(position)) }),
    side(position + 1, position + 4),
  );
}
