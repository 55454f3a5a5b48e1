"""Climb the lecture's ladder: train each rung of configs/ladder/ and print the losses."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from gpt.command.cli import Parser, number
from gpt.command.process import run_command
from gpt.errors import Exit, Mistake
from gpt.paths import CONFIGS, PROJECT


def main(argv: list[str]) -> int:
    """Train the rungs one after the other; flags it does not know go to train.py as they are."""
    parser = Parser(prog="scripts/ladder.py", description=__doc__)
    add = parser.add_argument
    add("rungs", nargs="*", help="names in configs/ladder/ [all but 7-gpt, which wants a GPU]")
    add("--seeds", type=number(int, 1), default=1, metavar="N", help="seeds a rung [1]")
    args, for_train = parser.parse_known_args(argv)
    paths = sorted((CONFIGS / "ladder").glob("*.yaml"))
    known = {path.stem: path for path in paths}
    unknown = [name for name in args.rungs if name not in known]
    if unknown:
        raise Mistake(Exit.USAGE, f"no rung {unknown[0]}", f"there are: {', '.join(known)}")
    names = args.rungs or [name for name in known if name != "7-gpt"]
    print("| rung | parameters | val loss [nats] |\n|---|---|---|")
    for name in names:
        first = yaml.safe_load(known[name].read_text("utf-8"))["train"].get("seed", 1337)
        runs = [climb(known[name], first + i, for_train) for i in range(args.seeds)]
        losses = " ".join(f"{run['val_loss']:.4f}" for run in runs)
        print(f"| {name} | {runs[0]['parameters']:,} | {losses} |", flush=True)
    return Exit.DONE


def climb(config: Path, seed: int, for_train: list[str]) -> dict[str, Any]:
    """Train one rung in a directory of its own; its last exact loss and its size."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, str(PROJECT / "train.py"), "--config", str(config)]
        command += ["--train.seed", str(seed), "--run.dir", str(run), "--log.tensorboard", "false"]
        done = subprocess.run(
            [*command, *for_train], stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            sys.stderr.write(done.stderr)
            raise SystemExit(done.returncode)
        rows = (run / "metrics.jsonl").read_text("utf-8").splitlines()

        from gpt.storage.find import load_last

        weights = load_last(run, print).weights
        size = sum(tensor.numel() for tensor in weights.values())
        return {"val_loss": json.loads(rows[-1])["val_loss"], "parameters": size}


if __name__ == "__main__":
    sys.exit(run_command(main))
