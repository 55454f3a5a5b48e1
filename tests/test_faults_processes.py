"""Several processes, one of which is killed, stopped, or goes wrong: G10."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Workshop, changed, die, outcome, whole_checkpoints
from groups import Prepare, begin, nothing, on, train

import gpt.process_group
import gpt.storage.moved
import gpt.training.follow
import gpt.training.monitor
import gpt.training.run
import gpt.training.trainer
from gpt.files import remove
from gpt.process_group import Group
from gpt.storage.find import load_last
from gpt.storage.run_directory import checkpoints_of
from gpt.training.trainer import Trainer

FOREVER = ["--train.max_steps", "1000000000"]
NO_SAVES = ["--log.save_every", "1000000000", "--log.eval_every", "1000000000"]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Its corpus is prepared."""
    shop = Workshop(tmp_path)
    shop.train_here(shop.fresh(tmp_path / "first"))
    return shop


@pytest.fixture
def undisturbed(shop: Workshop) -> dict[str, Any]:
    """What two processes leave that nothing happens to."""
    train(shop, shop.fresh(shop.folder / "run"))
    left = outcome(shop.folder / "run")
    remove(shop.folder / "run")
    return left


def go_on(shop: Workshop, run: Path, prepare: Prepare = nothing) -> None:
    """What a person does after a crash: resume; where nothing was saved, start again."""
    begun = bool(checkpoints_of(run))
    train(shop, ["--resume", str(run), "--exact"] if begun else shop.fresh(run), prepare=prepare)


def until(condition: Callable[[], Any]) -> None:
    """Wait for another process to have done something."""
    for _ in range(60_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it did not happen")


def rows(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


# --- a process that is killed -------------------------------------------------------------------


def before(owner: object, name: str, call: int, act: Callable[[], None] = die) -> None:
    """Do `act`, which is to die, before the `call`-th call of a function."""
    function, calls = getattr(owner, name), itertools.count(1)

    def acting(*args: Any, **more: Any) -> Any:
        if next(calls) == call:
            act()
        return function(*args, **more)

    setattr(owner, name, acting)


def within(call: int) -> None:
    """Die while the `call`-th all-reduce is under way."""
    reduce, calls = gpt.process_group.dist.all_reduce, itertools.count(1)

    def dying(tensor: torch.Tensor) -> Any:
        if next(calls) != call:
            return reduce(tensor)
        reduce(tensor, async_op=True)
        return die()

    gpt.process_group.dist.all_reduce = dying


POINTS: dict[str, Callable[[], None]] = {
    "before the start is sent": lambda: before(Group, "from_leader", 1),
    "before step 1": lambda: before(Trainer, "_step", 1),
    "before the all-reduce": lambda: before(Group, "average", 2),
    "in an evaluation's all-reduce": lambda: within(1),
    "in the all-reduce": lambda: within(4),
    "after the all-reduce": lambda: before(Trainer, "_clip", 2),
    "before an evaluation": lambda: before(gpt.training.trainer, "exact_loss", 2),
    "in an evaluation": lambda: before(Group, "total", 3),
    "after an evaluation": lambda: before(Group, "total", 4),
}
LEADER_ALONE: dict[str, Callable[[], None]] = {
    "in a save": lambda: before(gpt.files, "write_file", 16),
    "after a save": lambda: before(gpt.storage.checkpoint, "tidy", 3),
    "in a log": lambda: before(gpt.training.monitor.Monitor, "log", 3),
    "in a sample": lambda: before(gpt.training.monitor.Monitor, "look_inside", 2),
}
QUICK = [(0, "in a save"), (0, "in the all-reduce"), (1, "in an evaluation"), (1, "before step 1")]
KILLS = [*itertools.product([0, 1], POINTS), *itertools.product([0], LEADER_ALONE)]


def slow_unless(quick: Sequence[Any], cases: Sequence[Any]) -> list[Any]:
    """Each takes half a second, and the others say the same."""
    return [
        case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in cases
    ]


@pytest.mark.parametrize(("rank", "name"), slow_unless(QUICK, KILLS))
def test_a_kill_at_a_named_point_changes_nothing(
    shop: Workshop, undisturbed: dict[str, Any], rank: int, name: str
) -> None:
    run = shop.folder / "run"
    act = {**POINTS, **LEADER_ALONE}[name]
    members = begin(shop, shop.fresh(run), prepare=on(rank, act))
    codes = members.end()
    assert (codes[rank], codes[1 - rank]) == (-signal.SIGKILL, 8)
    said = members.said(1 - rank)
    assert "error: another process is gone: " in said
    if (run / "checkpoints").exists():
        assert whole_checkpoints(run) == checkpoints_of(run) != []
        way = "" if name == "before the start is sent" else f"train.py --resume {run}\n"
        assert f"go on with: torchrun --nproc-per-node 2 {way}" in said or not way
    go_on(shop, run)
    assert changed(run, undisturbed) == []


def test_a_lost_process_costs_no_step(shop: Workshop) -> None:
    """The leading process saves what all had done."""
    run = shop.folder / "run"
    kill = on(1, lambda: before(Trainer, "_step", 3))
    members = begin(shop, shop.fresh(run, *NO_SAVES), prepare=kill)
    assert members.end() == [8, -signal.SIGKILL]
    assert "fix: step 2 is saved; go on with: " in members.said(0)
    assert load_last(run, pytest.fail).progress.step == 2


def go_on_alone(rank: int) -> None:
    """A mutant: who is left trains on, by its own gradients."""
    average = Group.average

    def alone(self: Group, tensors: Any) -> None:
        try:
            average(self, tensors)
        except gpt.process_group.PeerLost:
            self.size = 1

    Group.average = alone  # type: ignore[method-assign]


def test_a_kill_finds_a_process_that_goes_on_alone(
    shop: Workshop, undisturbed: dict[str, Any]
) -> None:
    run = shop.folder / "run"

    def prepare(rank: int) -> None:
        go_on_alone(rank)
        on(1, POINTS["in the all-reduce"])(rank)

    begin(shop, shop.fresh(run), prepare=prepare).end()
    go_on(shop, run)
    assert changed(run, undisturbed) != []


# --- a process that hangs -----------------------------------------------------------------------


def hang() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_process_that_hangs_is_noticed_after_the_timeout(
    shop: Workshop, undisturbed: dict[str, Any]
) -> None:
    run = shop.folder / "run"
    act = on(1, lambda: before(Group, "average", 2, hang))
    members = begin(shop, shop.fresh(run), prepare=act, timeout=0.5)
    assert os.waitstatus_to_exitcode(os.waitpid(members.children[0], 0)[1]) == 8
    assert "error: another process is gone: " in members.said(0)
    os.kill(members.children[1], signal.SIGKILL)
    os.waitpid(members.children[1], 0)
    go_on(shop, run)
    assert changed(run, undisturbed) == []


def test_the_second_signal_ends_a_process_that_waits_for_another(shop: Workshop) -> None:
    """At once, though the other does not answer: not after the timeout."""
    run = shop.folder / "run"
    members = begin(shop, shop.fresh(run), prepare=on(1, lambda: before(Group, "average", 2, hang)))
    os.waitid(os.P_PID, members.children[1], os.WSTOPPED | os.WNOWAIT)
    until(lambda: rows(run) == 2)
    os.kill(members.children[0], signal.SIGTERM)
    until(lambda: "once more to stop at once" in members.said(0))
    os.kill(members.children[0], signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(members.children[0], 0)[1]) == 143
    os.kill(members.children[1], signal.SIGKILL)
    os.waitpid(members.children[1], 0)


# --- signals ------------------------------------------------------------------------------------


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SIGNALS = [(number, who) for number in CODES for who in ([0], [1], [0, 1])]


@pytest.mark.parametrize(
    ("number", "heard_by"), slow_unless([(signal.SIGTERM, [0, 1]), (signal.SIGINT, [1])], SIGNALS)
)
def test_a_signal_to_any_ends_all_after_the_same_step(
    shop: Workshop, heard_by: list[int], number: signal.Signals
) -> None:
    run = shop.folder / "run"
    members = begin(shop, shop.fresh(run, *FOREVER, *NO_SAVES))
    until(lambda: rows(run) >= 3)
    for rank in heard_by:
        os.kill(members.children[rank], number)
    assert members.end() == [CODES[number]] * 2
    assert load_last(run, pytest.fail).progress.step == rows(run) - 1  # that of step 0
    assert f"go on with: torchrun --nproc-per-node 2 train.py --resume {run}" in members.said(0)
    assert members.said(1) == ""


def each_for_itself(rank: int) -> None:
    """A mutant: a process stops for the signals that it hears, whatever the others hear."""
    Group.finish = lambda self: None  # type: ignore[method-assign]  # gloo aborts at other sizes
    Group.stop_signal = property(lambda self: self.heard)  # type: ignore[assignment]


@pytest.mark.parametrize("mutate", [nothing, each_for_itself])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_in_an_evaluation_ends_it_on_all(
    shop: Workshop, undisturbed: dict[str, Any], rank: int, mutate: Prepare
) -> None:
    """No row is logged, no step is lost, and the next session makes it."""
    run = shop.folder / "run"

    def prepare(own: int) -> None:
        mutate(own)
        interrupt = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        on(rank, lambda: before(gpt.training.trainer, "exact_loss", 2, interrupt))(own)

    codes = begin(shop, shop.fresh(run), prepare=prepare, timeout=2).end()
    assert (codes == [143, 143]) == (mutate is nothing)
    if mutate is nothing:
        assert checkpoints_of(run)[-1].name == "step-000002-stopped"
        go_on(shop, run)
        assert changed(run, undisturbed) == []


# --- numbers that are not finite ----------------------------------------------------------------


def break_step_3(kind: str) -> None:
    """Let the loss, or the gradient, of step 3 be infinite or NaN in this process."""
    loss_of, average = Trainer._loss, Group.average

    def loss(self: Trainer, *batch: torch.Tensor) -> torch.Tensor:
        factor = torch.inf if kind == "loss" and self.progress.step == 2 else 1
        return loss_of(self, *batch) * factor

    calls = itertools.count(1)

    def gradient(self: Group, tensors: Any) -> None:
        if kind == "gradient" and next(calls) == 3:
            tensors[-1][0] = torch.nan
        average(self, tensors)

    Trainer._loss, Group.average = loss, gradient  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("rank", [0, 1])
def test_not_finite_on_one_stops_all_before_the_update(
    shop: Workshop, rank: int, kind: str
) -> None:
    run = shop.folder / "run"
    argv = shop.fresh(run, "--train.max_steps", "5")
    members = begin(shop, argv, prepare=on(rank, lambda: break_step_3(kind)))
    assert members.end() == [6, 6]
    assert f"error: not finite: the {kind} in step 3\n" in members.said(0)
    assert members.said(1) == ""
    assert load_last(run, pytest.fail).progress.step == 2
    assert whole_checkpoints(run) == checkpoints_of(run)
