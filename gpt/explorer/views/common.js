/* What the views share. A view is a function that makes its elements once and returns
 * `draw(change)`: "trace" when the numbers are new, "selection" when another character or head is
 * looked at. `app` (page.js) has the model, the trace and the one selection that all views show.
 */

function openHead() {
  return app.trace.layers[app.state.layer]?.heads[app.state.head];
}

function characterAt(position) {
  return app.model.alphabet[app.trace.tokens[position]];
}

/** 'u' at 17 */
function saidAt(position) {
  return `${said(characterAt(position))} at ${position + 1}`;
}

function glyphs() {
  return Array.from(app.trace.tokens, (id) => glyph(app.model.alphabet[id]));
}

/** How the two sides of a matrix are titled, and in which role's colour. */
const ASKS = { title: "asks (query)", role: "query" };
const LOOKED_AT = { title: "looked at (key)", role: "key" };

/** Put new children into `parent`; of their tables, those stay open that were. */
function refill(parent, children) {
  const open = Array.from(parent.querySelectorAll("details"), (details) => details.open);
  parent.replaceChildren(...children);
  parent.querySelectorAll("details").forEach((details, n) => {
    details.open = open[n] ?? false;
  });
}
