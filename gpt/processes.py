"""The processes that train one model together; here one, alone. For several: process_group.py.

Each has the whole model and its whole optimizer state. In a step each takes its share of the
batch's rows; then all average their gradients, and so make the same update. Rank 0 leads: it alone
reads the command line, writes the run and speaks. The others follow: gpt/training/follow.py.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from gpt.command.process import write_stderr
from gpt.config import TrainConfig
from gpt.errors import Exit, Mistake


class Stopped(Exception):
    """A signal came within an evaluation."""


class PeerLost(Mistake):
    """Another process is gone.

    Args:
        told: whether it ended with an error of its own, which it has told the user.
    """

    def __init__(self, exit_code: Exit, what: str, fix: str, told: bool = False):
        super().__init__(exit_code, what, fix)
        self.told = told


class Processes:
    """One process, which trains alone. `Group` has the same methods for several."""

    rank, size = 0, 1
    local_size = 1  # of those on this machine
    backend = ""  # what reduces the tensors of a GPU
    launcher = "python"  # the command that starts the same processes again
    heard = 0  # the signal that this process heard; 0: none
    lost: PeerLost | None = None  # set once another process is gone

    @property
    def leads(self) -> bool:
        """Whether this process writes the run and speaks."""
        return self.rank == 0

    @property
    def stop_signal(self) -> int:
        """The signal that all stop for, agreed on when they last met; 0: none."""
        return self.heard

    def rows(self, count: int) -> slice:
        """This process's share of a batch of `count` rows."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes.

        Raises:
            PeerLost: as each method that waits for the others; the tensors are as before then.
        """

    def total(self, part: float) -> float:
        """The sum of what each process gives, in float64; one and the same number on all."""
        return part

    def together(self, part: Callable[[], float | None]) -> float:
        """The `total` of `part` on each process, which ends early by raising Stopped.

        Raises:
            Stopped: on all, if any heard a signal.
        """
        found = 0.0
        with suppress(Stopped):
            found = part() or 0.0
        total = self.total(found)
        if self.stop_signal:
            raise Stopped
        return total

    def from_leader(self, data: bytes = b"") -> bytes:
        """What the leading process gives.

        Raises:
            SystemExit: with the leading process's exit code, if it ends instead.
        """
        return data

    def hear(self, number: int) -> None:
        """Handle a signal: all stop after this step; this process at once at the second one."""
        if self.heard:
            write_stderr(b"\n")
            os._exit(128 + number)  # like a kill: some code swallows exceptions, none an exit
        self.heard = number
        if self.leads:
            write_stderr(b"\nstopping after this step; once more to stop at once\n")

    @property
    def begun(self) -> Path | None:
        """The run that torchrun's processes began, before it started them anew; None: none."""
        return None

    def begin(self, run: Path) -> None:
        """Note the run, for `begun`."""


def require_shares(config: TrainConfig, processes: Processes) -> None:
    """Refuse a batch that the processes cannot share out evenly, and a GPU that they all name.

    Raises:
        Mistake: with exit code 2, naming the nearest batch sizes that can be.
    """
    size, unit = processes.size, processes.size * config.accumulate
    if config.batch_size % unit:
        below = config.batch_size // unit * unit
        times = f" x accumulate {config.accumulate}" if config.accumulate > 1 else ""
        what = f"train.batch_size {config.batch_size} is not divisible by {size} processes{times}"
        sizes = [str(number) for number in (below, below + unit) if number]
        raise Mistake(Exit.USAGE, what, f"--train.batch_size {' or '.join(sizes)}")
    if size > 1 and ":" in config.device:
        what = f"train.device {config.device} is one GPU, and there are {size} processes"
        raise Mistake(Exit.USAGE, what, "--train.device cuda gives each its own")
