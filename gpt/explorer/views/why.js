/* View 4: why a weight is what it is: the keys in order, and the score's dimensions. */

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
    const focused = ranking.querySelector("tr:focus-within[data-key]")?.dataset.key;
    ranking.replaceChildren(rankingTable(open, shown, query, key));
    if (focused) ranking.querySelector(`tr[data-key="${focused}"] button`)?.focus();
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
