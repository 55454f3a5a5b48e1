/* View 2: all heads, each with the habit that was measured on this text. */

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

const CLEAR = 0.25; // of the way from chance to always: from here on a head has a role
const NEAR = 0.6; // of the mean distance by chance

/** What a head does, as gpt/attention/roles.py says it, and beside it what uniform weights do. */
function habitOf(weights) {
  const { tokens, T } = app.trace;
  if (T < 2) return ["one character alone looks at itself"];
  const role = mainRole(weights, tokens);
  const [spread, reach] = [spreadOf(weights, T), reachOf(weights, T)];
  const beside = (words, uniform) => [words, el("small", { textContent: `uniform ${uniform}` })];
  if (lift(role) >= CLEAR)
    return beside(`${role.name}: ${percent(role.share)}`, percent(role.uniform));
  if (spread >= 0.9) return beside(`spread evenly: entropy ${percent(spread)}`, percent(1));
  const habit = reach.share < NEAR * reach.uniform ? "nearby characters" : "mixed";
  return beside(`${habit}: ${number(reach.share, 1)} back`, number(reach.uniform, 1));
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
