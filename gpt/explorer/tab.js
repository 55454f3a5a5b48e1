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
  "No run with a checkpoint in the log directory yet. Train one, python train.py --config tiny.yaml, and press “look again”.";

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

  let runs = [];
  const open = () => {
    const address = new URL("page", import.meta.url);
    address.search = new URLSearchParams({ run: run.value, checkpoint: checkpoint.value });
    if (frame.src !== address.href) frame.src = address.href;
  };
  const fillCheckpoints = (kept) => {
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
    fill(
      run,
      runs.map(({ name }) => name),
      (name) => name,
      chosen,
    );
    fillCheckpoints(run.value === chosen ? kept : null);
  };
  run.addEventListener("change", () => fillCheckpoints(null));
  checkpoint.addEventListener("change", open);
  again.addEventListener("click", look);
  await look();
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Fill a select with `values`, `chosen` among them selected. */
function fill(select, values, labelOf, chosen) {
  select.replaceChildren(
    ...values.map((value) =>
      make("option", { value, textContent: labelOf(value), selected: value === chosen }),
    ),
  );
}
