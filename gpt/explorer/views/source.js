/* View 5: the parts of the residual stream that make a score. */

import { addressOf } from "../address.js";
import { app, openHead } from "../app.js";
import { el, find, goTo, inRole, numbersTable, signedRows } from "../html.js";
import { headName } from "../model.js";
import { total } from "../numbers.js";
import { scoreParts } from "../parts.js";
import { visit } from "../selection.js";
import { saidAt, signed } from "../words.js";
import { selectedOf } from "./common.js";

/** @import { Draw } from "../drawing.js" */
/** @import { PartScore, ScoreParts } from "../parts.js" */

const MOST_PAIRS = 6;

/** @returns {Draw} */
export function sourceView() {
  const content = el("div");
  /** @type {ScoreParts} */
  let parts;
  const numbers = numbersTable("Every pair of parts, as a table", () => ({
    head: ["query \\ key", ...parts.keys.map((part) => part.name)],
    rows: parts.queries.map((part, a) => [
      part.name,
      ...parts.scores[a].map((value) => signed(value, 3)),
    ]),
  }));
  find("source-content").append(content, numbers);
  return () => {
    const { query, key } = app.state;
    parts = scoreParts(app.model, app.trace, app.state);
    const score = selectedOf(openHead().scores);
    const sum = total(parts.scores.map(total));
    content.replaceChildren(
      el(
        "div",
        { className: "columns" },
        partsOf("query", query, parts.queries),
        partsOf("key", key, parts.keys),
      ),
      el("p", {
        className: "numbers",
        textContent: `Each list sums to ${signed(sum, 4)}. The score is ${signed(score, 4)}. Difference: ${Math.abs(sum - score).toExponential(0)}.`,
      }),
      el("p", {}, "The strongest pairs: ", ...strongestPairs(parts), "."),
    );
    numbers.refresh();
  };
}

/** @param {"query" | "key"} role @param {number} position @param {PartScore[]} parts */
function partsOf(role, position, parts) {
  const sorted = [...parts].sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
  const title = el("h4", {}, "Parts of the ", inRole(role, role), ` of ${saidAt(position)}`);
  const named = sorted.map((part) => ({ ...part, name: writerOf(part, position) }));
  return el("div", {}, title, signedRows(named, role));
}

/** The name of what wrote a part at a position: a head's leads to the head.
 * @param {PartScore} part
 * @param {number} position
 */
function writerOf({ name, head }, position) {
  return head ? headLink(head.layer, head.head, position) : name;
}

/** A link to a head at a query, with a way back: see the bar.
 * @param {number} layer
 * @param {number} head
 * @param {number} query
 */
function headLink(layer, head, query) {
  const name = headName(layer, head);
  const link = el("a", {
    textContent: name,
    href: addressOf({ ...app.state, layer, head, query, key: -1, locked: true }),
    ariaLabel: `${name} at ${saidAt(query)}`,
  });
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab or window
    event.preventDefault();
    visit({ layer, head, query }, "source");
    goTo("why");
  });
  return link;
}

/** @param {ScoreParts} parts */
function strongestPairs({ scores, queries, keys }) {
  const pairs = scores.flatMap((line, a) => line.map((score, b) => ({ score, a, b })));
  pairs.sort((one, other) => Math.abs(other.score) - Math.abs(one.score));
  return pairs
    .slice(0, MOST_PAIRS)
    .flatMap(({ score, a, b }, n) => [
      n ? ", " : "",
      inRole("query", queries[a].name),
      " × ",
      inRole("key", keys[b].name),
      ` ${signed(score)}`,
    ]);
}
