"""How torch's threads wait for each other: spinning, or asleep while others need the processor.

An operation on several threads ends at a barrier. OpenMP's threads spin there for milliseconds,
which is fastest on an idle machine. On a busy one they spin while the thread that they wait for
has no core, which makes training several times slower. OpenMP itself stops spinning once a process
has more threads than cores (libgomp's "throttled" spin count, LLVM's "oversubscribed"). So we
give it more threads while others need the processor: idle teams, which do no work.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

LOOK_SECONDS = 0.5  # how often the load is measured
CROWDED = 0.3  # cores needed beyond those there are; chosen by trial


@contextmanager
def sharing_cores() -> Iterator[None]:
    """Inside, torch's threads wait asleep while other processes need their cores.

    Changes the speed alone: the number of threads, and with it every result, stays the same.
    """
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(over,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def watch(over: threading.Event) -> None:
    """Start the idle teams when the cores are crowded, end them when they are not, until `over`."""
    load, teams = Load(), IdleTeams()
    while not over.wait(LOOK_SECONDS):
        teams.keep(crowded(load.of_others(), torch.get_num_threads(), len(load.cores)))
    teams.keep(False)


def crowded(others: float, threads: int, cores: int) -> bool:
    """Whether `threads` threads of ours and `others` busy ones need more than `cores` cores."""
    return threads > 1 and threads + others > cores + CROWDED


def use_threads(given: int, processes: int = 1) -> None:
    """Let torch use as many threads as are `given`; 0: its default.

    Of several `processes` on this machine, the default is each one's share of the cores. Where
    nobody has set OMP_NUM_THREADS, torchrun sets it to 1, however many cores there are.
    """
    if not given and processes > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        given = max(1, len(own_cores()) // processes)
    torch.set_num_threads(given or torch.get_num_threads())


def own_cores() -> list[int]:
    """The cores that this process may use."""
    there = range(len(psutil.cpu_times(percpu=True)))
    allowed = getattr(psutil.Process(), "cpu_affinity", lambda: there)()  # macOS allows all
    return [core for core in allowed if core in there] or list(there)


class Load:
    """How busy the cores that this process may use are with other work."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.cores = own_cores()
        self.before = self._clocks()

    def of_others(self) -> float:
        """Cores that other processes used since the last call, on average."""
        now = self._clocks()
        seconds, idle, ours = (new - old for new, old in zip(now, self.before, strict=True))
        self.before = now
        return max(0.0, len(self.cores) - (idle + ours) / seconds) if seconds else 0.0

    def _clocks(self) -> tuple[float, float, float]:
        """Seconds that passed, that the cores were idle, and that this process used, so far."""
        cores = psutil.cpu_times(percpu=True)
        idle = sum(cores[n].idle + getattr(cores[n], "iowait", 0.0) for n in self.cores)
        ours = self.process.cpu_times()
        return time.monotonic(), idle, ours.user + ours.system


class IdleTeams:
    """Teams of OpenMP threads that do nothing, so that OpenMP counts more threads than cores."""

    def __init__(self) -> None:
        self.end: threading.Event | None = None

    def keep(self, wanted: bool) -> None:
        """Start the teams if they are wanted and not there; end them if they are not wanted."""
        if wanted and self.end is None:
            self.end = threading.Event()
            for _ in range(max(1, (os.cpu_count() or 1) // torch.get_num_threads())):
                threading.Thread(target=_idle_team, args=(self.end,), daemon=True).start()
        elif not wanted and self.end is not None:
            self.end.set()
            self.end = None


def _idle_team(end: threading.Event) -> None:
    """One team: it comes with this thread's first parallel operation, and goes with the thread."""
    torch.ones(1 << 17).add_(1)  # more than torch gives to one thread
    end.wait()
