/* View 8: weights changed by hand, and the effect on the next character. */

import { app, openHead } from "../app.js";
import { HEAD_EDITS, labelOf } from "../edits.js";
import { el, find, note } from "../html.js";
import { headName, oddsAt } from "../model.js";
import { ranked } from "../numbers.js";
import { changeWeights } from "../reading.js";
import { percent, saidAt } from "../words.js";
import { asker, lookedAt, lossInWords, oddsBars, selectedOf } from "./common.js";

/** @import { Draw } from "../drawing.js" */
/** @import { Edit, HeadEdit } from "../edits.js" */

/** @returns {Draw} */
export function tryView() {
  const legend = el("legend");
  const choices = [null, ...HEAD_EDITS].map(headChoice);
  const slider = el("input", { type: "range", min: "0", max: "100", step: "1", id: "one-weight" });
  slider.addEventListener("input", () => {
    const { query, key } = app.state;
    changeHead({ kind: "set", query, key, weight: Number(slider.value) / 100 });
  });
  const words = el("span");
  const amount = el("output");
  const result = el("div", { ariaLive: "polite" });
  find("try-content").append(
    el("fieldset", {}, legend, ...choices.map(({ label }) => label)),
    el("label", { className: "wide" }, words, slider, amount),
    result,
  );
  let loss = "";
  return (change) => {
    if (change === "trace") loss = lossInWords();
    const { layer, head, query } = app.state;
    const name = headName(layer, head);
    const chosen = app.edits.get(name)?.kind ?? null;
    legend.textContent = `weights of ${name}`;
    for (const { input, kind } of choices) input.checked = kind === chosen;
    words.replaceChildren("set one weight: ", asker(), " gives ", lookedAt());
    const weight = selectedOf(openHead().weights);
    slider.value = String(Math.round(100 * weight));
    slider.disabled = query === 0;
    amount.textContent = query === 0 ? "100 %: it is the only key" : percent(weight);
    result.replaceChildren(...outcome(loss));
  };
}

/** A choice of how the whole head is changed; null: not at all.
 * @param {HeadEdit["kind"] | null} kind
 */
function headChoice(kind) {
  const input = el("input", { type: "radio", name: "edit", value: kind ?? "" });
  input.addEventListener("change", () => changeHead(kind && { kind }));
  const words = kind ? labelOf(kind) : "as computed";
  return { kind, input, label: el("label", {}, input, ` ${words}`) };
}

/** Change the open head's weights; null: they are the model's own again.
 * @param {Edit | null} edit
 */
function changeHead(edit) {
  const edits = new Map(app.edits);
  const name = headName(app.state.layer, app.state.head);
  if (edit) edits.set(name, edit);
  else edits.delete(name);
  changeWeights(edits);
}

/** @param {string} loss  in words */
function outcome(loss) {
  const { model, edits, untouched, trace } = app;
  if (!edits.size) return [note(`Nothing is changed yet. ${loss}`)];
  const { query } = app.state;
  const [before, now] = [untouched, trace].map(({ logits }) => oddsAt(model, logits, query));
  const moved = now.map((share, id) => Math.abs(share - before[id]));
  const changed = [...edits].map(([name, { kind }]) => `${name} ${labelOf(kind)}`).join(", ");
  return [
    el(
      "p",
      {},
      "Changed: ",
      el("b", { textContent: changed }),
      `. ${loss} The probabilities after ${saidAt(query)} that changed most; the mark is the former value:`,
    ),
    oddsBars(ranked(moved).slice(0, 8), now, { before }),
  ];
}
