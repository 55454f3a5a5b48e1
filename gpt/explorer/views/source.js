/* View 5: where a match came from: what wrote the query and what wrote the key. */

const MOST_PAIRS = 6;

function sourceView() {
  const box = find("source-content");
  const numbers = numbersTable("Every pair of parts, as a table", () => {
    const { scores, queries, keys } = app.parts;
    return {
      head: ["query \\ key", ...keys.map((part) => part.name)],
      rows: queries.map((part, a) => [part.name, ...scores[a].map((value) => signed(value, 3))]),
    };
  });
  const content = el("div");
  box.append(content, numbers);
  return () => {
    const { layer, head, query, key } = app.state;
    const parts = (app.parts = scoreParts(app.model, app.trace, { layer, head, query, key }));
    const score = openHead().scores[query * app.trace.T + key];
    const sum = total(parts.scores.map(total));
    const sorted = (list) => [...list].sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
    content.replaceChildren(
      el(
        "div",
        { className: "columns" },
        el(
          "div",
          {},
          el(
            "h4",
            {},
            "What wrote the ",
            el("b", { className: "query", textContent: "query" }),
            ` of ${saidAt(query)}`,
          ),
          signedRows(sorted(parts.queries), "query"),
        ),
        el(
          "div",
          {},
          el(
            "h4",
            {},
            "What wrote the ",
            el("b", { className: "key", textContent: "key" }),
            ` of ${saidAt(key)}`,
          ),
          signedRows(sorted(parts.keys), "key"),
        ),
      ),
      el("p", {
        className: "numbers",
        textContent: `Either list sums to ${signed(sum, 4)}; the score is ${signed(score, 4)}; difference ${Math.abs(sum - score).toExponential(0)}.`,
      }),
      el("p", {}, "The strongest pairs: ", ...strongestPairs(parts), "."),
    );
    numbers.refresh();
  };
}

function strongestPairs({ scores, queries, keys }) {
  const pairs = scores.flatMap((line, a) => line.map((score, b) => ({ score, a, b })));
  pairs.sort((one, other) => Math.abs(other.score) - Math.abs(one.score));
  return pairs
    .slice(0, MOST_PAIRS)
    .flatMap(({ score, a, b }, n) => [
      n ? ", " : "",
      el("b", { className: "query", textContent: queries[a].name }),
      " × ",
      el("b", { className: "key", textContent: keys[b].name }),
      ` ${signed(score)}`,
    ]);
}
