"""Checkpoints of ordinary runs: there and back, which are kept, which are taken.

(Kills, full disks and every flipped byte are tried elsewhere.)
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_models import VARIANTS, build, text

from gpt import paths
from gpt.config import Config
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.optim import make_optimizers, optimizer_state
from gpt.storage import manifest
from gpt.storage.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from gpt.storage.find import find_checkpoint, load_best, load_last
from gpt.storage.run_directory import checkpoints_of, known_runs, newest_run
from gpt.training.run import resume

Make = Callable[..., Checkpoint]
ALPHABET = "\n abcé€"


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


@pytest.fixture
def at(toy_config: Config) -> Make:
    """A checkpoint of a small trained model at a step, with a validation loss."""

    def make(step: int, val_loss: float | None = None, keep: int = 2) -> Checkpoint:
        config = toy_config.model_copy(
            update={"log": toy_config.log.model_copy(update={"keep": keep})}
        )
        torch.manual_seed(step)
        model = GPT(config.model, len(ALPHABET))
        optimizers = make_optimizers(model, config.train)
        tokens = torch.randint(len(ALPHABET), (2, 8))
        model(tokens).logsumexp(-1).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        progress = Progress(step=step, val_loss=val_loss, loss_sum=1.25, loss_count=3, waiting=1)
        progress.identity = {"threads": 1, "torch": "x"}
        averages = optimizer_state(model, optimizers)
        return Checkpoint(config, CharTokenizer(ALPHABET), progress, model.state_dict(), averages)

    return make


def refusal(path: Path) -> str:
    with pytest.raises(Mistake) as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == Exit.CHECKPOINT
    assert caught.value.fix
    return caught.value.what


# --- there and back ----------------------------------------------------------------------------


def test_all_of_it_comes_back(tmp_path: Path, at: Make) -> None:
    made = at(7, 2.5)
    path = save_checkpoint(tmp_path, made)
    assert path == tmp_path / "checkpoints" / "step-000007"
    got = load_checkpoint(path)
    assert (got.config, got.tokenizer.alphabet) == (made.config, ALPHABET)
    assert got.progress == made.progress
    for kept, tensors in ((got.weights, made.weights), (got.optimizer_state, made.optimizer_state)):
        assert kept.keys() == tensors.keys()
        assert all(torch.equal(kept[name], tensors[name]) for name in tensors)
    tokens = torch.arange(8)[None] % len(ALPHABET)
    model = GPT(made.config.model, len(ALPHABET)).eval()
    model.load_state_dict(made.weights)
    assert torch.equal(got.make_model()(tokens), model(tokens))
    assert not got.make_model().training


@pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_model_of_every_kind_comes_back(toy_config: Config, tmp_path: Path, kind: dict) -> None:
    model, tokenizer = build(kind).eval(), CharTokenizer("abcdefghijk")
    config = toy_config.model_copy(update={"model": model.config})
    made = Checkpoint(config, tokenizer, Progress(), model.state_dict(), optimizer_state={})
    got = load_checkpoint(save_checkpoint(tmp_path, made)).make_model()
    assert torch.equal(got(text()[None]), model(text()[None]))


def test_the_manifest_names_each_file_with_size_and_hash(tmp_path: Path, at: Make) -> None:
    path = save_checkpoint(tmp_path, at(7, 2.5))
    manifest = json.loads((path / "manifest.json").read_bytes())
    files = {item.name: item.read_bytes() for item in path.iterdir()}
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
        if name != "manifest.json"
    }
    assert (manifest["step"], manifest["val_loss"]) == (7, 2.5)
    assert set(manifest["files"]) == {
        "model.safetensors", "optimizer.safetensors", "training.json", "config.json",
        "vocabulary.json",
    }  # fmt: skip


def test_one_that_a_training_deletes_while_it_is_read_is_not_called_damaged(
    tmp_path: Path, at: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = save_checkpoint(tmp_path, at(7)), manifest._read

    def late(file: Path, most: int) -> bytes:
        if file.name == "training.json":
            shutil.rmtree(path)
        return read(file, most)

    monkeypatch.setattr(manifest, "_read", late)
    assert refusal(path) == f"{path} was deleted while it was read"


def test_a_checkpoint_can_be_copied_anywhere(tmp_path: Path, at: Make) -> None:
    path = save_checkpoint(tmp_path / "run", at(7, 2.5))
    assert load_checkpoint(path.rename(tmp_path / "step-000007")).progress.step == 7


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "config.json", "manifest.json"]
)
def test_what_is_cut_short_missing_or_extra_is_named(tmp_path: Path, at: Make, name: str) -> None:
    path = save_checkpoint(tmp_path, at(7))
    whole = (path / name).read_bytes()
    for damaged in (b"", whole[:1], whole[: len(whole) // 2], whole[:-1], whole + b"\n"):
        (path / name).write_bytes(damaged)
        assert name in refusal(path)
    (path / name).unlink()
    assert f"{name} is missing" in refusal(path)
    (path / name).write_bytes(whole)
    load_checkpoint(path)
    (path / "other.json").write_bytes(b"{}")
    assert "other.json" in refusal(path)


def test_weights_that_do_not_fit_the_config_are_named(tmp_path: Path, at: Make) -> None:
    made = at(7)
    made.weights = {**made.weights, "lm_head.weight": torch.zeros(3, 16)}
    assert "lm_head.weight" in refusal(save_checkpoint(tmp_path, made))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, at: Make, number: float) -> None:
    made = at(7)
    made.weights = {**made.weights, "lm_head.bias": torch.full((len(ALPHABET),), number)}
    assert "lm_head.bias" in refusal(save_checkpoint(tmp_path, made))


def test_a_path_that_is_no_checkpoint(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")
    assert "manifest.json" in refusal(tmp_path)


# --- which are kept, which are taken -----------------------------------------------------------


def kept(run: Path) -> list[int]:
    return [int(path.name[5:]) for path in checkpoints_of(run)]


def test_the_best_and_the_newest_are_kept(tmp_path: Path, at: Make) -> None:
    losses = {1: 3.0, 2: 2.0, 3: None, 4: 2.0, 5: 2.6, 6: None}  # of equals the first is best
    expected = {1: [1], 2: [1, 2], 3: [2, 3], 4: [2, 3, 4], 5: [2, 4, 5], 6: [2, 5, 6]}
    for step, loss in losses.items():
        save_checkpoint(tmp_path, at(step, loss))
        assert kept(tmp_path) == expected[step]
    assert (tmp_path / "best").read_text() == "step-000002\n"
    assert (tmp_path / "last").read_text() == "step-000006\n"
    assert load_best(tmp_path, ignore).progress.step == 2
    assert load_last(tmp_path, ignore).progress.step == 6
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_keep_1_and_keep_all(tmp_path: Path, at: Make) -> None:
    for step in range(1, 5):
        save_checkpoint(tmp_path / "one", at(step, 5.0 - step, keep=1))
        save_checkpoint(tmp_path / "all", at(step, 5.0 - step, keep=0))
    assert kept(tmp_path / "one") == [4]
    assert kept(tmp_path / "all") == [1, 2, 3, 4]


def test_without_a_measured_loss_the_newest_is_the_best(tmp_path: Path, at: Make) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, at(step))
    assert load_best(tmp_path, ignore).progress.step == 3
    assert (tmp_path / "best").read_text() == "step-000003\n"


def test_a_million_steps_sort_as_numbers(tmp_path: Path, at: Make) -> None:
    for step in (999_999, 1_000_000):
        save_checkpoint(tmp_path, at(step, keep=0))
    assert kept(tmp_path) == [999_999, 1_000_000]
    assert load_last(tmp_path, ignore).progress.step == 1_000_000


def test_the_newest_whole_one_is_taken_and_the_loss_said(tmp_path: Path, at: Make) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, at(step, float(step), keep=0))
    for step in (3, 2):
        (tmp_path / "checkpoints" / f"step-00000{step}" / "model.safetensors").write_bytes(b"")
    said: list[str] = []
    assert load_last(tmp_path, said.append).progress.step == 1
    (line,) = said
    assert "model.safetensors" in line
    assert "steps 2 to 3 are lost" in line
    (tmp_path / "checkpoints" / "step-000001" / "config.json").unlink()
    with pytest.raises(Mistake, match="step-000003") as caught:
        load_last(tmp_path, ignore)
    assert caught.value.exit_code == Exit.CHECKPOINT


def test_a_damaged_one_after_an_evaluation_costs_no_step(tmp_path: Path, at: Make) -> None:
    stopped = at(2)
    stopped.progress.owes_evaluation = True
    before = save_checkpoint(tmp_path, stopped)
    kept = shutil.copytree(before, tmp_path / "kept")
    after = save_checkpoint(tmp_path, at(2, 1.0))
    kept.rename(before)  # as a kill leaves it
    (after / "config.json").unlink()
    said: list[str] = []
    assert load_last(tmp_path, said.append).progress.owes_evaluation
    assert said[0].endswith("going on from step 2, whose evaluation is made again")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_what_may_not_be_read_is_not_damaged(
    tmp_path: Path, at: Make, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A run must not lose steps, or be trained anew, for want of a right; but a disk may fail."""
    for step in (1, 2):
        save_checkpoint(tmp_path, at(step))
    newest, real = tmp_path / "checkpoints" / "step-000002" / "model.safetensors", os.open

    def open_(name: Any, *args: Any, **options: Any) -> int:
        if name == newest:
            raise OSError(number, os.strerror(number), str(name))
        return real(name, *args, **options)

    monkeypatch.setattr(os, "open", open_)
    if number == errno.EIO:
        assert load_last(tmp_path, ignore).progress.step == 1
    else:
        with pytest.raises(Mistake, match=str(newest)) as caught:
            load_last(tmp_path, ignore)
        assert caught.value.exit_code == Exit.STORAGE


def test_checkpoints_that_may_not_be_listed_are_said(
    tmp_path: Path, at: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, at(1))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "checkpoints"))

    with monkeypatch.context() as patch:
        for name in ("scandir", "listdir"):  # glob takes the refusal for an empty folder
            patch.setattr(os, name, refuse)
        for look in (load_last, lambda run, _: resume(run, lambda config: config)):
            with pytest.raises(Mistake, match=r"^cannot read .*: Permission denied$") as caught:
                look(tmp_path, ignore)
            assert caught.value.exit_code == Exit.STORAGE


def test_the_next_best_is_taken_when_the_best_is_damaged(tmp_path: Path, at: Make) -> None:
    for step, loss in ((1, 2.0), (2, 1.0), (3, 3.0)):
        save_checkpoint(tmp_path, at(step, loss, keep=0))
    (tmp_path / "checkpoints" / "step-000002" / "model.safetensors").write_bytes(b"")
    said: list[str] = []
    assert load_best(tmp_path, said.append).progress.step == 1
    assert "taking the next best" in said[0]


def test_the_newest_run_is_that_with_the_youngest_checkpoint(at: Make) -> None:
    with pytest.raises(Mistake, match="no run with a checkpoint") as caught:
        newest_run()
    assert caught.value.exit_code == Exit.CHECKPOINT
    assert "train" in known_runs()
    for name in ("b", "a"):
        save_checkpoint(paths.RUNS / name, at(1))
        time.sleep(0.02)  # file systems count time in ticks
    (paths.RUNS / "empty").mkdir()
    (paths.RUNS / "a file").write_text("")
    assert newest_run().name == "a"
    assert find_checkpoint(None, ignore).progress.step == 1
    assert known_runs().endswith("the newest first: a, b")


def test_a_run_that_is_not_there_is_answered_with_the_five_newest(at: Make) -> None:
    for age, name in enumerate("fcaebd"):
        save_checkpoint(paths.RUNS / name, at(1))
        os.utime(paths.RUNS / name / "checkpoints", (10**9 - age, 10**9 - age))
    with pytest.raises(Mistake, match="no run nope") as caught:
        find_checkpoint("nope", ignore)
    assert caught.value.fix.endswith(": f, c, a, e, b")


def test_a_run_that_has_just_begun_is_not_the_newest_to_write_with(at: Make) -> None:
    save_checkpoint(paths.RUNS / "trained", at(1))
    time.sleep(0.02)
    save_checkpoint(paths.RUNS / "begun", at(0))
    assert newest_run().name == "trained"


def test_what_run_can_mean(at: Make) -> None:
    run = paths.RUNS / "x"
    for step, loss in ((1, 2.0), (2, 3.0)):
        save_checkpoint(run, at(step, loss, keep=0))
    assert find_checkpoint(str(run), ignore).progress.step == 1  # its best
    assert find_checkpoint(str(run / "checkpoints" / "step-000002"), ignore).progress.step == 2
    with pytest.raises(Mistake, match="no run nowhere") as caught:
        find_checkpoint("nowhere", ignore)
    assert caught.value.fix.endswith("x")
