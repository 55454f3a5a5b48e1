"""Minutes of everything at once, at random: train, kill, stop, resume, sample, evaluate, explore,
while checkpoints rotate and TensorBoard's tab is asked for them.

Each command is a process of its own. What must hold: its exit code is one that the contract lists
for what was done to it; a run that has finished is the same as one that nothing happened to;
a checkpoint has one text and one loss, whenever it is asked; the tab answers 200, or 404 or 410 for
a checkpoint that is gone.
"""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from outcome import TEXT, differences, outcome

from gpt.errors import Exit
from gpt.paths import PROJECT

WORKERS = 2  # each trains a run of each kind, and reads those of all
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
CONFIG = """\
model: {block_size: 16, n_layer: 2, n_head: 2, n_embd: 16, dropout: %s}
data: {text: %s}
train: {device: cpu, threads: 1, batch_size: 4, max_steps: 400, optimizer: %s}
log: {log_every: 5, eval_every: 20, save_every: 7, keep: 2, sample_chars: 20}
"""
KINDS = {"adamw": ("0.1", "adamw"), "muon": ("0", "muon")}  # dropout, optimizer


class Soak:
    """One soak in `folder`; `wrong` collects all that should not have been."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.known: dict[tuple[str, ...], str] = {}  # what a checkpoint gave the first time
        self.guard = threading.Lock()
        self.runs = [
            (kind, folder / "runs" / f"{kind}-{n}") for n in range(WORKERS) for kind in KINDS
        ]
        self.undisturbed: dict[Path, dict[str, Any]] = {}
        (folder / "runs").mkdir()
        (folder / "text.txt").write_text(TEXT, encoding="utf-8")
        for kind, (dropout, optimizer) in KINDS.items():
            config = CONFIG % (dropout, folder / "text.txt", optimizer)
            self.config(kind).write_text(config, encoding="utf-8")

    def config(self, kind: str) -> Path:
        return self.folder / f"{kind}.yaml"

    def go(self, minutes: float) -> None:
        """Train each run undisturbed once, then start all jobs."""
        began = time.monotonic()
        for kind, run in self.runs:
            self.check(self.command("train.py", *self.fresh(kind, run)), {0})
            self.undisturbed[run] = outcome(run)
        self.session_seconds = (time.monotonic() - began) / len(self.runs)
        end = time.monotonic() + 60 * minutes
        jobs = [threading.Thread(target=self.work, args=(n, end)) for n in range(WORKERS)]
        jobs.append(threading.Thread(target=self.ask_the_tab, args=(end,)))
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    # --- the commands ---------------------------------------------------------------------------

    def work(self, worker: int, end: float) -> None:
        chance = random.Random(f"{self.seed} {worker}")
        own = [run for run in self.runs if run[1].name.endswith(f"-{worker}")]
        while time.monotonic() < end:
            job = chance.choices(("train", "sample", "evaluate", "explore"), (5, 2, 1, 1))[0]
            if job == "train":
                self.train(*chance.choice(own), chance)
            else:
                self.read(job, chance)

    def fresh(self, kind: str, run: Path) -> list[str]:
        return ["--config", str(self.config(kind)), "--run.dir", str(run)]

    def train(self, kind: str, run: Path, chance: random.Random) -> None:
        """One session, from the start or resumed, most often ended by a signal."""
        begun = any((run / "checkpoints").glob("step-*"))
        argv = ["--resume", str(run), "--exact"] if begun else self.fresh(kind, run)
        number = signal.Signals[chance.choice(SIGNALS)] if chance.random() < 0.8 else None
        ended = self.command(
            "train.py", *argv, after=chance.uniform(0, self.session_seconds), number=number
        )
        self.check(ended, {0} if number is None else {0, 128 + number})
        if ended[1] == 0:
            for part in differences(run, self.undisturbed[run]):
                self.wrong.append(f"{run.name}: {part} differs")
            self.counts["finished runs"] += 1
            with suppress(OSError):  # a reader may hold something in it
                shutil.rmtree(run)

    def read(self, job: str, chance: random.Random) -> None:
        """Ask a checkpoint of any run for a text, its loss, or its page."""
        found = sorted(self.folder.glob("runs/*/checkpoints/step-*"))
        if not found:
            return
        path = chance.choice(found)
        page = self.folder / f"{threading.get_ident()}.html"
        argv = {
            "sample": ["sample.py", "--run", str(path), "--max-new-chars", "40"],
            "evaluate": ["scripts/evaluate.py", str(path), "--loss"],
            "explore": ["scripts/explore.py", str(path), "--out", str(page)],
        }[job]
        ended = self.command(*argv)
        self.check(ended, {0} if path.exists() else {0, Exit.CHECKPOINT})
        if ended[1] == 0 and job != "explore":
            kind = path.parts[-3].partition("-")[0]
            with self.guard:
                before = self.known.setdefault((job, kind, path.name), ended[2])
            if before != ended[2]:
                self.wrong.append(f"{job} of {path}: {ended[2]!r}, before {before!r}")

    def command(
        self, *argv: str, after: float = 0, number: signal.Signals | None = None
    ) -> tuple[str, int, str, str]:
        """Run a command, with signal `number` sent to it `after` seconds.

        Returns:
            The command, its exit code as a shell gives it, stdout and stderr.
        """
        command = [sys.executable, *argv]
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        if number is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            process.send_signal(number)
        out, err = process.communicate()
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        with self.guard:
            self.counts[argv[0]] += 1
            self.counts["ended by a signal"] += code > 128
        return " ".join(argv), code, out, err

    def check(self, ended: tuple[str, int, str, str], allowed: set[int]) -> None:
        command, code, _, err = ended
        if code not in allowed:
            self.wrong.append(f"{command}: exit {code}, not of {sorted(allowed)}:\n{err[-2000:]}")

    # --- the tab --------------------------------------------------------------------------------

    def ask_the_tab(self, end: float) -> None:
        """Ask TensorBoard for the list of runs and for a page, over and over."""
        chance = random.Random(f"{self.seed} tab")
        command = [sys.executable, "-m", "tensorboard.main", "--port", "0", "--logdir"]
        with subprocess.Popen(
            [*command, str(self.folder / "runs")], stderr=subprocess.PIPE, encoding="utf-8"
        ) as server:
            assert server.stderr
            lines = (re.search(r"http://\S+", line) for line in server.stderr)
            base = next(filter(None, lines))[0] + "data/plugin/attention/"
            drain = threading.Thread(target=server.stderr.read)  # or its pipe fills
            drain.start()
            try:
                self.ask(base, end, chance)
            finally:
                server.terminate()
                drain.join()

    def ask(self, base: str, end: float, chance: random.Random) -> None:
        while time.monotonic() < end:
            listed = json.loads(self.answer(base + "runs", {200}) or "[]")
            for run in listed:
                query = {"run": run["name"], "checkpoint": chance.choice(run["checkpoints"])}
                self.answer(f"{base}page?{urllib.parse.urlencode(query)}", {200, 404, 410})
            time.sleep(0.5)

    def answer(self, url: str, allowed: set[int]) -> str:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                code, text = response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            code, text = refusal.code, refusal.read().decode()
        except OSError as problem:
            code, text = 0, str(problem)
        self.counts["answers of the tab"] += 1
        if code not in allowed:
            self.wrong.append(f"{url}: {code} {text[:500]}")
        return text


def soak(minutes: float, seed: int, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Soak for `minutes`; how often each thing was done, and all that should not have been."""
    soaking = Soak(folder, seed)
    soaking.go(minutes)
    return dict(soaking.counts), soaking.wrong
