/* View 1: the text, coloured by what the open head does on it, and what comes next. */

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
