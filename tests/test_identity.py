"""A run goes on with its own text, wherever that lies, and says what changed."""

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import VERSE

import train
from gpt.command.config_file import load_config, overridden, to_yaml
from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.errors import Exit, Mistake
from gpt.optim import lr_factor
from gpt.processes import Processes
from gpt.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gpt.storage.find import load_best, load_last
from gpt.storage.manifest import to_json, verified_files, with_manifest
from gpt.training.fine_tune import fresh
from gpt.training.identity import forget_best_of_other_text, identity
from gpt.training.run import resume, train_new
from gpt.training.trainer import Trainer
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
def test_a_text_that_was_moved_is_the_same_text(
    run: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, line_end: bytes
) -> None:
    """Also with other line ends: the characters are what counts."""
    monkeypatch.chdir(run.parent)
    data = text_file.read_bytes()
    text_file.unlink()
    Path("moved.txt").write_bytes(data.replace(b"\n", line_end))
    argv = ["--resume", "run", "--train.max_steps", "9", "--data.text", "moved.txt"]
    assert train.main(argv) == Exit.DONE
    expected = str(Path("moved.txt").absolute())
    assert load_last(run, ignore).config.data.text == expected
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["text"] == expected
    assert go_on(run) == Exit.DONE


def test_a_run_on_several_files_goes_on_where_they_were_moved(
    toy_config: Config, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(tmp_path / name) for name in ("one.txt", "two.txt")]
    for name, text in zip(names, (VERSE * 20, VERSE[::-1] * 20), strict=True):
        Path(name).write_text(text, "utf-8")
    run = tmp_path / "several"
    train_new(overridden(toy_config, {"run.dir": str(run), "data.text": names}), "toy")
    moved = [str(Path(name).rename(tmp_path / f"moved-{Path(name).name}")) for name in names]
    capsys.readouterr()
    assert go_on(run, train__max_steps=9, data__text=moved) == Exit.DONE
    assert "the text changed" not in capsys.readouterr().err
    with pytest.raises(Mistake, match="not the run's text"):
        go_on(run, data__text=moved[::-1])


def test_a_run_on_what_was_piped_in_goes_on_without_the_pipe(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(VERSE.encode() * 20))
    monkeypatch.setattr(sys, "stdin", stdin)
    run = tmp_path / "piped"
    assert train_new(overridden(toy_config, {"run.dir": str(run), "data.text": "-"}), "toy") == 0
    monkeypatch.delattr(sys, "stdin")
    assert go_on(run, train__max_steps=9) == Exit.DONE


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_files_that_a_run_read_as_one_text_are_refused_with_the_way_on(
    run: Path, text_file: Path, tmp_path: Path, command: str
) -> None:
    """As all runs on several files did once: only the end of the last was validated on."""
    data = text_file.read_bytes()
    parts = [str(tmp_path / "part 1.txt"), str(tmp_path / "part 2.txt")]
    for part, piece in zip(parts, (data[:700], data[700:]), strict=True):
        Path(part).write_bytes(piece)
    argv = {"resume": ["--resume", str(run)], "evaluate": [str(run)]}[command]
    main = {"resume": train.main, "evaluate": evaluate.main}[command]
    with pytest.raises(Mistake, match="the run read them as one text") as caught:
        main([*argv, "--data.text", *parts])
    assert caught.value.exit_code == Exit.CORPUS
    line, _, _ = caught.value.fix.partition(", and add")
    subprocess.run(line, shell=True, check=True, cwd=tmp_path)
    assert go_on(run, data__text=str(tmp_path / "whole.txt"), train__max_steps=9) == Exit.DONE


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
    run: Path,
    text_file: Path,
    command: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run's text is named before it is looked at."""
    text_file.unlink()
    with pytest.raises(Mistake, match="is not there") as caught:
        command([str(run)])
    assert caught.value.exit_code == Exit.CORPUS
    assert "--data.text PATH (the same text, moved)" in caught.value.fix
    assert f"the run's text: {text_file}\n" in capsys.readouterr().err


def test_a_moved_text_is_evaluated(
    run: Path, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(run)]) == Exit.DONE
    loss = capsys.readouterr().out
    assert evaluated(run, text_file.rename(tmp_path / "moved.txt")) == Exit.DONE
    assert capsys.readouterr().out == loss != ""


# --- what else the bytes depend on ---------------------------------------------------------------


def put_back(run: Path, last: Checkpoint) -> None:
    """Let `last` be the run's one checkpoint, and its config the run's."""
    shutil.rmtree(run / "checkpoints")
    (run / "config.yaml").write_text(to_yaml(last.config), "utf-8")
    save_checkpoint(run, last)


def refusal(run: Path, **keys: Any) -> str:
    """What is said where the run cannot go on exactly, with some keys of its config changed."""
    overrides = {key.replace("__", "."): value for key, value in keys.items()}
    with pytest.raises(Mistake) as caught:
        resume(run, partial(overridden, overrides=overrides), exact=True)
    assert caught.value.exit_code == Exit.CHECKPOINT
    assert "--exact" in caught.value.fix
    return caught.value.what


def lines_and_progress(run: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The metric log and the progress of a run's last checkpoint, without clocks."""
    clocks = ("elapsed_seconds", "chars_per_second")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: x for key, x in row.items() if key not in clocks} for row in rows]
    progress = asdict(load_last(run, ignore).progress)
    return kept, {key: x for key, x in progress.items() if key not in clocks}


@pytest.mark.parametrize(
    ("key", "value"),
    [("log_every", 2), ("eval_every", 2), ("save_every", 2), ("keep", 0), ("sample_chars", 3)],
)
def test_exact_compares_the_log_settings_that_change_the_log_or_the_progress(
    toy_config: Config, run: Path, tmp_path: Path, key: str, value: int
) -> None:
    """No other one: those may change."""
    other = tmp_path / "other"
    train_new(overridden(toy_config, {"run.dir": str(other), f"log.{key}": value}), "toy")
    if lines_and_progress(run) == lines_and_progress(other):
        change = partial(overridden, overrides={f"log.{key}": value})
        assert resume(run, change, exact=True) == Exit.DONE
    else:
        before = getattr(toy_config.log, key)
        assert f"log.{key} {before} -> {value}" in refusal(run, **{f"log__{key}": value})


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [("train.compile", True, "with train.compile"), ("train.device", "cuda", "on cuda")],
)
def test_exact_is_refused_where_nobody_has_shown_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, where: str
) -> None:
    """Though nothing has changed."""
    on_a_gpu(monkeypatch)
    last = load_last(run, ignore)
    last.config = overridden(last.config, {key: value})
    last.progress.identity = identity(last.config, load_corpus(last.config, ignore), Processes())
    put_back(run, last)
    assert f"an exact resume is not promised {where}" in refusal(run)


def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that can be asked about itself, no more."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)


def test_a_run_knows_what_computed_it(
    toy_config: Config, toy_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cpu = identity(toy_config, toy_corpus, Processes())
    assert (on_a_cpu["device"], on_a_cpu["mode"]) == ("cpu", "eager")
    assert on_a_cpu["numpy"] == np.__version__
    assert "cudnn" not in on_a_cpu
    on_a_gpu(monkeypatch)
    keys = {"train.device": "cuda", "train.compile": True}
    found = identity(overridden(toy_config, keys), toy_corpus, Processes())
    assert (found["device"], found["cudnn"], found["mode"]) == ("H100", 91002, "compiled")


def test_what_an_older_version_did_not_write_down_is_unknown(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on all the same, though not as an exact one."""
    last = load_last(run, ignore)
    del last.progress.identity["numpy"], last.progress.identity["mode"]
    put_back(run, last)
    said = f"numpy unknown -> {np.__version__}; mode unknown -> eager"
    assert said in refusal(run)
    assert go_on(run, train__max_steps=9) == Exit.DONE
    assert f"the uninterrupted run: {said}\n" in capsys.readouterr().err
    assert load_last(run, ignore).progress.identity["numpy"] == np.__version__


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
    put_back(run, last)


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
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, Any],
) -> None:
    """Though it rises during the warm-up."""
    losses = iter([9.5, 3.0, 3.0])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    warm = {"run.dir": str(tmp_path / "run"), "train.warmup_steps": 5, "train.target_val_loss": 9.0}
    train_new(overridden(toy_config, warm), "toy")
    assert load_last(tmp_path / "run", ignore).progress.step == 3
    assert go_on(tmp_path / "run", train__target_val_loss=0.01, **keys) == Exit.DONE
    assert "rises again" not in capsys.readouterr().err
    assert load_last(tmp_path / "run", ignore).progress.step == 6


# --- a run of two faces ------------------------------------------------------------------------


def show(run: Path, **keys: Any) -> None:
    """Write other settings into a run's config.yaml."""
    changed = overridden(load_config(run / "config.yaml"), keys)
    (run / "config.yaml").write_text(to_yaml(changed), "utf-8")


def face(checkpoint: Path, **keys: Any) -> None:
    """Write other settings into a checkpoint, as a stranger can, with a manifest that fits."""
    saved, files = load_checkpoint(checkpoint), verified_files(checkpoint)
    del files["manifest.json"]
    files["config.json"] = to_json(overridden(saved.config, keys).model_dump())
    sealed = with_manifest(files, saved.progress.step, saved.progress.val_loss)
    for name, data in sealed.items():
        (checkpoint / name).write_bytes(data)


@pytest.mark.parametrize("who", ["config.yaml", "the checkpoint"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("data.text", "other.txt"), ("data.val_fraction", 0.2), ("model.dropout", 0.5)],
)
def test_a_run_that_shows_another_config_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, key: str, value: Any
) -> None:
    """Before a text is opened, and whichever of the two was changed; nothing is written."""
    (tmp_path / "other.txt").write_text(VERSE * 20)  # be it the same text in another place
    value = str(tmp_path / value) if key == "data.text" else value
    if who == "config.yaml":
        show(run, **{key: value})
    else:
        face(run / "checkpoints" / "step-000006", **{key: value})
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.setattr("gpt.training.run.corpus_of", lambda *_: pytest.fail("the text is read"))
    with pytest.raises(Mistake, match=rf"config\.yaml says {key} ") as caught:
        go_on(run, train__max_steps=9)
    assert caught.value.exit_code == Exit.CHECKPOINT
    del before[run / ".lock"]
    assert all(path.read_bytes() == data for path, data in before.items())


class Killed(BaseException):
    """A kill, as the code that it hits sees it: nothing more is done."""


@pytest.mark.parametrize("key", ["train.max_steps", "data.text"])
def test_a_kill_before_the_first_save_of_a_session_strands_no_run(
    run: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """config.yaml is ahead of the newest checkpoint then: a setting counts, a text is asked for."""

    def killed(_: Trainer) -> None:
        raise Killed

    moved = run.parent / "moved.txt"
    moved.write_bytes(text_file.read_bytes())
    flags = {key.replace(".", "__"): 9 if key == "train.max_steps" else str(moved)}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", killed)
        with pytest.raises(Killed):
            go_on(run, **flags)
    if key == "train.max_steps":
        assert go_on(run) == Exit.DONE
        assert load_last(run, ignore).progress.step == 9
        return
    with pytest.raises(Mistake, match=r"data\.text") as caught:
        go_on(run)
    assert "--data.text PATH" in caught.value.fix
    for place in (text_file, moved):  # either will do
        assert go_on(run, data__text=str(place)) == Exit.DONE


def test_settings_of_config_yaml_that_may_change_count_and_are_said(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(run, **{"train.max_steps": 8, "log.save_every": 2})
    assert go_on(run) == Exit.DONE
    assert load_last(run, ignore).progress.step == 8
    said = capsys.readouterr().err
    assert "config.yaml changes train.max_steps: 6 -> 8" in said
    assert "config.yaml changes log.save_every: 3 -> 2" in said


def test_a_run_that_shows_no_config_goes_on_and_says_so(
    run: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have been killed between its first checkpoint and its config.yaml."""
    (run / "config.yaml").unlink()
    assert go_on(run) == Exit.DONE
    said = capsys.readouterr().err
    assert f"there is no {run / 'config.yaml'}" in said
    assert f"the run's text: {text_file}" in said


@pytest.mark.parametrize("content", [b"", b"train: [", b"\xff", b"train: {seed: x}\n"])
def test_a_run_whose_config_is_garbled_is_refused(run: Path, content: bytes) -> None:
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(Mistake, match=r"config\.yaml") as caught:
        go_on(run)
    assert caught.value.exit_code == Exit.USAGE
    assert "remove it" in caught.value.fix


def test_evaluate_says_which_text_a_checkpoint_makes_it_read(
    run: Path, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(run)]) == Exit.DONE
    assert capsys.readouterr().err == f"the run's text: {text_file}\n"
    evaluated(run, text_file.rename(tmp_path / "moved.txt"))
    assert capsys.readouterr().err == ""
