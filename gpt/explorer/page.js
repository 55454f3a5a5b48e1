/* The page: one model, one trace, one selection that all views share. */

const app = {
  data: null, // what export.py put into the file
  model: null,
  untouched: null, // the trace of the text as the model computes it
  trace: null, // the same with the reader's changes; it is `untouched` where there are none
  edits: new Map(), // head name -> how its weights are changed
  state: {
    layer: 0,
    head: 0,
    query: 0,
    key: 0,
    locked: false,
    direction: "from",
    share: 1,
    stage: "weights",
  },
  views: [],
};

// --- the selection -----------------------------------------------------------------------------

/** Show another selection. Where no key is named, the query's largest weight is looked at. */
function select(change) {
  const { state, trace } = app;
  const moved = ["query", "layer", "head"].some(
    (name) => name in change && change[name] !== state[name],
  );
  Object.assign(state, change);
  if (openHead() && (moved || state.key > state.query) && !("key" in change)) {
    state.key = ranked(row(openHead().weights, state.query, trace.T).slice(0, state.query + 1))[0];
  }
  drawSoon("selection");
}

/** The pointer is over a character: preview it, or while another is held, preview it as the key. */
function point(position, key) {
  if (position === null) return;
  const { locked, query, direction } = app.state;
  if (!locked) select(key === undefined ? { query: position } : { query: position, key });
  else if (key === undefined && direction === "from" && position <= query)
    select({ key: position });
}

/** A click: hold a character, or let go of the one that is held. */
function hold(position, key) {
  if (position === null) return;
  const { locked, query } = app.state;
  const again = locked && query === position && (key === undefined || key === app.state.key);
  select({ query: position, ...(key === undefined ? {} : { key }), locked: !again });
  remember();
}

function openHeadAt(layer, head) {
  select({ layer, head });
  remember();
}

/** Arrows move the query, up and down the head, page keys the layer, shift and arrows the key. */
function walk(event) {
  const { state, trace, model } = app;
  const { n_layer: L, n_head: H } = model.config;
  const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
  const query = (to) => ({ query: within(to, trace.T) });
  const moves = {
    ArrowLeft: () =>
      event.shiftKey ? { key: within(state.key - 1, state.query + 1) } : query(state.query - 1),
    ArrowRight: () =>
      event.shiftKey ? { key: within(state.key + 1, state.query + 1) } : query(state.query + 1),
    Home: () => query(0),
    End: () => query(trace.T - 1),
    ArrowUp: () => ({ head: within(state.head - 1, H) }),
    ArrowDown: () => ({ head: within(state.head + 1, H) }),
    PageUp: () => ({ layer: within(state.layer - 1, L) }),
    PageDown: () => ({ layer: within(state.layer + 1, L) }),
    Enter: () => ({ locked: !state.locked }),
    " ": () => ({ locked: !state.locked }),
    Escape: () => ({ locked: false }),
  };
  const onButton = event.target.closest("button") && (event.key === "Enter" || event.key === " ");
  if (!moves[event.key] || onButton || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  select(L ? moves[event.key]() : { query: moves[event.key]().query ?? state.query });
  remember();
}

// --- drawing -----------------------------------------------------------------------------------

let pending = null;
let settled = null;

/** Draw before the next frame; several changes until then are drawn once. */
function drawSoon(change) {
  if (pending === null) requestAnimationFrame(drawNow);
  if (pending !== "trace") pending = change;
}

function drawNow() {
  const change = pending;
  pending = null;
  for (const view of app.views) view.draw(change);
  clearTimeout(settled);
  settled = setTimeout(() => app.views.forEach((view) => view.catchUp()), 300);
}

/** A view in the section `id`, drawn by `draw`. Out of sight it waits for the pointer to rest, so
 * that what is in sight follows at once. */
function viewIn(id, draw) {
  let inSight = true;
  let waiting = null;
  const catchUp = () => {
    const change = waiting;
    waiting = null;
    if (change) draw(change);
  };
  const observer = new IntersectionObserver((entries) => {
    inSight = entries.at(-1).isIntersecting;
    if (inSight) catchUp();
  });
  observer.observe(find(id));
  return {
    catchUp,
    draw(change) {
      waiting = waiting === "trace" ? waiting : change;
      if (inSight) catchUp();
    },
  };
}

// --- the numbers -------------------------------------------------------------------------------

/** Run the model on `tokens`, with no changes by hand. */
function read(tokens) {
  app.edits = new Map();
  app.untouched = app.trace = forward(app.model, tokens);
  const query = Math.min(app.state.query, tokens.length - 1);
  app.state.query = -1; // so that the selection is new and its key is looked for
  select({ query });
  drawSoon("trace");
}

/** Run the model again with the heads named in `edits` changed. */
function changeWeights(edits) {
  const names = [...new Set([...edits.keys(), ...app.edits.keys()])];
  const firstLayer = Math.min(...names.map((name) => Number(name.slice(1).split("H")[0]) - 1));
  app.edits = edits;
  const editOf = (layer, head) => {
    const edit = edits.get(headName(layer, head));
    return edit ? (weights, T) => edited(weights, T, edit) : null;
  };
  app.trace = edits.size
    ? forward(app.model, app.untouched.tokens, editOf, app.untouched, firstLayer)
    : app.untouched;
  drawSoon("trace");
}

/** The largest difference between the page's logits and torch's, for the text that came along. */
function differenceFromTorch() {
  const expected = unpackFloats(app.data.reference.logits);
  const found = app.untouched.logits.subarray(app.untouched.logits.length - expected.length);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0);
}

function showBadge() {
  const { data } = app;
  const badge = find("badge");
  if (data.trace) {
    badge.textContent =
      "this model is too large to travel: torch's own numbers are shown, for this text alone";
    return;
  }
  const difference = differenceFromTorch();
  const good = difference < 1e-3;
  badge.className = good ? "good" : "bad";
  badge.textContent = `${good ? "✓ the page computes what torch computes" : "✗ the page and torch disagree"}: largest difference of a logit ${difference.toExponential(1)}`;
  badge.title = `For the text that came with the page. Storing the weights in 16 bits moved torch's own logits by up to ${data.reference.rounding.toExponential(1)}.`;
}

// --- the reader's text -------------------------------------------------------------------------

let typed = null;

function listenToTyping() {
  const field = find("own-text");
  find("typing").hidden = !app.model.tensors.size;
  field.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => readText(field.value), 250);
  });
}

/** Read `text` as far as the model can; what it cannot is said. */
function readText(text) {
  const { model } = app;
  const characters = Array.from(text.replace(/\r\n?/g, "\n"));
  const unknown = [...new Set(characters.filter((character) => !model.ids.has(character)))];
  const readable = characters.filter((character) => model.ids.has(character));
  const known = readable.slice(-model.config.block_size);
  const problems = [];
  if (unknown.length)
    problems.push(`left out, for the model never saw ${unknown.map(said).join(" ")}`);
  if (readable.length > known.length)
    problems.push(
      `only the last ${model.config.block_size} characters are read: the model sees no more at once`,
    );
  if (!known.length) problems.push("type at least one character that the model knows");
  find("own-text-problem").textContent = problems.join("; ");
  if (!known.length) return;
  app.text = known.join("");
  read(known.map((character) => model.ids.get(character)));
  remember();
}

// --- the address -------------------------------------------------------------------------------

/** Put the selection, and a text of the reader's own, into the page's address. */
function remember() {
  const { layer, head, query, key, locked, direction, share, stage } = app.state;
  const fields = {
    head: headName(layer, head),
    query: query + 1,
    key: key + 1,
    held: Number(locked),
    show: direction,
    share: Math.round(100 * share),
    stage,
  };
  if (app.text !== app.data.text) fields.text = app.text;
  history.replaceState(null, "", `#${new URLSearchParams(fields)}`);
}

/** The selection that the address holds; what is not there or makes no sense stays as it is. */
function recall() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const { n_layer: L, n_head: H } = app.model.config;
  const text = fields.get("text") ?? app.data.text;
  if (text !== app.text && app.model.tensors.size) {
    find("own-text").value = text;
    find("typing").open = true;
    readText(text);
  }
  const whole = (name, from, to) => {
    const value = Number(fields.get(name));
    return Number.isInteger(value) && value >= from && value <= to ? value - 1 : null;
  };
  const found = { query: whole("query", 1, app.trace.T) };
  const [, layer, head] = /^L(\d+)H(\d+)$/.exec(fields.get("head") ?? "")?.map(Number) ?? [];
  if (layer >= 1 && layer <= L && head >= 1 && head <= H)
    Object.assign(found, { layer: layer - 1, head: head - 1 });
  found.key = found.query === null ? null : whole("key", 1, found.query + 1);
  if (["from", "to"].includes(fields.get("show"))) found.direction = fields.get("show");
  if (["scores", "masked", "weights"].includes(fields.get("stage")))
    found.stage = fields.get("stage");
  const share = whole("share", 10, 100);
  found.share = share === null ? null : (share + 1) / 100;
  found.locked = fields.get("held") === "1";
  select(Object.fromEntries(Object.entries(found).filter(([, value]) => value !== null)));
  showChoices();
}

function showChoices() {
  const { direction, stage, share } = app.state;
  document.querySelector(`[name=direction][value=${direction}]`).checked = true;
  document.querySelector(`[name=stage][value=${stage}]`).checked = true;
  find("share").value = 100 * share;
  find("share-value").textContent = percent(share);
}

// --- the start ---------------------------------------------------------------------------------

function listen() {
  for (const name of ["characters", "matrix-canvas"]) find(name).addEventListener("keydown", walk);
  for (const name of ["direction", "stage"]) {
    find(name).addEventListener("change", (event) => {
      select({ [name]: event.target.value });
      remember();
    });
  }
  find("share").addEventListener("input", (event) => {
    select({ share: Number(event.target.value) / 100 });
    showChoices();
    remember();
  });
  window.addEventListener("hashchange", recall);
  window.addEventListener("resize", () => drawSoon("selection"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    palette.clear();
    drawSoon("trace");
  });
  listenToTyping();
}

/** The head whose habit stands out most, and its surest look at another character: open these. */
function mostStriking() {
  let best = { lift: -1, layer: 0, head: 0 };
  app.trace.layers.forEach((block, layer) =>
    block.heads.forEach(({ weights }, head) => {
      const found = lift(mainRole(weights, app.trace.tokens));
      if (found > best.lift) best = { lift: found, layer, head };
    }),
  );
  const { layer, head } = best;
  return { layer, head, query: surestQuery(app.trace.layers[layer]?.heads[head], app.trace.T) };
}

/** The character of the text's second half that gives most of its weight to one before it. */
function surestQuery(head, T) {
  let [best, most] = [T - 1, 0];
  for (let i = Math.floor(T / 2); head && i < T; i++) {
    for (let j = 0; j < i; j++) {
      if (head.weights[i * T + j] > most) [best, most] = [i, head.weights[i * T + j]];
    }
  }
  return best;
}

function showFacts() {
  const { data, model } = app;
  const { n_layer: L, n_head: H, n_embd: C, block_size } = model.config;
  const loss = data.valLoss === null ? "" : `, validation loss ${number(data.valLoss, 3)}`;
  const shape = L ? `${L} layers of ${H} heads, ${C} numbers a character` : "a bigram table";
  find("facts").textContent =
    `${data.run}, step ${data.step}${loss}: ${shape}, ${data.parameters.toLocaleString("en")} weights, sees ${block_size} characters at once`;
  document.title = `Attention of ${data.run}`;
}

/** Hide what this model has not: attention, or weights that travelled with it. */
function hideWhatIsAbsent() {
  const hide = (selector) =>
    document.querySelectorAll(selector).forEach((element) => {
      element.hidden = true;
    });
  if (!app.model.config.n_layer) hide(".attention-only");
  find("no-attention").hidden = app.model.config.n_layer > 0;
  if (!app.model.tensors.size) hide(".weights-only");
}

async function makeViews() {
  const views = { text: [textView, oddsView], bar: [sentenceView] };
  if (app.model.config.n_layer) {
    views.text.push(legendView);
    Object.assign(views, {
      heads: [headsView],
      matrix: [matrixView],
      why: [whyView],
      steps: [stepsView],
      learning: [learningView],
    });
    if (app.model.tensors.size)
      Object.assign(views, { source: [sourceView], rule: [ruleView], try: [tryView] });
  }
  const made = Object.entries(views).flatMap(([id, makers]) =>
    makers.map(async (make) => viewIn(id, await make())),
  );
  return Promise.all(made);
}

async function start(data) {
  app.data = data;
  app.model = await loadModel(data);
  app.text = data.text;
  const tokens = Array.from(data.text, (character) => app.model.ids.get(character));
  app.trace = app.untouched = data.trace
    ? replay(app.model, tokens, await unpack(data.trace))
    : forward(app.model, tokens);
  showFacts();
  showBadge();
  hideWhatIsAbsent();
  document.querySelector("main").hidden = find("bar").hidden = false;
  app.views = await makeViews();
  listen();
  select(mostStriking());
  recall();
  drawSoon("trace");
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

window.explorer = { app, select, remember, rowAsText, characterScores }; // for tests and the curious
start(JSON.parse(find("data").textContent)).catch((problem) => {
  find("badge").className = "bad";
  find("badge").textContent = `this page could not be read: ${problem.message}`;
});
