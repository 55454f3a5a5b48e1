/* View 7: every step, with its numbers and the line of model.py that does it. */

function stepsView() {
  const list = find("steps-content");
  return () => {
    refill(list, stepsOf().map(stepElement));
  };
}

function stepElement({ title, line, shape, words, strips = [], matrices = [] }) {
  const { number: at, text } = app.data.lines[line];
  const item = el(
    "li",
    {},
    el("h3", { textContent: title }),
    el(
      "p",
      { className: "source-line" },
      el("span", { textContent: `model.py:${at}` }),
      el("code", { textContent: text }),
      el("span", { textContent: shape }),
    ),
    el("p", {}, ...words),
  );
  for (const strip of strips) item.append(stripElement(strip));
  if (matrices.length)
    item.append(el("div", { className: "matrices" }, ...matrices.map(matrixElement)));
  if (strips.length) {
    const longest = Math.max(...strips.map(({ values }) => values.length));
    item.append(
      numbersTable("the numbers", () => ({
        head: ["", ...Array.from({ length: longest }, (_, d) => String(d + 1))],
        rows: strips.map(({ name, values }) => [
          name,
          ...Array.from(values, (value) => number(value, 3)),
        ]),
      })),
    );
  }
  return item;
}

function stripElement({ name, values, role, note = "" }) {
  const canvas = el("canvas", { ariaHidden: "true" });
  drawStrip(canvas, values, role, {
    width: Math.min(384, find("steps-content").clientWidth - 40),
    height: 30,
  });
  return el(
    "div",
    { className: "strip" },
    el("span", { className: `name ${role}`, textContent: name }),
    canvas,
    el("span", { className: "amount", textContent: note }),
  );
}

function matrixElement({ name, values, columns, role }) {
  const rows = values.length / columns;
  const picture = valuePixels(values, rows, columns);
  picture.setAttribute("aria-hidden", "true");
  picture.className = "weights";
  const numbers = numbersTable(`${name} as a table`, () => ({
    head: ["", ...Array.from({ length: columns }, (_, c) => String(c + 1))],
    rows: Array.from({ length: rows }, (_, r) => [
      String(r + 1),
      ...Array.from(row(values, r, columns), (value) => number(value, 3)),
    ]),
  }));
  return el("div", {}, el("b", { className: role, textContent: name }), el("br"), picture, numbers);
}

function stepsOf() {
  const full = app.model.tensors.size > 0;
  const qkv = full ? projectionSteps() : [givenVectorsStep()];
  return [
    ...(full ? streamSteps() : []),
    ...qkv,
    ...scoreSteps(),
    mixStep(),
    ...(full ? [writeStep()] : []),
    oddsStep(),
  ];
}

function asker() {
  return el("b", { className: "query", textContent: saidAt(app.state.query) });
}

function lookedAt() {
  return el("b", { className: "key", textContent: saidAt(app.state.key) });
}

/** From the character to the vector that the layer reads. */
function streamSteps() {
  const {
    model,
    trace,
    state: { layer, query },
  } = app;
  const { config, C } = model;
  const learned = config.positions === "learned";
  const place = learned ? `, plus row ${query} of the position table` : "";
  const sized = config.embedding_norm ? ", brought to a common size" : "";
  const steps = [
    {
      title: "Embed: a character becomes a vector",
      line: learned ? "position" : "embed",
      shape: `x (T, C) = (${trace.T}, ${C})`,
      words: [
        asker(),
        ` has id ${trace.tokens[query]}, so x is row ${trace.tokens[query]} of the embedding${place}${sized}.`,
      ],
      strips: [{ name: "x", values: row(trace.layers[0].input, query, C), role: "ink" }],
    },
  ];
  if (config.norm === "none") return steps;
  const block = trace.layers[layer];
  const written = layer
    ? `Layer${layer > 1 ? `s 1 to ${layer} have` : " 1 has"} written to it; now it`
    : "It";
  return [
    ...steps,
    {
      title: `Normalise, on the way into layer ${layer + 1}`,
      line: "norm",
      shape: `(T, C) = (${trace.T}, ${C})`,
      words: [`${written} is brought to a common size, so that no character shouts.`],
      strips: [
        { name: "before", values: row(block.input, query, C), role: "ink" },
        { name: "x", values: row(block.normed, query, C), role: "ink" },
      ],
    },
  ];
}

/** Query, key and value of the asking character, and what is done to them before they meet. */
function projectionSteps() {
  const {
    model,
    trace,
    state: { layer, head, query },
  } = app;
  const { config, C, D } = model;
  const x = row(trace.layers[layer].normed, query, C);
  const roles = ["query", "key", "value"];
  const matrices = roles.map((role) => headMatrix(model, layer, head, role));
  const strips = (vectors) =>
    vectors.map((values, i) => ({ name: roles[i], values, role: roles[i] }));
  let vectors = matrices.map((matrix) => linear(x, matrix, C));
  const steps = [
    {
      title: "Three linear maps of x: query, key and value",
      line: "qkv",
      shape: `Wq, Wk, Wv (D, C) = (${D}, ${C}); q, k, v (T, D) = (${trace.T}, ${D})`,
      words: [
        "Every character makes all three from its x: ",
        ...captions(),
        ". These are those of ",
        asker(),
        `; each number is one row of a matrix (strong marks: high) times x.`,
      ],
      strips: [{ name: "x", values: x, role: "ink" }, ...strips(vectors)],
      matrices: roles.map((role, i) => ({
        name: `W${role[0]}`,
        values: matrices[i],
        columns: C,
        role,
      })),
    },
  ];
  if (config.positions === "rotary") {
    vectors = [...vectors.slice(0, 2).map((vector) => rotate(vector, query)), vectors[2]];
    steps.push({
      title: "Turn query and key by their position",
      line: "rotary",
      shape: `(T, D) = (${trace.T}, ${D})`,
      words: [
        `Pairs of dimensions turn by an angle that grows with the position, here ${query + 1}. What two characters score then depends on how far apart they are.`,
      ],
      strips: strips(vectors.slice(0, 2)),
    });
  }
  if (config.qk_norm) {
    const lengths = vectors.map((vector) => number(Math.sqrt(dot(vector, vector))));
    steps.push({
      title: "Bring queries and keys to one length",
      line: "qk_norm",
      shape: `|q| = |k| = √D = ${number(Math.sqrt(D))}`,
      words: [
        `They were ${lengths[0]} and ${lengths[1]} long. Now direction alone decides, and no score can exceed √D = ${number(Math.sqrt(D))}.`,
      ],
      strips: strips([headVector("q", query), headVector("k", query)]),
    });
  }
  return steps;
}

function headVector(what, position) {
  return row(openHead()[what], position, app.model.D);
}

function givenVectorsStep() {
  const {
    trace,
    model: { D },
    state: { query },
  } = app;
  return {
    title: "Three linear maps of x: query, key and value",
    line: "qkv",
    shape: `q, k, v (T, D) = (${trace.T}, ${D})`,
    words: [
      "Every character makes all three from its x: ",
      ...captions(),
      ". These are those of ",
      asker(),
      ", as the scores use them.",
    ],
    strips: ["query", "key", "value"].map((role) => ({
      name: role,
      values: headVector(role[0], query),
      role,
    })),
  };
}

function captions() {
  return [
    el("b", { className: "query", textContent: "what am I looking for?" }),
    ", ",
    el("b", { className: "key", textContent: "what do I have?" }),
    ", ",
    el("b", { className: "value", textContent: "what can I share?" }),
  ];
}

function scoreSteps() {
  const {
    trace: { T },
    model: { D },
    state: { query, key },
  } = app;
  const [q, k] = [headVector("q", query), headVector("k", key)];
  const scores = row(openHead().scores, query, T).slice(0, query + 1);
  const weights = softmax(scores);
  const score = number(scores[key]);
  return [
    {
      title: "Score: multiply query with key, and add up",
      line: "score",
      shape: `scores (T, T) = (${T}, ${T})`,
      words: [
        asker(),
        " · ",
        lookedAt(),
        ` = ${number(dot(q, k))}; divided by √D = ${number(Math.sqrt(D))} it is ${score}. The division keeps the softmax from being too sure.`,
      ],
      strips: [
        { name: "query", values: q, role: "query" },
        { name: "key", values: k, role: "key" },
        {
          name: "q × k",
          values: q.map((value, d) => value * k[d]),
          role: "ink",
          note: `sum ${number(dot(q, k))}`,
        },
      ],
    },
    {
      title: "Mask: nobody looks into the future",
      line: "mask",
      shape: `(T, T) = (${T}, ${T})`,
      words: [
        `Of the ${T} scores of this row, ${query + 1} remain; the ${T - 1 - query} of the characters that come later become −∞.`,
      ],
      strips: [{ name: "scores", values: scores, role: "ink" }],
    },
    {
      title: "Softmax: scores become weights that sum to one",
      line: "softmax",
      shape: `weights (T, T) = (${T}, ${T})`,
      words: [
        `e to the ${score} is ${number(Math.exp(scores[key]))}; divided by the sum of all ${query + 1} it is `,
        el("b", { textContent: percent(weights[key]) }),
        `. The row sums to ${number(total(weights), 4)}.`,
      ],
      strips: [{ name: "weights", values: weights, role: "ink" }],
    },
  ];
}

const MOST_SUMMANDS = 4;

function mixStep() {
  const {
    trace: { T },
    model: { D },
    state: { query },
  } = app;
  const weights = row(openHead().weights, query, T).slice(0, query + 1);
  const order = ranked(weights).slice(0, MOST_SUMMANDS);
  const summands = order.map((j) => ({
    name: `${percent(weights[j])} × ${glyph(characterAt(j))} at ${j + 1}`,
    values: headVector("v", j).map((value) => value * weights[j]),
    role: "value",
  }));
  const share = percent(total(order.map((j) => weights[j])));
  return {
    title: "Mix: the values, each times its weight, added up",
    line: "mix",
    shape: `out (T, D) = (${T}, ${D})`,
    words: [
      "What the characters ",
      el("b", { className: "value", textContent: "share" }),
      `: the ${order.length} largest weights, ${share} in all, and the sum over all ${query + 1}.`,
    ],
    strips: [...summands, { name: "sum", values: headVector("out", query), role: "output" }],
  };
}

function writeStep() {
  const {
    model,
    trace,
    state: { layer, head, query },
  } = app;
  const { config, C } = model;
  const name = headName(layer, head);
  const thinks =
    config.feed_forward === "none"
      ? ""
      : " Then a feed-forward layer works on what each character has gathered.";
  return {
    title: config.residual ? "Project, and add to the stream" : "Put the heads side by side",
    line: config.residual ? "project" : "residual",
    shape: `(T, C) = (${trace.T}, ${C})`,
    words: [
      config.residual
        ? `${name} writes this; the other heads of the layer write theirs, and all are added to x.${thinks}`
        : `Each head fills its own dimensions of the next vector.${thinks}`,
    ],
    strips: [
      {
        name: `${name} writes`,
        values: writtenBy(model, layer, head, headVector("out", query)),
        role: "output",
      },
      {
        name: `x after layer ${layer + 1}`,
        values: row(trace.layers[layer].output, query, C),
        role: "ink",
      },
    ],
  };
}

function oddsStep() {
  const {
    model: { V, alphabet },
    trace,
    state: { query },
  } = app;
  const odds = softmax(row(trace.logits, query, V));
  const best = ranked(odds)
    .slice(0, 3)
    .map((id) => `${said(alphabet[id])} ${percent(odds[id])}`);
  return {
    title: "Read out: odds of the next character",
    line: "read_out",
    shape: `logits (T, V) = (${trace.T}, ${V})`,
    words: [`After the last layer, a softmax over the alphabet: ${best.join(", ")}.`],
    strips: [{ name: "odds", values: odds, role: "output" }],
  };
}
