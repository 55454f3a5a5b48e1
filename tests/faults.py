"""Shared by the fault tests: children that die where one wants, disks that fill up or forget.

`gpt.files` calls the system through its names `os` and `shutil` alone. `System` takes their
place and numbers each operation that changes the disk, so that a fault can be put at each of them.
"""

import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import fork, wait_for
from outcome import TEXT, differences, outcome

import sample as sample_command
import train as train_command
from gpt import files, paths
from gpt.command.process import run_command
from gpt.errors import Exit, Mistake
from gpt.storage.checkpoint import load_checkpoint
from gpt.storage.run_directory import checkpoints_of

ROOT = Path(__file__).resolve().parents[1]
__all__ = [
    "differences",
    "outcome",
    "sample_command",
    "train_command",
    "wait_for",
]
torch.set_num_threads(1)

CONFIG = """\
model: {block_size: 4, n_layer: 1, n_head: 1, n_embd: 4, dropout: 0.2}
data: {text: %s}
train: {device: cpu, threads: 1, batch_size: 2, max_steps: %d, optimizer: muon}
log: {log_every: 1, eval_every: 2, save_every: %d, keep: 1, tensorboard: false,
      sample_chars: 1, probe: "\u2603"}
"""


# --- a stand-in for the system -----------------------------------------------------------------


@dataclass
class System:
    """`os` and `shutil.rmtree`, with each operation that changes the disk numbered from 0.

    Args:
        act: what happens at operation `at`: "kill" before it; "torn" in the midst of it;
            "full" for a disk that is full from there on; None for nothing.
    """

    act: str | None = None
    at: int = -1
    real_sync: bool = False  # a killed process loses nothing that is not synced; spare the time
    log: list[tuple[Any, ...]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    count: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _turn(self, *operation: Any) -> bool:
        """Note an operation; whether a fault belongs into it."""
        self.log.append(operation)
        number, self.count = self.count, self.count + 1
        if self.act == "full":
            return number >= self.at
        if number == self.at and self.act == "kill":
            die()
        return number == self.at and self.act == "torn"

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and not str(path).endswith(".lock"):
            self._turn("create", str(path))
        descriptor = os.open(path, flags, mode)
        self.names[descriptor] = str(path)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        if self._turn("write", self.names[descriptor], bytes(data)):
            os.write(descriptor, data[: len(data) // 2])
            if self.act == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            die()
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._turn("sync", self.names[descriptor])
        if self.real_sync:
            os.fsync(descriptor)

    def replace(self, source: Any, target: Any) -> None:
        self._turn("rename", str(source), str(target))
        os.replace(source, target)

    def mkdir(self, path: Any) -> None:
        if self._turn("mkdir", str(path)) and self.act == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.mkdir(path)

    def unlink(self, path: Any) -> None:
        self._turn("unlink", str(path))
        os.unlink(path)

    def rmtree(self, path: Any, ignore_errors: bool = False) -> None:
        if Path(path).exists() and self._turn("rmtree", str(path)) and self.act == "torn":
            for item in list(Path(path).iterdir())[::2]:
                item.unlink()
            die()
        shutil.rmtree(path, ignore_errors=ignore_errors)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- commands, in a child or here --------------------------------------------------------------


@dataclass
class Ended:
    """How a command ended; a negative code is a signal's number."""

    code: int
    output: str
    system: System


@dataclass
class Workshop:
    """A folder with a text, a config and the runs made of them."""

    folder: Path
    steps: int = 3
    save_every: int = 1

    def __post_init__(self) -> None:
        (self.folder / "text.txt").write_text(TEXT[:300])
        text = CONFIG % (self.folder / "text.txt", self.steps, self.save_every)
        (self.folder / "toy.yaml").write_text(text)

    def fresh(self, run: Path, *more: str) -> list[str]:
        return ["--config", str(self.folder / "toy.yaml"), "--run.dir", str(run), *more]

    def begin(
        self,
        command: Callable[[list[str]], int],
        argv: Sequence[str],
        system: System | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> int:
        """Start a command in a child and return its process id."""

        def work() -> int:
            torch.set_num_threads(1)
            paths.DATA = self.folder / "data"
            paths.RUNS = self.folder / "runs"
            files.os = files.shutil = system or System()
            sys.argv = ["command", *argv]
            prepare()
            return run_command(command)

        (self.folder / "output.txt").write_text("")
        return fork(work, self.folder / "output.txt")

    def end(self, child: int) -> Ended:
        code = wait_for(child)
        output = (self.folder / "output.txt").read_text()
        assert "Traceback" not in output, output
        assert code != 1, output
        return Ended(code, output, System())

    def train(
        self,
        argv: Sequence[str],
        system: System | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> Ended:
        return self.end(self.begin(train_command.main, argv, system, prepare))

    def sample(self, argv: Sequence[str], prepare: Callable[[], None] = lambda: None) -> Ended:
        return self.end(self.begin(sample_command.main, argv, None, prepare))

    def train_here(self, argv: Sequence[str], system: System | None = None) -> Ended:
        """The same in this process: faster, and what the system saw can be read."""
        system, output = system or System(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(paths, "DATA", self.folder / "data")
            patch.setattr(paths, "RUNS", self.folder / "runs")
            patch.setattr(files, "os", system)
            patch.setattr(files, "shutil", system)
            patch.setattr(sys, "argv", ["train.py", *argv])
            with redirect_stderr(output), redirect_stdout(output):
                try:
                    code = int(run_command(train_command.main))
                except SystemExit as end:
                    code = int(end.code or 0)
        assert "Traceback" not in output.getvalue(), output.getvalue()
        assert code != 1, output.getvalue()
        return Ended(code, output.getvalue(), system)

    def go_on(self, run: Path, *more: str) -> Ended:
        """What a person does after a crash: resume; where nothing was saved, start again."""
        ended = self.train_here(["--resume", str(run), *more])
        if ended.code == 4 and "no run with a checkpoint" in ended.output:
            return self.train_here(self.fresh(run))
        return ended


def changed(run: Path, undisturbed: dict[str, Any]) -> list[str]:
    """Differences of a run that went wrong at some time and then to its end."""
    leftovers = [str(p) for p in run.rglob(".*") if p.name != ".lock"]
    return differences(run, undisturbed) + leftovers


def whole_checkpoints(run: Path) -> list[Path]:
    """The checkpoints that load."""
    found = []
    for path in checkpoints_of(run):
        try:
            load_checkpoint(path)
            found.append(path)
        except Mistake as mistake:
            if mistake.exit_code != Exit.CHECKPOINT:
                raise
    return found
