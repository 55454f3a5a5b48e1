/* View 9: the same text at other steps of the training. */

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
