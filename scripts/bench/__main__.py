"""How fast this program is, beside nanoGPT, Hugging Face's GPT-2 and the lecture's script.

Everything is measured on the CPU, each measurement in a process of its own. This program runs from
a copy that is removed afterwards, a peer as it is from the place that --peer names. They take
turns, each turn begins with another one, and the medians are compared. This program trains as it
does for its user, in bf16 where the processor has instructions for it; the rows `train`, `sample`
and `sample-64` compare in fp32.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from harness import PEERS, Bench, progress
from plot import plot
from processes import Failure
from report import Measured
from rows import ROWS
from sizes import SMOKE, Sizes
from texts import made_up
from timing import Numbers

from gpt.command.cli import Parser, number, user_path
from gpt.command.process import run_command
from gpt.errors import Exit, Mistake
from gpt.paths import PROJECT


def main(argv: list[str]) -> int:
    """Measure the rows, print a table, write JSON and a plot."""
    args = _arguments(argv)
    if not hasattr(os, "wait4"):
        what = "this system does not tell what memory a process has used"
        raise Mistake(Exit.USAGE, what, "run it on Linux or macOS")
    sizes = SMOKE if args.smoke else Sizes()
    text = made_up(20_000) if sizes.corpus is None else _text_of(sizes.corpus)
    rows = [name for name in ROWS if name in args.rows or not args.rows]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), sizes, rows, args.repeat, dict(args.peer), text)
        facts = bench.job("machine.facts")
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        for name, how in bench.left_out().items():
            print(f"{name}: left out; {how}")
        for name in rows:
            print(f"\n{name}: {ROWS[name].__doc__}", flush=True)
            try:
                ROWS[name](bench)
            except Failure as problem:  # before anything could be measured
                bench.measured.append(Measured(name, "", "ours", error=str(problem)))
                print(f"    failed: {problem}")
            if args.json:
                _write_json(args.json, facts, bench)  # all that is known so far
    if args.plot:
        plot(bench.lines, args.plot)
    progress(f"{time.perf_counter() - began:.0f} seconds")
    peers = {*PEERS, "huggingface"}
    failed = any(one.error and one.who not in peers for one in bench.measured)
    return Exit.BUG if failed else Exit.DONE


def _arguments(argv: list[str]) -> argparse.Namespace:
    rows = "\n".join(f"  {name:<20} {row.__doc__}" for name, row in ROWS.items())
    parser = Parser(
        prog="scripts/bench",
        description=f"{__doc__}\nrows:\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="row", help="[all]")
    add("--peer", action="append", type=_peer, default=[], metavar="NAME=PATH",
        help="nanogpt=CHECKOUT or lecture=gpt.py, run as they are [left out]")  # fmt: skip
    add("--repeat", type=number(int, 1), default=3, metavar="N", help="turns [3]")
    add("--json", type=Path, metavar="FILE", help="write every number, and facts of the machine")
    add("--plot", type=Path, metavar="FILE.png", help="draw the ratios as bars")
    add("--smoke", action="store_true", help="toy sizes: does all of it work?")
    args = parser.parse_all(argv)
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        raise Mistake(Exit.USAGE, f"no row {unknown[0]}", f"there are: {', '.join(ROWS)}")
    for path in filter(None, (args.json, args.plot)):
        if not path.absolute().parent.is_dir():
            raise Mistake(Exit.USAGE, f"{path}: no such folder", "make it first")
    return args


def _peer(text: str) -> tuple[str, Path]:
    name, _, place = text.partition("=")
    path = Path(user_path(place)).absolute()
    needed = path / "train.py" if name == "nanogpt" else path
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"{text}: NAME is {' or '.join(PEERS)}")
    if not needed.is_file():
        raise argparse.ArgumentTypeError(f"{needed} is not there")
    return name, path


def _text_of(corpus: str) -> str:
    path = PROJECT / "data" / f"{corpus}.txt"
    if not path.is_file():
        fix = f"python scripts/prepare_data.py {corpus}"
        raise Mistake(Exit.CORPUS, f"{path} is not there", fix)
    return path.read_text("utf-8")


def _write_json(path: Path, facts: Numbers, bench: Bench) -> None:
    table = [asdict(line) | {"met": line.met} for line in bench.lines]
    measured = [asdict(one) for one in bench.measured]
    whole = {"machine": facts, "repeat": bench.repeat, "table": table, "measured": measured}
    path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.SIGTERM))  # remove the copy first
    sys.exit(run_command(main))
