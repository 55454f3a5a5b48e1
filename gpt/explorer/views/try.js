/* View 8: weights changed by hand, and what it does to the next character. */

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
