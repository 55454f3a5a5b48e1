/* Views 8 and 9: weights changed by hand, and the same text at other steps of the training. */

// --- 8 try it ----------------------------------------------------------------------------------

function tryView() {
  const box = find("try-content");
  const legend = el("legend");
  const choices = [
    ["", "as the model has it"],
    ...Object.entries(EDITS).map(([kind, { label }]) => [kind, label]),
  ];
  const radios = choices.map(([kind, label]) => {
    const input = el("input", { type: "radio", name: "edit", value: kind });
    input.addEventListener("change", () => changeHead(kind ? { kind } : null));
    return el("label", {}, input, ` ${label}`);
  });
  const slider = el("input", { type: "range", min: 0, max: 100, step: 1, id: "one-weight" });
  slider.addEventListener("input", () => {
    const { query, key } = app.state;
    changeHead({ kind: "set", query, key, weight: Number(slider.value) / 100 });
  });
  const words = el("span");
  const amount = el("output");
  const result = el("div", { ariaLive: "polite" });
  box.append(
    el("fieldset", {}, legend, ...radios),
    el("label", { className: "wide" }, words, slider, amount),
    result,
  );
  return () => {
    const { layer, head, query, key } = app.state;
    const name = headName(layer, head);
    const edit = app.edits.get(name);
    legend.textContent = `make the weights of ${name}`;
    for (const label of radios)
      label.firstChild.checked = label.firstChild.value === (edit?.kind ?? "");
    words.replaceChildren(
      "or set one weight: ",
      el("b", { className: "query", textContent: saidAt(query) }),
      " gives ",
      el("b", { className: "key", textContent: saidAt(key) }),
    );
    const weight = openHead().weights[query * app.trace.T + key];
    slider.value = Math.round(100 * weight);
    slider.disabled = query === 0;
    amount.textContent = query === 0 ? "100 %: it has no one else to look at" : percent(weight);
    result.replaceChildren(...outcome(query));
  };
}

/** The open head's weights are changed as `edit` says; null: they are the model's own again. */
function changeHead(edit) {
  const edits = new Map(app.edits);
  const name = headName(app.state.layer, app.state.head);
  if (edit) edits.set(name, edit);
  else edits.delete(name);
  changeWeights(edits);
}

function outcome(query) {
  if (!app.edits.size)
    return [el("p", { className: "note", textContent: "Nothing is changed yet." })];
  const { V, alphabet } = app.model;
  const [before, now] = [app.untouched, app.trace].map((trace) =>
    softmax(row(trace.logits, query, V)),
  );
  const change = now.map((share, id) => share - before[id]);
  const order = Array.from(change.keys())
    .sort((a, b) => Math.abs(change[b]) - Math.abs(change[a]))
    .slice(0, 8);
  const rows = order.map((id) => ({
    name: glyph(alphabet[id]),
    to: now[id],
    ghost: before[id],
    role: "output",
    text: `${percent(before[id])} → ${percent(now[id])}`,
  }));
  const losses = [app.untouched, app.trace].map((trace) => lossOf(trace, V));
  const loss =
    losses[0] === null
      ? ""
      : `Loss on this text: ${number(losses[0], 3)} → ${number(losses[1], 3)} nats a character. `;
  return [
    el(
      "p",
      {},
      "Changed: ",
      el("b", {
        textContent: [...app.edits]
          .map(([name, edit]) => `${name} ${EDITS[edit.kind]?.label ?? "one weight"}`)
          .join(", "),
      }),
      `. ${loss}The odds after ${saidAt(query)} that moved most (the mark is where they were):`,
    ),
    barRows(rows),
  ];
}

// --- 9 learning --------------------------------------------------------------------------------

/** The run's checkpoints, in order: those that came with numbers for the text, and the page's own. */
async function learningView() {
  const box = find("learning-content");
  const {
    model,
    data,
    untouched: { tokens, T },
  } = app;
  if (!data.history.length) {
    box.append(
      el("p", {
        className: "note",
        textContent:
          "This run kept no other checkpoint. With log.keep 0 it keeps them all, and a slider here goes through them.",
      }),
    );
    return () => {};
  }
  const moments = await Promise.all(data.history.map((saved) => momentOf(saved, model, T)));
  moments.push({
    step: data.step,
    valLoss: data.valLoss,
    weights: app.untouched.layers.map((block) => block.heads.map((head) => head.weights)),
    logits: app.untouched.logits,
  });
  moments.sort((a, b) => a.step - b.step);
  const original = app.untouched;
  const slider = el("input", {
    type: "range",
    id: "moment",
    min: 0,
    max: moments.length - 1,
    step: 1,
    value: moments.length - 1,
  });
  const step = el("output");
  const canvas = el("canvas", { ariaHidden: "true" });
  const [facts, odds, habits] = [el("p", { className: "numbers" }), el("div"), el("div")];
  const numbers = numbersTable("What this head looks at, step by step, as a table", () => ({
    head: ["step", ...ROLES.map((role) => role.name)],
    rows: moments.map((moment) => [
      String(moment.step),
      ...rolesOf(moment.weights[app.state.layer][app.state.head], tokens).map((role) =>
        percent(role.share),
      ),
    ]),
  }));
  const absent = el("p", {
    className: "note",
    textContent:
      "The other checkpoints came with numbers for the text that the page opened with; it is that text that is shown here.",
  });
  box.append(
    absent,
    el("label", { className: "wide", htmlFor: "moment" }, "training step ", slider, step),
    facts,
    el("div", { className: "columns even" }, el("div", {}, canvas, habits), odds),
    numbers,
  );
  slider.addEventListener("input", () => draw());
  function draw() {
    const { layer, head } = app.state;
    const query = Math.min(app.state.query, T - 1);
    const moment = moments[slider.value];
    const weights = moment.weights[layer][head];
    absent.hidden = app.untouched.tokens === original.tokens;
    step.textContent = String(moment.step);
    slider.setAttribute("aria-valuetext", `step ${moment.step}`);
    facts.textContent =
      moment.valLoss === null
        ? ""
        : `validation loss ${number(moment.valLoss, 3)} nats a character`;
    const names = Array.from(tokens, (id) => glyph(model.alphabet[id]));
    drawGrid(canvas, {
      picture: weightPixels(weights, T),
      rows: { names, at: query, ...ASKS },
      columns: { names, ...LOOKED_AT },
      most: Math.min(460, box.clientWidth),
    });
    const role = mainRole(weights, tokens);
    habits.replaceChildren(
      el(
        "p",
        {},
        el("b", { textContent: headName(layer, head) }),
        ` at step ${moment.step}: ${role.name} ${percent(role.share)}, uniform ${percent(role.uniform)}.`,
      ),
    );
    const shares = softmax(row(moment.logits, query, model.V));
    const asker = model.alphabet[tokens[query]];
    odds.replaceChildren(
      el("h4", {
        textContent: `What comes after ${said(asker)} at ${query + 1}, at step ${moment.step}`,
      }),
      barRows(
        ranked(shares)
          .slice(0, 8)
          .map((id) => ({
            name: glyph(model.alphabet[id]),
            to: shares[id],
            text: percent(shares[id]),
            role: "output",
            marked: id === tokens[query + 1],
          })),
      ),
    );
    numbers.refresh();
  }
  return draw;
}

async function momentOf(saved, model, T) {
  const numbers = await unpack(saved.numbers);
  const { n_layer: L, n_head: H } = model.config;
  const weights = Array.from({ length: L }, (_, layer) =>
    Array.from({ length: H }, (_, head) => row(numbers, layer * H + head, T * T)),
  );
  return {
    step: saved.step,
    valLoss: saved.valLoss,
    weights,
    logits: numbers.subarray(L * H * T * T),
  };
}
