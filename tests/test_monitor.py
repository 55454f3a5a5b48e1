"""What is written while training: metrics.jsonl and TensorBoard's events, read back."""

import math
from functools import partial
from pathlib import Path

import pytest
from logged_runs import rows, trained

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.model import GPT
from gpt.storage.run_directory import checkpoints_of
from gpt.training.monitor import Monitor
from gpt.training.run import resume


def test_a_row_for_each_logged_step(toy_config: Config, tmp_path: Path) -> None:
    found = rows(trained(toy_config, tmp_path / "run"))
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    keys = {
        "step",
        "elapsed_seconds",
        "train_loss",
        "learning_rate",
        "grad_norm",
        "chars_per_second",
    }
    for row in found:
        assert keys <= row.keys()
        assert ("val_loss" in row) is (row["step"] in (3, 6))
        if "val_loss" in row:
            assert row["val_bits_per_char"] == pytest.approx(row["val_loss"] / math.log(2))
    elapsed = [row["elapsed_seconds"] for row in found]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0


def test_a_resume_drops_what_was_logged_after_the_checkpoint(
    toy_config: Config, tmp_path: Path
) -> None:
    run = trained(toy_config, tmp_path / "run", save_every=3)
    before = rows(run)
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(lines + b'{"step": 7, "train')  # torn by a kill
    for path in checkpoints_of(run):
        if path.name == "step-000006":
            path.rename(tmp_path / "lost")
    assert resume(run, lambda config: config) == 0
    after = rows(run)
    assert [row["step"] for row in after] == [1, 2, 3, 4, 5, 6]
    assert after[:3] == before[:3]
    assert [row["train_loss"] for row in after] == [row["train_loss"] for row in before]
    assert after[3]["elapsed_seconds"] >= before[2]["elapsed_seconds"]


def test_without_tensorboard_no_events_are_written(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run")
    assert not list(run.glob("events*"))
    assert {path.name for path in run.iterdir()} - {".lock"} == {
        "config.yaml", "metrics.jsonl", "checkpoints", "best", "last",
    }  # fmt: skip


def test_looking_inside_can_be_ended_between_its_pieces(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path
) -> None:
    """Each character of the sample, the roles, the muting, and the picture of each layer."""
    config = overridden(toy_config, {"log.tensorboard": True, "log.sample_chars": 5})
    model, calls = GPT(config.model, len(toy_corpus.tokenizer)), list[int]()
    pieces = 5 + 2 + config.model.n_layer

    def end_at(number: int) -> None:
        calls.append(1)
        if len(calls) == number:
            raise KeyError

    with Monitor(tmp_path, config, toy_corpus.tokenizer, 0) as monitor:
        for number in range(1, pieces + 1):
            calls.clear()
            with pytest.raises(KeyError):
                monitor.look_inside(model, toy_corpus.val_ids, 1, partial(end_at, number))
        calls.clear()
        monitor.look_inside(model, toy_corpus.val_ids, 1, partial(end_at, 0))
    assert len(calls) == pieces


def test_it_says_the_loss_in_both_units(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").touch()
    with Monitor(tmp_path, toy_config, CharTokenizer("ab"), 0) as monitor:
        monitor.log({"step": 5, "train_loss": 1.0, "val_loss": math.log(2)})
    out, err = capsys.readouterr()
    assert out == ""
    assert "step      5  val loss 0.6931 nats = 1.0000 bits per character" in err
