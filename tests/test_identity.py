"""A run goes on with its own text, wherever that lies, and says what changed."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import VERSE

import train
from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.errors import Exit, Mistake
from gpt.optim import lr_factor
from gpt.storage.checkpoint import save_checkpoint
from gpt.storage.find import load_best, load_last
from gpt.training.fine_tune import fresh
from gpt.training.identity import forget_best_of_other_text
from gpt.training.run import resume, train_new
from scripts import evaluate


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


def go_on(run: Path, **keys: Any) -> int:
    """Resume `run` with some keys of its config changed."""
    overrides = {key.replace("__", "."): value for key, value in keys.items()}
    return resume(run, partial(overridden, overrides=overrides))


@pytest.fixture
def run(toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run that has finished at step 6."""
    train_new(overridden(toy_config, {"run.dir": str(tmp_path / "run")}), "toy")
    capsys.readouterr()
    return tmp_path / "run"


# --- the same text, moved ----------------------------------------------------------------------


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_text_that_was_moved_is_the_same_text(
    run: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, line_end: bytes, parts: int
) -> None:
    """Also in several files, or with other line ends: the characters are what counts."""
    monkeypatch.chdir(run.parent)
    data = text_file.read_bytes()
    text_file.unlink()
    places = [Path(f"moved-{part}.txt") for part in range(parts)]
    cuts = [0, len(data) // 2, len(data)] if parts == 2 else [0, len(data)]
    for path, start, stop in zip(places, cuts, cuts[1:], strict=False):
        path.write_bytes(data[start:stop].replace(b"\n", line_end))
    argv = ["--resume", "run", "--train.max_steps", "9", "--data.text", *map(str, places)]
    assert train.main(argv) == Exit.DONE
    absolute = [str(path.absolute()) for path in places]
    expected = absolute if parts > 1 else absolute[0]
    assert load_last(run, ignore).config.data.text == expected
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["text"] == expected
    assert go_on(run) == Exit.DONE


def test_a_run_with_a_moved_text_is_the_undisturbed_run(
    toy_config: Config, text_file: Path, tmp_path: Path
) -> None:
    ends = []
    for name in ("one", "two"):
        run = tmp_path / name
        train_new(overridden(toy_config, {"run.dir": str(run), "train.decay": "none"}), "toy")
        if name == "two":
            text_file.rename(tmp_path / "moved.txt")
        go_on(run, train__max_steps=9, **({} if name == "one" else moved(tmp_path)))
        ends.append((load_last(run, ignore).weights, load_last(run, ignore).progress.identity))
    assert all((ends[0][0][key] == ends[1][0][key]).all() for key in ends[0][0])
    assert ends[0][1] == ends[1][1]


def moved(folder: Path) -> dict[str, str]:
    return {"data__text": str(folder / "moved.txt")}


def evaluated(run: Path, text: Path) -> int:
    return evaluate.main([str(run), "--data.text", str(text)])


def resumed(run: Path, text: Path) -> int:
    return go_on(run, data__text=str(text))


@pytest.mark.parametrize("command", [evaluated, resumed])
def test_another_text_in_another_place_is_refused(
    run: Path, tmp_path: Path, command: Callable[[Path, Path], int]
) -> None:
    """Also with the same alphabet; nothing is prepared or changed."""
    other = tmp_path / "other.txt"
    other.write_text(VERSE * 21, "utf-8")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(Mistake, match="not the run's text") as caught:
        command(run, other)
    assert caught.value.exit_code == Exit.CORPUS
    assert "the same text, moved" in caught.value.fix
    assert len(caught.value.what) < len(str(other)) + 80
    del before[run / ".lock"]  # says who held it last
    assert all(path.read_bytes() == data for path, data in before.items())
    assert len(list((tmp_path / "data" / "prepared").glob("[!.]*"))) == 1


@pytest.mark.parametrize("command", [evaluate.main, lambda argv: go_on(Path(argv[0]))])
def test_a_text_that_is_not_there_is_asked_for(
    run: Path, text_file: Path, command: Callable[[list[str]], int]
) -> None:
    text_file.unlink()
    with pytest.raises(Mistake, match="is not there") as caught:
        command([str(run)])
    assert caught.value.exit_code == Exit.CORPUS
    assert "--data.text PATH (the same text, moved)" in caught.value.fix


def test_a_moved_text_is_evaluated(
    run: Path, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(run)]) == Exit.DONE
    loss = capsys.readouterr().out
    assert evaluated(run, text_file.rename(tmp_path / "moved.txt")) == Exit.DONE
    assert capsys.readouterr().out == loss != ""


# --- another text in the same place ------------------------------------------------------------


def test_a_text_that_changed_is_said_in_short_and_its_best_loss_is_forgotten(
    run: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A best loss that no later one reaches would hide every model of the new text."""
    unbeatable(run)
    text_file.write_text(text_file.read_text()[::-1], "utf-8")
    assert go_on(run, train__max_steps=9) == Exit.DONE
    err = capsys.readouterr().err
    assert "the text changed (SHA-256 " in err
    assert not re.search(r"[0-9a-f]{9}", err.partition("SHA-256")[2].splitlines()[0])
    assert "the best val loss so far, 0.0100 (step 6), is the old text's" in err
    best = load_best(run, ignore).progress
    assert best.step == best.best_step == 9
    assert best.best_val_loss == best.val_loss


def unbeatable(run: Path) -> None:
    """Let the run's last checkpoint say a loss of 0.01."""
    last = load_last(run, ignore)
    last.progress.val_loss = last.progress.best_val_loss = 0.01
    last.progress.best_step = last.progress.step
    shutil.rmtree(run / "checkpoints")
    save_checkpoint(run, last)


def test_the_best_of_the_same_text_goes_on_competing(run: Path) -> None:
    unbeatable(run)
    assert go_on(run, train__max_steps=9) == Exit.DONE
    assert load_last(run, ignore).progress.best_step == 6
    assert load_best(run, ignore).progress.step == 6


def test_a_best_that_is_forgotten_is_one_that_never_was(
    toy_config: Config, toy_corpus: Corpus
) -> None:
    start = fresh(toy_config, toy_corpus)
    start.progress.identity["corpus"] = "another text's"
    never = dataclasses.replace(start.progress)
    start.progress.best_val_loss, start.progress.best_step, start.progress.waiting = 1.0, 3, 2
    assert forget_best_of_other_text(start, toy_corpus)
    assert start.progress == never


def test_without_a_best_there_is_none_to_forget(toy_config: Config, toy_corpus: Corpus) -> None:
    """As in a run that was stopped before its first evaluation."""
    start = fresh(toy_config, toy_corpus)
    start.progress.identity["corpus"] = "another text's"
    assert start.progress.best_val_loss is None
    assert forget_best_of_other_text(start, toy_corpus) is None


# --- the learning rate -------------------------------------------------------------------------


def test_a_learning_rate_that_rises_again_is_said_with_both_rates(
    run: Path, toy_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    old = toy_config.train
    new = old.model_copy(update={"max_steps": 60})
    assert go_on(run, train__max_steps=60) == Exit.DONE
    last, following = (c.learning_rate * lr_factor(step, c) for step, c in ((5, old), (6, new)))
    line = f"the learning rate rises again: {last:.1e} at step 6, {following:.1e} at the next"
    assert line in capsys.readouterr().err
    assert following > last


@pytest.mark.parametrize("keys", [{}, {"train__decay": "none"}, {"train__patience": 3}])
def test_a_learning_rate_that_goes_on_as_planned_is_not_said(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, Any]
) -> None:
    """Though it rises during the warm-up."""
    warm = {"run.dir": str(tmp_path / "run"), "train.warmup_steps": 5, "train.target_val_loss": 9.0}
    train_new(overridden(toy_config, warm), "toy")
    assert load_last(tmp_path / "run", ignore).progress.step == 3
    assert go_on(tmp_path / "run", train__target_val_loss=0.01, **keys) == Exit.DONE
    assert "rises again" not in capsys.readouterr().err
    assert load_last(tmp_path / "run", ignore).progress.step == 6
