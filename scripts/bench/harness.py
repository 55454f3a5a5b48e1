"""The harness: it runs the programs that are compared, in turn, and prints what they did."""

import compileall
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import NO_BYTECODE, Ended, Failure, run
from report import Goal, Line, Measured, amount, printed, ratio
from sizes import Sizes
from timing import Numbers

from gpt.paths import PROJECT

Contenders = dict[str, Callable[[], Numbers]]
Found = dict[str, Measured]

WORKER = Path(__file__).with_name("worker.py")
PEERS = {
    "nanogpt": "give --peer nanogpt=PATH, a checkout of github.com/karpathy/nanoGPT",
    "lecture": "give --peer lecture=PATH, gpt.py of github.com/karpathy/ng-video-lecture",
}
COMPILED = ("ours, compiled", "ours, bf16, compiled")


@dataclass(eq=False)
class Bench:
    """A copy of this program, the peers, and everything that was measured of them."""

    place: Path  # an empty folder, for the copy and all output
    sizes: Sizes
    rows: list[str]  # names of those that are asked for
    repeat: int  # turns; each measures every contender once
    peers: dict[str, Path]
    text: str  # that all programs are trained on
    measured: list[Measured] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    turn: int = 0  # the one that is being measured

    def __post_init__(self) -> None:
        skip = shutil.ignore_patterns("__pycache__")
        for name in ("gpt", "configs"):
            shutil.copytree(PROJECT / name, self.place / name, ignore=skip)
        for name in ("train.py", "sample.py"):
            shutil.copy(PROJECT / name, self.place)
        compileall.compile_dir(self.place / "gpt", quiet=1)
        self.env = os.environ | {"PYTHONPATH": str(self.place)}
        self.text_file, self.vocab = self.place / "text.txt", len(set(self.text))
        self.text_file.write_text(self.text, "utf-8", newline="")
        self.job("corpora.prepare", text=str(self.text_file))  # so that no measured run has to

    def left_out(self) -> dict[str, str]:
        """The contenders that cannot take part, each with what would let it."""
        absent = {name: how for name, how in PEERS.items() if name not in self.peers}
        if not importlib.util.find_spec("transformers"):
            absent["huggingface"] = "pip install transformers"
        if not shutil.which(os.environ.get("CXX", "c++")):
            absent |= dict.fromkeys(COMPILED, "install a C++ compiler")
        return absent

    def python(self, *arguments: str, watch: bool = False) -> Ended:
        """Run `python ARGUMENTS` in the copy of this program."""
        return run([sys.executable, *arguments], self.place, self.env, watch)

    def train(self, *flags: str, text: Path | None = None, watch: bool = False) -> Numbers:
        """Run train.py, read the run's metrics (`log`), and remove the run."""
        folder = self.place / "run"
        where = ["--data.text", str(text or self.text_file), "--run.dir", str(folder)]
        try:
            ended = self.python("train.py", *flags, *where, "--device", "cpu", watch=watch)
            lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return {"log": [json.loads(line) for line in lines], **ended.numbers}

    def job(self, function: str, cwd: Path | None = None, **arguments: Any) -> Numbers:
        """Call MODULE.FUNCTION of this folder in a worker process; the numbers it returns."""
        command = [sys.executable, str(WORKER), function, json.dumps(arguments)]
        ended = run(command, cwd or self.place, self.env | NO_BYTECODE)
        numbers: Numbers = json.loads(ended.stdout.splitlines()[-1])
        return numbers

    def measure(
        self,
        row: str,
        case: str,
        contenders: Contenders,
        units: dict[str, str],
        goals: dict[str, Goal] | None = None,
    ) -> Found:
        """Measure the contenders in turn and print what they did.

        Args:
            units: the numbers to print, key -> unit.
            goals: contender -> goal of the first of those numbers.
        """
        if case:
            print(f"  {case}", flush=True)
        found = self.in_turn(row, case, contenders)
        for name, one in found.items():
            self.show(one, units, (goals or {}).get(name))
        return found

    def in_turn(self, row: str, case: str, contenders: Contenders) -> Found:
        """Measure each contender that can take part `repeat` times.

        Each turn begins with another contender. One that fails is not run again.
        """
        names = [name for name in contenders if name not in self.left_out()]
        found = {name: Measured(row, case, name) for name in names}
        self.measured += found.values()
        for turn in range(self.repeat):
            self.turn, first = turn, turn % len(names)
            for name in names[first:] + names[:first]:
                if found[name].error:
                    continue
                progress(f"{row}: {name}, turn {turn + 1} of {self.repeat}")
                try:
                    found[name].runs.append(contenders[name]())
                except Failure as problem:
                    found[name].error = str(problem)
        return found

    def show(self, one: Measured | None, units: dict[str, str], goal: Goal | None = None) -> None:
        """Print numbers of a contender, if it took part; `goal` is that of the first number."""
        if one and one.error:
            print(f"    {one.who:<34} failed: {one.error}", flush=True)
        elif one:
            for key, unit in units.items():
                self.tell(amount(one, key, unit, goal))
                goal = None

    def compare(
        self, found: Found, key: str, goals: dict[str, float | None], who: str = "ours"
    ) -> None:
        """Print the ratio of `who` to each contender in `goals`, with the least it should be."""
        for name, goal in goals.items():
            if name in found and who in found:
                least = None if goal is None else Goal(">=", goal)
                self.tell(ratio(found[who], found[name], key, least))

    def tell(self, line: Line | None) -> None:
        """Keep and print a line of the table; None, where something was not measured, is none."""
        if line:
            self.lines.append(line)
            print(printed(line), flush=True)


def progress(line: str) -> None:
    """Print a line on stderr; stdout is for the table."""
    print(line, file=sys.stderr, flush=True)
