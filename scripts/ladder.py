"""Train each rung of the lecture's ladder, configs/ladder/, and print the validation losses.

Flags of train.py are handed to it; write them as --KEY=VALUE.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpt.command.cli import Parser, number
from gpt.command.config_file import load_config
from gpt.command.process import run_command
from gpt.errors import Exit, Mistake, say
from gpt.paths import CONFIGS, PROJECT


def main(argv: list[str]) -> int:
    """Train the rungs one after the other and print a table in Markdown."""
    parser = Parser(prog="scripts/ladder.py", description=__doc__)
    add = parser.add_argument
    add("rungs", nargs="*", help="names in configs/ladder/ [all but 7-gpt, which needs a GPU]")
    add("--seeds", type=number(int, 1), default=1, metavar="N", help="seeds per rung [1]")
    args, for_train = parser.parse_known_args(argv)
    known = {path.stem: path for path in sorted((CONFIGS / "ladder").glob("*.yaml"))}
    unknown = [name for name in args.rungs if name not in known]
    if unknown:
        raise Mistake(Exit.USAGE, f"no rung {unknown[0]}", f"there are: {', '.join(known)}")
    names = args.rungs or [name for name in known if name != "7-gpt"]
    print("| rung | parameters | val loss [nats] |\n|---|---|---|")
    for name in names:
        first = load_config(known[name]).train.seed
        runs = [train(known[name], first + i, for_train) for i in range(args.seeds)]
        losses = " ".join(f"{run['val_loss']:.4f}" for run in runs)
        print(f"| {name} | {runs[0]['parameters']:,} | {losses} |", flush=True)
    return Exit.DONE


def train(config: Path, seed: int, flags: list[str]) -> dict[str, Any]:
    """Train a rung in a temporary directory.

    Returns:
        `val_loss`, the last exact validation loss in nats per character, and `parameters`.

    Raises:
        SystemExit: with train.py's exit code, if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, str(PROJECT / "train.py"), "--config", str(config)]
        command += ["--train.seed", str(seed), "--run.dir", str(run), "--log.tensorboard", "false"]
        done = subprocess.run(
            [*command, *flags], stderr=subprocess.PIPE, encoding="utf-8", check=False
        )
        if done.returncode:
            sys.stderr.write(done.stderr)
            raise SystemExit(done.returncode)
        rows = (run / "metrics.jsonl").read_text("utf-8").splitlines()

        from gpt.storage.find import load_last  # imports torch

        weights = load_last(run, say).weights
        size = sum(tensor.numel() for tensor in weights.values())
        return {"val_loss": json.loads(rows[-1])["val_loss"], "parameters": size}


if __name__ == "__main__":
    sys.exit(run_command(main))
