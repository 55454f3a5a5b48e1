/* The tab in TensorBoard: choose a run and a checkpoint; the page about it opens in a frame below. */

const STYLE = `
  :root { color-scheme: light dark; }
  body { margin: 0; height: 100vh; display: flex; flex-direction: column; font: 16px/1.5 system-ui, sans-serif; }
  form { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; padding: 0.5rem 1rem; }
  select, button { font: inherit; }
  p { padding: 0 1rem; }
  iframe { flex: 1; border: 0; }
`;

const ADVICE =
  "The log directory holds no run with a checkpoint yet. Train one (python train.py --config tiny.yaml), then press “look again”.";

/** @typedef {{name: string, checkpoints: string[], best: string}} Run */

/** TensorBoard calls this once the module is loaded. */
export async function render() {
  document.head.append(make("style", { textContent: STYLE }));
  document.documentElement.lang = "en";
  document.title = "Attention";
  const run = make("select", { ariaLabel: "run" });
  const checkpoint = make("select", { ariaLabel: "checkpoint" });
  const again = make("button", { type: "button", textContent: "look again" });
  const form = make("form", {}, "run ", run, "checkpoint ", checkpoint, again);
  const advice = make("p", { textContent: ADVICE });
  const frame = make("iframe", { title: "Attention of the chosen checkpoint" });
  document.body.append(form, advice, frame);

  /** @type {Run[]} */
  let runs = [];
  let opened = "";
  /** Open the chosen checkpoint's page, at the head, character and text of the page before. */
  const open = () => {
    const address = new URL("page", import.meta.url);
    const query = new URLSearchParams({ run: run.value, checkpoint: checkpoint.value });
    address.search = String(query);
    if (opened === address.href) return;
    opened = address.href;
    address.hash = frame.contentWindow?.location.hash ?? "";
    frame.src = address.href;
  };
  /** Choose the checkpoint `kept` again if the run still has it, else its best. */
  const fillCheckpoints = (kept = "") => {
    const { checkpoints = [], best } = runs.find(({ name }) => name === run.value) ?? {};
    const chosen = checkpoints.includes(kept) ? kept : best;
    fill(checkpoint, checkpoints, (name) => (name === best ? `${name} (best)` : name), chosen);
    if (checkpoints.length) open();
  };
  const look = async () => {
    const [chosen, kept] = [run.value, checkpoint.value];
    runs = await (await fetch(new URL("runs", import.meta.url))).json();
    advice.hidden = runs.length > 0;
    frame.hidden = run.disabled = checkpoint.disabled = runs.length === 0;
    const names = runs.map(({ name }) => name);
    fill(run, names, (name) => name, chosen);
    fillCheckpoints(run.value === chosen ? kept : "");
  };
  run.addEventListener("change", () => fillCheckpoints());
  checkpoint.addEventListener("change", open);
  again.addEventListener("click", look);
  await look();
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties).append(...children);
  return element;
}

/** Fill a select with `values`, `chosen` among them selected.
 * @param {HTMLSelectElement} select
 * @param {string[]} values
 * @param {(value: string) => string} labelOf
 * @param {string} [chosen]
 */
function fill(select, values, labelOf, chosen) {
  select.replaceChildren(
    ...values.map((value) =>
      make("option", { value, textContent: labelOf(value), selected: value === chosen }),
    ),
  );
}
