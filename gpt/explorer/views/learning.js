/* View 9: the same text at other steps of the training. */

const NO_HISTORY =
  "This run kept no other checkpoint. With log.keep 0 it keeps them all, and a slider here goes through them.";
const ANOTHER_TEXT =
  "Other checkpoints came with their numbers for the text that the page opened with; that is the one shown here.";

async function learningView() {
  const box = find("learning-content");
  if (!app.data.history.length) {
    box.append(el("p", { className: "note", textContent: NO_HISTORY }));
    return () => {};
  }
  const { tokens } = app.untouched;
  const moments = await momentsOf(app.data, app.untouched, app.model);
  const last = moments.length - 1;
  const slider = el("input", { type: "range", id: "moment", max: last, value: last });
  const step = el("output");
  const note = el("p", { className: "note", textContent: ANOTHER_TEXT });
  const canvas = el("canvas", { ariaHidden: "true" });
  const [facts, habit, odds] = [el("p", { className: "numbers" }), el("div"), el("div")];
  const numbers = numbersTable("What this head looks at, step by step, as a table", () =>
    habitsTable(moments, tokens),
  );
  box.append(
    note,
    el("label", { className: "wide", htmlFor: "moment" }, "training step ", slider, step),
    facts,
    el("div", { className: "columns even" }, canvas, el("div", {}, odds, habit)),
    numbers,
  );
  slider.addEventListener("input", () => draw());
  function draw() {
    const moment = moments[slider.value];
    note.hidden = app.text === app.data.text;
    step.textContent = String(moment.step);
    slider.setAttribute("aria-valuetext", `step ${moment.step}`);
    facts.textContent =
      moment.valLoss === null
        ? ""
        : `validation loss ${number(moment.valLoss, 3)} nats a character`;
    drawMoment(canvas, moment, tokens, Math.min(460, box.clientWidth));
    odds.replaceChildren(...oddsThen(moment, tokens));
    habit.replaceChildren(...habitThen(moment, moments, tokens));
    numbers.refresh();
  }
  return draw;
}

/** The run's checkpoints by step: those that came with numbers for the text, and the page's own. */
async function momentsOf(data, trace, model) {
  const others = data.history.map((saved) => momentOf(saved, model, trace.T));
  const own = {
    step: data.step,
    valLoss: data.valLoss,
    weights: trace.layers.map((block) => block.heads.map((head) => head.weights)),
    logits: trace.logits,
  };
  return [...(await Promise.all(others)), own].sort((a, b) => a.step - b.step);
}

async function momentOf({ step, valLoss, numbers }, { config }, T) {
  const { n_layer: L, n_head: H } = config;
  const values = await unpack(numbers);
  const weights = Array.from({ length: L }, (_, layer) =>
    Array.from({ length: H }, (_, head) => row(values, layer * H + head, T * T)),
  );
  return { step, valLoss, weights, logits: values.subarray(L * H * T * T) };
}

function drawMoment(canvas, { weights }, tokens, most) {
  const { layer, head } = app.state;
  const names = Array.from(tokens, (id) => glyph(app.model.alphabet[id]));
  drawGrid(canvas, {
    picture: weightPixels(weights[layer][head], tokens.length),
    rows: { names, at: askingThen(tokens), ...ASKS },
    columns: { names, ...LOOKED_AT },
    most,
  });
}

/** The asking position, within the text of the moments. */
function askingThen(tokens) {
  return Math.min(app.state.query, tokens.length - 1);
}

function oddsThen({ step, logits }, tokens) {
  const { V, alphabet } = app.model;
  const query = askingThen(tokens);
  const odds = softmax(row(logits, query, V));
  const rows = ranked(odds)
    .slice(0, 6)
    .map((id) => ({
      name: glyph(alphabet[id]),
      to: odds[id],
      text: percent(odds[id]),
      role: "output",
      marked: id === tokens[query + 1],
    }));
  const asker = `${said(alphabet[tokens[query]])} at ${query + 1}`;
  return [el("h4", { textContent: `What comes after ${asker}, at step ${step}` }), barRows(rows)];
}

/** How the habit that the open head has in the end grew. */
function habitThen(moment, moments, tokens) {
  const { layer, head } = app.state;
  const { name, uniform } = mainRole(moments.at(-1).weights[layer][head], tokens);
  const rows = moments.map((then) => {
    const role = rolesOf(then.weights[layer][head], tokens).find((found) => found.name === name);
    return {
      name: `step ${then.step}`,
      to: role.share,
      text: percent(role.share),
      ghost: uniform,
      marked: then === moment,
    };
  });
  const title = `${headName(layer, head)}, weight on: ${name}`;
  return [
    el("h4", { textContent: title }),
    barRows(rows),
    el("p", {
      className: "note",
      textContent: `The mark is what uniform weights give, ${percent(uniform)}.`,
    }),
  ];
}

function habitsTable(moments, tokens) {
  const { layer, head } = app.state;
  const rows = moments.map(({ step, weights }) => {
    const roles = rolesOf(weights[layer][head], tokens);
    return [String(step), ...roles.map(({ share }) => percent(share))];
  });
  return { head: ["step", ...ROLES.map(({ name }) => name)], rows };
}
