"""The study behind `--minutes`: train a cell of its grid, fit the rule to all that were trained.

    python scripts/study.py run --data.text my.txt --model.n_embd 192 --train.max_steps 2000 ...
    python scripts/study.py fit

A cell is tiny.yaml with what the command changes of it. `run` appends its outcome, a line of JSON,
to configs/scaling.jsonl. `fit` prints the constants of gpt/training/scaling.py, and the table and
the figure of configs/SCALING.md.
"""

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, float64

from gpt.command.cli import Parser, add_config_flags, overrides_of
from gpt.command.config_file import find_config, load_config
from gpt.command.process import run_command
from gpt.config import ModelConfig
from gpt.data.corpus import load_corpus
from gpt.errors import Exit, say
from gpt.model import GPT
from gpt.paths import CONFIGS
from gpt.training.run import train_new
from gpt.training.scaling import WORTH

ROWS = CONFIGS / "scaling.jsonl"
CONSTANTS = ("LEAST", "SIZE", "SIZE_POWER", "READ", "READ_POWER")
TEXT = "tinyshakespeare"  # whose cells are fitted: losses of other texts have another level


def main(argv: list[str]) -> int:
    parser = Parser(prog="scripts/study.py", description=__doc__)
    parser.add_argument("what", choices=("run", "fit"))
    add_config_flags(parser)
    args = parser.parse_all(argv)
    return _run(args) if args.what == "run" else _fit()


# --- run ----------------------------------------------------------------------------------------


def _run(args: Namespace) -> int:
    """Train one cell and append its outcome to ROWS."""
    changed = overrides_of(args)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        never = 10**12
        quiet = {"log.eval_every": never, "log.save_every": never, "log.tensorboard": False}
        config = load_config(find_config("tiny.yaml"), changed | quiet | {"run.dir": str(run)})
        code = train_new(config, "study")
        if code != Exit.DONE:
            return code
        last = json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    corpus = load_corpus(config, say)
    train, model = config.train, config.model
    row = {
        "changed": {key: value for key, value in changed.items() if key != "data.text"},
        "text": corpus.name.removesuffix(".txt"),
        "characters": corpus.train_length,
        "parameters": _parameters(model, len(corpus.tokenizer)),
        "read": train.max_steps * train.batch_size * model.block_size,
        "val_loss": round(last["val_loss"], 4),
    }
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row))
    return Exit.DONE


def _parameters(config: ModelConfig, vocab_size: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in GPT(config, vocab_size).parameters())


# --- fit ----------------------------------------------------------------------------------------


def _fit() -> int:
    """Fit `expected_loss` as Hoffmann et al. 2022 do, section 3.3: Huber's loss of logs, L-BFGS.

    Of the cells that differ in other settings alone, the best counts: the rule is to have those.
    """
    known = [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()]
    of_text = [row for row in known if row["text"] == TEXT]
    of_text.sort(key=lambda row: row["val_loss"], reverse=True)
    rows = list({(row["parameters"], row["read"]): row for row in of_text}.values())
    names = ("parameters", "read", "characters", "val_loss")
    *cells, losses = (torch.tensor([row[name] for row in rows], dtype=float64) for name in names)
    logs = torch.tensor([0.2, 3.0, -1.0, 4.0, -1.0], dtype=float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logs], max_iter=5000, line_search_fn="strong_wolfe")

    def error() -> float:
        optimizer.zero_grad()
        expected = _surface(logs.exp(), *cells)
        far = F.huber_loss(expected.log(), losses.log(), delta=1e-3, reduction="sum")
        far.backward()
        return float(far.detach())

    optimizer.step(error)
    for name, value in zip(CONSTANTS, logs.exp().tolist(), strict=True):
        print(f"{name} = {value:.4g}")
    for row, loss in zip(rows, _surface(logs.exp(), *cells).tolist(), strict=True):
        print(f"| {row['parameters']:,} | {row['read']:,} | {row['val_loss']:.4f} | {loss:.4f} |")
    return Exit.DONE


def _surface(constants: Tensor, parameters: Tensor, read: Tensor, text: Tensor) -> Tensor:
    """`expected_loss` for tensors."""
    least, size, size_power, data, data_power = constants
    again = (read / text - 1).clamp(min=0)
    worth = torch.minimum(read, text) + text * WORTH * (1 - (-again / WORTH).exp())
    return least + size / parameters**size_power + data / worth**data_power


if __name__ == "__main__":
    sys.exit(run_command(main))
