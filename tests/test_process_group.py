"""Several processes train as one does: the same losses, one writer, the same bytes each time."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Workshop, changed, outcome
from groups import Prepare, begin, nothing, on, train

import gpt.process_group
import gpt.training.follow
import gpt.training.trainer
from gpt.process_group import Group
from gpt.storage.checkpoint import load_checkpoint
from gpt.storage.run_directory import checkpoints_of
from gpt.training.trainer import Trainer

PLAIN = ["--model.dropout", "0", "--train.batch_size", "8", "--train.max_steps", "12"]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """With a run of one process, `alone`, which has prepared the corpus."""
    shop = Workshop(tmp_path)
    shop.train_here(shop.fresh(tmp_path / "alone", *PLAIN))
    return shop


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


# --- the same training --------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "accumulate"), [(1, "1"), (2, "1"), (4, "2")])
def test_as_many_processes_learn_the_same(shop: Workshop, size: int, accumulate: str) -> None:
    """But for rounding: a sum has another order."""
    run = shop.folder / "run"
    train(shop, shop.fresh(run, *PLAIN, "--train.accumulate", accumulate), size)
    for ours, alone in zip(rows_of(run), rows_of(shop.folder / "alone"), strict=True):
        assert ours["step"] == alone["step"]
        for key in ("train_loss", "val_loss", "grad_norm"):
            assert ours.get(key) == pytest.approx(alone.get(key), abs=1e-4), key


def keep_gradients(folder: Path, name: str) -> None:
    """Write the gradients of the first step, as they are before they are clipped."""
    clip = Trainer._clip

    def keeping(self: Trainer, loss: torch.Tensor) -> None:
        if self.progress.step == 0:
            parts = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
            (folder / name).write_bytes(torch.cat(parts).numpy().tobytes())
        clip(self, loss)

    Trainer._clip = keeping  # type: ignore[method-assign]


def gradients(shop: Workshop, name: str) -> torch.Tensor:
    return torch.frombuffer(bytearray((shop.folder / name).read_bytes()), dtype=torch.float32)


def test_the_gradients_of_the_first_step_are_those_of_one_process(shop: Workshop) -> None:
    argv = [*PLAIN, "--train.max_steps", "1", "--run.dir"]
    config = ["--config", str(shop.folder / "toy.yaml")]
    ended = shop.train(
        [*config, *argv, str(shop.folder / "one")], prepare=lambda: keep_gradients(shop.folder, "g")
    )
    assert ended.code == 0
    train(
        shop, [*config, *argv, str(shop.folder / "two")],
        prepare=lambda rank: keep_gradients(shop.folder, f"g{rank}"),
    )  # fmt: skip
    assert (gradients(shop, "g0") - gradients(shop, "g")).abs().max() < 1e-6
    assert torch.equal(gradients(shop, "g0"), gradients(shop, "g1"))


def write_digest(folder: Path, rank: int) -> None:
    """Write what this process has in the end."""
    train_ = Trainer.train

    def with_digest(self: Trainer) -> Any:
        progress = train_(self)
        parts = [p.detach().flatten() for p in self.model.parameters()]
        losses = f"{progress.best_val_loss!r} {progress.best_step} {progress.waiting}"
        (folder / f"end-{rank}").write_bytes(torch.cat(parts).numpy().tobytes() + losses.encode())
        return progress

    Trainer.train = with_digest  # type: ignore[method-assign]


def average_the_loss_alone(rank: int) -> None:
    """A mutant: each process goes its own way."""
    average = Group.average
    Group.average = lambda self, tensors: average(self, tensors[:1])  # type: ignore[method-assign]


@pytest.mark.parametrize("mutate", [nothing, average_the_loss_alone])
def test_all_processes_have_the_same_weights_and_the_same_losses(
    shop: Workshop, mutate: Prepare
) -> None:
    """To the last bit: they decide by them when to stop."""

    def prepare(rank: int) -> None:
        write_digest(shop.folder, rank)
        mutate(rank)

    train(shop, shop.fresh(shop.folder / "run"), prepare=prepare)
    ends = {(shop.folder / f"end-{rank}").read_bytes() for rank in range(2)}
    assert len(ends) == (1 if mutate is nothing else 2)


# --- the same bytes -----------------------------------------------------------------------------


@pytest.fixture
def undisturbed(shop: Workshop) -> dict[str, Any]:
    """What two processes leave that nothing happens to; they have trained with dropout."""
    train(shop, shop.fresh(shop.folder / "run"))
    left = outcome(shop.folder / "run")
    gpt.files.remove(shop.folder / "run")
    return left


def test_two_runs_are_the_same_bytes(shop: Workshop, undisturbed: dict[str, Any]) -> None:
    train(shop, shop.fresh(shop.folder / "run"))
    assert changed(shop.folder / "run", undisturbed) == []


def stop_in_step(step: int, number: int = signal.SIGTERM) -> None:
    """Let a signal come in the middle of a step."""
    clip = Trainer._clip

    def stopping(self: Trainer, loss: torch.Tensor) -> None:
        if self.progress.step == step - 1:
            os.kill(os.getpid(), number)
        clip(self, loss)

    Trainer._clip = stopping  # type: ignore[method-assign]


def forget_the_averages(rank: int) -> None:
    """A mutant: what followers get is without the optimizer's state."""
    received = gpt.training.follow._received

    def forgetful(data: bytes) -> Any:
        start, run = received(data)
        start.optimizer_state.clear()
        return start, run

    gpt.training.follow._received = forgetful


@pytest.mark.parametrize("mutate", [nothing, forget_the_averages])
def test_a_resume_is_the_same_bytes(
    shop: Workshop, undisturbed: dict[str, Any], mutate: Prepare
) -> None:
    run = shop.folder / "run"
    stopped = begin(shop, shop.fresh(run), prepare=on(1, lambda: stop_in_step(1)))
    assert stopped.end() == [143, 143]
    said = train(shop, ["--resume", str(run), "--exact"], prepare=mutate).said(0)
    assert "warning" not in said
    assert bool(changed(run, undisturbed)) == (mutate is forget_the_averages)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_resume_by_more_or_fewer_processes_goes_on_and_says_so(
    shop: Workshop, before: int, after: int
) -> None:
    run = shop.folder / "run"
    stopped = begin(shop, shop.fresh(run), before, prepare=on(0, lambda: stop_in_step(1)))
    assert set(stopped.end()) == {143}
    refused = begin(shop, ["--resume", str(run), "--exact"], after)
    assert refused.end() == [4] * after
    assert f"processes {before} -> {after}" in refused.said(0)
    said = train(shop, ["--resume", str(run)], after).said(0)
    assert f"not bit for bit the uninterrupted run: processes {before} -> {after}\n" in said
    checkpoint = load_checkpoint(checkpoints_of(run)[-1])
    assert checkpoint.progress.identity["processes"] == after


# --- one writer, one speaker --------------------------------------------------------------------


def test_only_the_first_process_speaks(shop: Workshop) -> None:
    members = train(shop, shop.fresh(shop.folder / "run"))
    assert "(2 processes, each with 1 thread)" in members.said(0)
    assert members.said(0).count("best val loss") == 1
    assert members.said(1) == ""


@pytest.mark.parametrize("flag", ["--help", "--print-config", "--dry-run"])
def test_what_trains_nothing_ends_all(shop: Workshop, flag: str) -> None:
    members = train(shop, shop.fresh(shop.folder / "run", flag))
    assert members.said(0)
    assert members.said(1) == ""


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        (["--train.batch_size", "3"], 2, "train.batch_size 3 is not divisible by 2 processes"),
        (["--train.learning_rate", "fast"], 2, "train.learning_rate"),
        (["--data.text", "/nowhere.txt"], 3, "/nowhere.txt"),
    ],
)
def test_a_mistake_is_told_once_and_ends_all(
    shop: Workshop, argv: list[str], code: int, what: str
) -> None:
    members = begin(shop, shop.fresh(shop.folder / "run", *argv))
    assert members.end() == [code, code]
    assert what in members.said(0)
    assert members.said(1) == ""


def test_minutes_are_refused(shop: Workshop) -> None:
    members = begin(shop, ["--minutes", "1", "--data.text", str(shop.folder / "text.txt")])
    assert members.end() == [2, 2]
    assert "error: --minutes is for one process" in members.said(0)


def test_machines_that_are_not_alike_are_refused(shop: Workshop) -> None:
    """Their weights would drift apart, bit by bit."""

    def other_version() -> None:
        torch.__version__ = "0.0"  # type: ignore[assignment]

    members = begin(shop, shop.fresh(shop.folder / "run"), prepare=on(1, other_version))
    assert members.end() == [2, 2]
    assert f"process 1 is not like the first one: torch 0.0, not {torch.__version__}" in (
        members.said(1)
    )
    assert "ended with exit code 2 and said why" in members.said(0)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("LOCAL_RANK", None, "error: RANK is set, but not LOCAL_RANK"),
        ("WORLD_SIZE", "two", "error: WORLD_SIZE is 'two', no number"),
        ("GPT_PEER_TIMEOUT", "soon", "error: GPT_PEER_TIMEOUT is 'soon'"),
        ("GPT_PEER_TIMEOUT", "0", "error: GPT_PEER_TIMEOUT is '0'"),
        ("GPT_PEER_TIMEOUT", "nan", "error: GPT_PEER_TIMEOUT is 'nan'"),
    ],
)
def test_an_environment_that_is_not_torchruns_is_refused(
    shop: Workshop, name: str, value: str | None, what: str
) -> None:
    def prepare(rank: int) -> None:
        os.environ.pop(name)
        if value:
            os.environ[name] = value

    members = begin(shop, shop.fresh(shop.folder / "run"), 1, prepare)
    assert members.end() == [2]
    assert what in members.said(0)


def test_too_few_processes_are_noticed(shop: Workshop) -> None:
    def of_three(rank: int) -> None:
        os.environ["WORLD_SIZE"] = "3"

    members = begin(shop, shop.fresh(shop.folder / "run"), 2, of_three, timeout=0.3)
    assert members.end() == [8, 8]
    assert "error: the 3 processes did not meet within 0.3 s" in members.said(0)
