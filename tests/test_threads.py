"""How torch's threads wait: asleep on a busy machine, and no result changes."""

import resource
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest
import torch

from gpt import threads
from gpt.config import Config
from gpt.training.run import train_new
from gpt.training.trainer import Trainer


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("others", "ours", "cores", "answer"),
    [
        (0.0, 2, 2, False),  # an idle machine
        (0.1, 2, 2, False),  # a terminal, an editor
        (1.0, 2, 2, True),  # one busy process
        (7.0, 8, 8, True),
        (1.0, 2, 4, False),  # there is a core for each
        (2.0, 1, 2, False),  # one thread waits for no other
    ],
)
def test_crowded_when_threads_and_others_need_more_than_the_cores(
    others: float, ours: int, cores: int, answer: bool
) -> None:
    assert threads.crowded(others, ours, cores) is answer


def test_load_is_what_neither_idles_nor_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds on three cores, two of them allowed: 4 s idle, 9 s ours, so 7 s of others'."""
    process = SimpleNamespace(cpu_affinity=lambda: [0, 2], cpu_times=lambda: times.ours)
    times = SimpleNamespace(
        now=100.0,
        ours=SimpleNamespace(user=1.0, system=1.0),
        cores=[SimpleNamespace(idle=n, iowait=1.0) for n in (50.0, 70.0, 60.0)],
    )
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: times.cores)
    monkeypatch.setattr(threads.time, "monotonic", lambda: times.now)
    load = threads.Load()
    times.now += 10
    times.ours = SimpleNamespace(user=8.0, system=3.0)
    times.cores = [SimpleNamespace(idle=n, iowait=1.5) for n in (51.0, 79.0, 62.0)]
    assert load.of_others() == pytest.approx((2 * 10 - 4 - 9) / 10)
    assert load.of_others() == 0.0  # no time has passed


def sleeps_at_barriers(operations: int) -> int:
    """How often this process gave its core away in `operations` operations on two threads."""
    x = torch.ones(1 << 17)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    for _ in range(operations):
        x.add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before


@pytest.mark.skipif(sys.platform != "linux", reason="how libgomp waits")
@pytest.mark.usefixtures("two_threads")
def test_threads_sleep_at_barriers_while_idle_teams_are_there() -> None:
    teams = threads.IdleTeams()
    teams.keep(True)
    try:
        for _ in range(100):  # until the team has come
            asleep = sleeps_at_barriers(300)
            if asleep >= 150:
                break
        assert asleep >= 150
    finally:
        teams.keep(False)


def other_threads() -> set[threading.Thread]:
    return set(threading.enumerate()) - {threading.main_thread()}


@pytest.mark.usefixtures("two_threads")
def test_idle_teams_come_with_the_load_and_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter([0.0, 2.0, 2.0, 0.0])
    seen: list[bool] = []
    over = threading.Event()

    def next_load(_: threads.Load) -> float:
        load = next(loads, None)
        if load is None:
            over.set()
        return load or 0.0

    class Teams(threads.IdleTeams):
        def keep(self, wanted: bool) -> None:
            super().keep(wanted)
            seen.append(self.end is not None)

    before = other_threads()
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(threads.Load, "of_others", next_load)
    monkeypatch.setattr(threads, "IdleTeams", Teams)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)
    threads.watch(over)
    assert seen[:4] == [False, True, True, False]
    assert not seen[-1]
    for thread in other_threads() - before:
        thread.join(timeout=10)
    assert other_threads() <= before


def test_the_watcher_ends_with_the_work() -> None:
    before = other_threads()

    def interrupted() -> None:
        with threads.sharing_cores():
            assert len(other_threads() - before) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert other_threads() == before


@pytest.mark.usefixtures("two_threads")
def test_a_result_is_the_same_with_idle_teams_and_without() -> None:
    torch.manual_seed(1)
    x, w = torch.randn(300, 500), torch.randn(500, 400)

    def result() -> torch.Tensor:
        return torch.softmax(x @ w, dim=-1).sum(0)

    teams = threads.IdleTeams()
    plain = result()
    teams.keep(True)
    crowded = result()
    teams.keep(False)
    assert torch.equal(plain, crowded)


def test_training_shares_the_cores(toy_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = []
    step = Trainer._step

    def watching(trainer: Trainer) -> None:
        names = [thread.name for thread in threading.enumerate()]
        watched.append(any("watch" in name for name in names))
        step(trainer)

    monkeypatch.setattr(Trainer, "_step", watching)
    train_new(toy_config, "toy")
    assert watched
    assert all(watched)
