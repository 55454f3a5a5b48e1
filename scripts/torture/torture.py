"""Is anything lost? Kill a training at random instants, or do everything at once for minutes.

python scripts/torture --kills 300 --seed 1
python scripts/torture --soak 30 --seed 1
"""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from kills import torture
from soak import soak

from gpt.command.cli import Parser, number
from gpt.errors import Exit, Mistake


def main(argv: list[str]) -> int:
    """Print one line: what was done, seed, differences. The exit code is 0 without any, else 1."""
    parser = Parser(prog="scripts/torture", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--kills", type=number(int, 0), default=300, help="SIGKILLs that must land [300]")
    add("--soak", metavar="MINUTES", type=number(float, 0),
        help="instead: train, kill, resume, sample, evaluate, explore at random")  # fmt: skip
    add("--processes", type=number(int, 1, 64), default=1, help="that train together [1]")
    add("--seed", type=number(int, 0), default=1, help="of the instants [1]")
    add("--real", action="store_true", help="kill `python train.py` instead of forks")
    args = parser.parse_all(argv)
    if not hasattr(signal, "SIGKILL"):
        what = "this system has no SIGKILL to torture with"
        raise Mistake(Exit.USAGE, what, "run it on Linux or macOS")
    memory = Path("/dev/shm")  # a kill works there as well, and no session waits for a disk
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=memory if memory.is_dir() else None))
    began = time.perf_counter()
    if args.soak is None:
        runs, kills, wrong = torture(args.kills, args.seed, args.real, folder, args.processes)
        kind = "real processes" if args.real else "forked children"
        kind += f", {args.processes} together," if args.processes > 1 else ""
        done = f"torture: {kills} kills of {kind} over {runs} runs"
    else:
        counts, wrong = soak(args.soak, args.seed, folder)
        done = "soak: " + ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    for line in wrong:
        print(line, file=sys.stderr)
    seconds = time.perf_counter() - began
    print(f"{done}, seed {args.seed}, {seconds:.0f} s: {len(wrong)} differences")
    if not wrong:
        shutil.rmtree(folder)
    return Exit.BUG if wrong else Exit.DONE
