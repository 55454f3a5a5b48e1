"""The machinery of `bench.py`: processes, turns, and what is told of them."""

import compileall
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_report import Goal, Line, Measured, amount, printed, ratio

from gpt.paths import PROJECT

Numbers = dict[str, Any]
Contenders = dict[str, Callable[[], Numbers]]

WORKERS = PROJECT / "scripts" / "bench_workers.py"
PEERS = {
    "nanogpt": "give --peer nanogpt=PATH, a checkout of github.com/karpathy/nanoGPT",
    "lecture": "give --peer lecture=PATH, gpt.py of github.com/karpathy/ng-video-lecture",
}
NANOGPT = ["config/train_shakespeare_char.py", "--device=cpu", "--compile=False"]
COMPILED = ("ours, compiled", "ours, bf16, compiled")
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; of getrusage
LEAVE_NO_TRACE = {"PYTHONDONTWRITEBYTECODE": "1"}  # in a peer's checkout


class Failure(Exception):
    """A contender cannot be measured; says why in a line."""


@dataclass(frozen=True)
class Ended:
    """A process that ended well."""

    stdout: str
    seconds: float
    peak_mb: float  # resident
    anonymous_mb: float  # the most RssAnon seen, where it was watched

    @property
    def numbers(self) -> Numbers:
        names = ("seconds", "peak_mb", "anonymous_mb")
        return {name: getattr(self, name) for name in names}


def run(command: list[str], cwd: Path, env: dict[str, str], watch: bool = False) -> Ended:
    """Run a command to its end.

    Args:
        watch: look at its RssAnon every 20 ms, at that cost to the exactness of its time.

    Raises:
        Failure: with what it said last.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began, most = time.perf_counter(), 0.0
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=err)
        try:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG if watch else 0)
            while not ended:
                most = max(most, _anonymous_mb(process.pid))
                time.sleep(0.02)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        except BaseException:  # a signal ends this process: not without that one
            process.kill()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise Failure(_reason(err.read()) or f"exit code {process.returncode}")
        if watch and not most:
            raise Failure("this system does not tell RssAnon")
        return Ended(out.read(), seconds, usage.ru_maxrss * RSS_UNIT / 1e6, most)


def _anonymous_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _reason(stderr: str) -> str:
    """One of our commands says "error: ..."; a traceback says it in its last line."""
    lines = stderr.strip().splitlines()
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")


class Bench:
    """A copy of the program, the peers, and all that was measured of them.

    Args:
        place: an empty folder, for the copy and for everything that is written.
        rows: names of the rows that are asked for.
        peers: name -> path.
        text: what is trained on.
    """

    def __init__(
        self, place: Path, rows: list[str], repeat: int, peers: dict[str, Path], text: str
    ):
        self.place, self.rows, self.repeat, self.peers = place, rows, repeat, peers
        self.measured: list[Measured] = []
        self.lines: list[Line] = []
        self.race: dict[str, Measured] = {}  # what two rows share
        self.turn = 0  # which one is being measured
        skip = shutil.ignore_patterns("__pycache__")
        for name in ("gpt", "configs"):
            shutil.copytree(PROJECT / name, place / name, ignore=skip)
        for name in ("train.py", "sample.py"):
            shutil.copy(PROJECT / name, place)
        compileall.compile_dir(place / "gpt", quiet=1)
        self.env = os.environ | {"PYTHONPATH": str(place)}
        self.text, self.chars, self.vocab = place / "text.txt", len(text), len(set(text))
        self.text.write_text(text, "utf-8", newline="")
        self.job("prepare", text=str(self.text))  # no row's first turn shall pay for it

    def left_out(self) -> dict[str, str]:
        """Who does not take part, and how they could."""
        absent = {name: how for name, how in PEERS.items() if name not in self.peers}
        if not importlib.util.find_spec("transformers"):
            absent["huggingface"] = "pip install transformers"
        if not shutil.which(os.environ.get("CXX", "c++")):
            absent |= dict.fromkeys(COMPILED, "install a C++ compiler")
        return absent

    # --- processes -----------------------------------------------------------------------------

    def ours(self, script: str, *flags: str, watch: bool = False) -> Ended:
        """Run train.py or sample.py."""
        return run([sys.executable, script, *flags], self.place, self.env, watch)

    def train(self, *flags: str, text: Path | None = None, watch: bool = False) -> Numbers:
        """Train a run, read its log, and remove it."""
        folder = self.place / "run"
        where = ["--data.text", str(text or self.text), "--run.dir", str(folder)]
        try:
            ended = self.ours("train.py", *flags, *where, "--device", "cpu", watch=watch)
            lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return {"log": [json.loads(line) for line in lines], **ended.numbers}

    def torch(self) -> Numbers:
        """What `import torch` costs anybody."""
        return run([sys.executable, "-c", "import torch"], self.place, self.env).numbers

    def job(self, name: str, cwd: Path | None = None, **arguments: Any) -> Numbers:
        """Run one of the jobs of bench_workers.py; its numbers."""
        command = [sys.executable, str(WORKERS), name, json.dumps(arguments)]
        ended = run(command, cwd or self.place, self.env | LEAVE_NO_TRACE)
        numbers: Numbers = json.loads(ended.stdout.splitlines()[-1])
        return numbers

    def nanogpt(self, *flags: str) -> Ended:
        """Run the peer's train.py as it is; what it saves lands in our place."""
        path = self.peers["nanogpt"]
        if not (path / "data/shakespeare_char/train.bin").is_file():
            raise Failure(f"run python data/shakespeare_char/prepare.py in {path} first")
        out = self.place / "nanogpt-out"
        shutil.rmtree(out, ignore_errors=True)  # or an older checkpoint might be scored
        command = [sys.executable, "train.py", *NANOGPT, *flags, f"--out_dir={out}"]
        return run(command, path, os.environ | LEAVE_NO_TRACE)

    # --- measuring and telling -----------------------------------------------------------------

    def measure(
        self,
        row: str,
        case: str,
        contenders: Contenders,
        show: dict[str, str],
        goals: dict[str, Goal] | None = None,
    ) -> dict[str, Measured]:
        """Measure the contenders that take part, in turn, and print what they did.

        Args:
            show: the numbers to print, key -> unit.
            goals: contender -> goal of the first of them.
        """
        if case:
            print(f"  {case}", flush=True)
        found = self.in_turn(row, case, contenders)
        for name in found:
            self.show(found, name, show, (goals or {}).get(name))
        return found

    def in_turn(self, row: str, case: str, contenders: Contenders) -> dict[str, Measured]:
        """Measure each contender `repeat` times; each turn begins with another one.

        One that fails is left alone from then on; the others go on.
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

    def show(
        self,
        found: dict[str, Measured],
        name: str,
        units: dict[str, str],
        goal: Goal | None = None,
    ) -> None:
        """Print numbers of a contender, if it took part; the first of them may have a goal."""
        one = found.get(name)
        if one and one.error:
            print(f"    {name:<34} failed: {one.error}", flush=True)
        elif one:
            for key, unit in units.items():
                self.tell(amount(one, key, unit, goal))
                goal = None

    def tell(self, line: Line | None) -> None:
        """Note and print a line of the table; where something was not measured there is none."""
        if line:
            self.lines.append(line)
            print(printed(line), flush=True)

    def compare(
        self,
        found: dict[str, Measured],
        goals: dict[str, float | None],
        key: str,
        who: str = "ours",
    ) -> None:
        """How many times as much of `key` `who` has as each of `goals`."""
        for name, goal in goals.items():
            if name in found and who in found:
                wanted = None if goal is None else Goal(">=", goal)
                self.tell(ratio(found[who], found[name], key, wanted))


def progress(line: str) -> None:
    """A line on stderr; the table alone is on stdout."""
    print(line, file=sys.stderr, flush=True)


def made_up(size: int, accents: bool = False) -> str:
    """A text of `size` characters, the same each time: random words, with some not ASCII."""
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgkjqxz", k=7)) for _ in range(2000)]
    if accents:
        words[::10] = [word[:-1] + chance.choice("éü’—") for word in words[::10]]
    return " ".join(chance.choices(words, k=size // 8 + 1))[:size]


def write_text(path: Path, megabytes: float, accents: bool) -> None:
    """A made-up text of so many millions of bytes.

    Raises:
        Failure: where there is no room for it and what is made of it.
    """
    free = shutil.disk_usage(path.parent).free / 1e6
    if free < 2.5 * megabytes:
        raise Failure(f"{path.parent} has {free:,.0f} MB free, {2.5 * megabytes:,.0f} are needed")
    piece = made_up(min(10**6, int(megabytes * 1e6)), accents).encode()
    with path.open("wb") as file:
        for _ in range(round(megabytes * 1e6 / len(piece))):
            file.write(piece)
