"""What is written while training: metrics.jsonl and TensorBoard's events, read back."""

import io
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import Mock, call

import pytest
import torch
from logged_runs import rows, trained

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.model import GPT
from gpt.storage.checkpoint import Progress
from gpt.storage.run_directory import checkpoints_of
from gpt.training.meaning import Counted
from gpt.training.monitor import Monitor
from gpt.training.run import resume


def test_a_row_for_each_logged_step(toy_config: Config, tmp_path: Path) -> None:
    first, *found = rows(trained(toy_config, tmp_path / "run"))
    assert first.keys() == {"step", "elapsed_seconds", "val_loss", "val_bits_per_char"}
    assert (first["step"], [row["step"] for row in found]) == (0, [1, 2, 3, 4, 5, 6])
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
    assert [row["step"] for row in after] == [0, 1, 2, 3, 4, 5, 6]
    assert after[:4] == before[:4]
    assert [row.get("train_loss") for row in after] == [row.get("train_loss") for row in before]
    assert after[4]["elapsed_seconds"] >= before[3]["elapsed_seconds"]


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

    with Monitor(tmp_path, config, toy_corpus, Progress()) as monitor:
        for number in range(1, pieces + 1):
            calls.clear()
            with pytest.raises(KeyError):
                monitor.look_inside(model, 1, partial(end_at, number))
        calls.clear()
        monitor.look_inside(model, 1, partial(end_at, 0))
    assert len(calls) == pieces


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self) -> bool:
        return True


@dataclass
class Clock:
    """A clock that stands still until it is moved on."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


LOSS = torch.tensor(1.5)  # of a step

# --- at an evaluation --------------------------------------------------------------------------


def said(
    monitor: Monitor, capsys: pytest.CaptureFixture[str], step: int, train: float, val: float
) -> list[str]:
    """The lines of an evaluation."""
    capsys.readouterr()
    monitor.log({"step": step, "train_loss": train, "val_loss": val})
    return capsys.readouterr().err.splitlines()


def test_an_evaluation_is_a_line_with_both_losses_what_they_mean_and_a_sample(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        monitor.counted, monitor.sample = Counted(6, 0.5), "Ay me!\nSoft\t\x1b[2J" + 60 * "x"
        line, sample = said(monitor, capsys, 5, 1.0, math.log(2))
    assert line == (
        "step      5  train 1.0000  val 0.6931 nats = 1.0000 bits: "
        "worse than counted 6-grams, 0.5000"
    )
    assert sample.strip() == "Ay me!↵Soft⇥▯[2J" + 44 * "x", "60 characters, none of control"


def test_the_loss_before_step_1_stands_beside_knowing_nothing(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        monitor.log({"step": 0, "val_loss": 3.6})
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("step      0  val 3.6000 nats = 5.1937 bits: ")
    assert line.endswith("all 36 characters alike would be 3.5835")


def test_learning_by_heart_is_said_once(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also over sessions: what the rows of an earlier one show has been said there."""
    line = "from step 20 on it learns by heart; the best model, step 20, is kept"
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        assert line not in said(monitor, capsys, 20, 2.5, 2.5)
        assert line not in said(monitor, capsys, 40, 2.0, 2.54), "too little to be sure"
        assert line in said(monitor, capsys, 80, 1.0, 2.6)
        assert line not in said(monitor, capsys, 160, 0.5, 3.0)
    later = Progress(step=160, val_loss=3.0, best_val_loss=2.5, best_step=20)
    with Monitor(tmp_path, toy_config, toy_corpus, later) as monitor:
        assert line not in said(monitor, capsys, 320, 0.1, 4.0)
        assert monitor.course.is_by_heart


def test_n_grams_are_counted_once_after_step_0(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the session takes; and what counting takes is not expected of other evaluations."""
    clock, calls = Clock(), list[float]()

    def count(corpus: Corpus, seconds: float, between: Callable[[], None]) -> Counted:
        calls.append(seconds)
        clock.now += 7
        return Counted(6, 1.5)

    monkeypatch.setattr("gpt.training.monitor.count", count)
    model = GPT(toy_config.model, len(toy_corpus.tokenizer))
    with Monitor(tmp_path, toy_config, toy_corpus, Progress(), clock) as monitor:
        for step in range(3):
            clock.now += 2
            if step:
                monitor.advance(LOSS)
            monitor.evaluating()
            clock.now += 1
            monitor.look_inside(model, step, lambda: None)
            monitor.log({"step": step, "val_loss": 2.0})
            assert monitor.time_left.evaluation == pytest.approx(1)
    assert len(calls) == 1
    passed, step_1, due = 2 + 1 + 2 + 1, 2.0, 2
    assert calls == [pytest.approx(passed + 5 * step_1 + due * 1)]


# --- between evaluations -----------------------------------------------------------------------


def test_the_bar_shows_loss_speed_and_time_left_from_the_first_step_on(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    clock, progress = Clock(), Progress(step=2, val_loss=3.0)
    with Monitor(tmp_path, toy_config, toy_corpus, progress, clock) as monitor:
        assert "| 2/6 [" in str(monitor.bar)
        assert str(monitor.bar).endswith("<?] ")
        clock.now += 8
        monitor.advance(LOSS)
        monitor.evaluating()
        clock.now += 60
        monitor.log({"step": 3, "train_loss": 1.25, "val_loss": 2.25})
        assert "| 3/6 [" in str(monitor.bar)
        # three steps of 8 seconds, 32 characters each, and the last evaluation
        assert str(monitor.bar).endswith("<01:24] loss 1.250  val 2.250  4 chars/s")


def test_the_first_step_has_a_loss(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar and the lines do not wait for the first row."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        monitor.advance(LOSS)
        assert "] loss 1.500  " in str(monitor.bar)


def test_the_bar_goes_on_within_an_evaluation(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is drawn again, ten times a second at most, and the time left runs down."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    clock = Clock()
    with Monitor(tmp_path, toy_config, toy_corpus, Progress(), clock) as monitor:
        monitor.advance(LOSS)
        monitor.time_left.evaluation = 100.0
        monitor.evaluating()
        lefts = []
        for _ in range(3):
            before = len(terminal.getvalue())
            monitor.evaluating()
            assert len(terminal.getvalue()) == before, "drawn again in no time"
            clock.now += 10
            monitor.evaluating()
            drawn = terminal.getvalue()[before:]
            assert drawn.endswith("evaluating")
            lefts.append(drawn.rpartition("<")[2][:5])
    assert lefts == ["04:50", "04:40", "04:30"]  # this evaluation and the two to come


def test_without_a_terminal_there_is_a_line_every_half_minute(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, lines = Clock(), list[str]()
    config = overridden(toy_config, {"train.max_steps": 1000, "log.eval_every": 1000})
    with Monitor(tmp_path, config, toy_corpus, Progress(val_loss=3.0), clock) as monitor:
        monitor.time_left.evaluation = 0.0
        for _ in range(7):
            clock.now += 10
            monitor.advance(LOSS)
            lines += capsys.readouterr().err.splitlines()
        monitor.evaluating()
        clock.now += 25
        monitor.evaluating()
        lines += capsys.readouterr().err.splitlines()
    assert lines == [
        "step 3 of 1,000  loss 1.500  3 chars/s  2:46:10 left",
        "step 6 of 1,000  loss 1.500  3 chars/s  2:45:40 left",
        "step 7 of 1,000  loss 1.500  evaluating  2:45:30 left",
    ]


def test_on_a_terminal_there_are_no_such_lines(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    clock = Clock()
    with Monitor(tmp_path, toy_config, toy_corpus, Progress(), clock) as monitor:
        clock.now += 100
        monitor.advance(LOSS)
    assert " of " not in terminal.getvalue()


def test_a_logged_row_does_not_draw_the_bar(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps do, ten times a second at most: a slow terminal must not slow the training."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        before = terminal.getvalue()
        monitor.log({"step": 1, "train_loss": 1.0})
        assert terminal.getvalue() == before


def test_a_line_is_said_on_a_row_of_its_own(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is wiped from the row before, and drawn again below."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        before = terminal.getvalue()
        monitor.say("a warning")
        said = terminal.getvalue().removeprefix(before)
    wiped, _, below = said.partition("a warning\n")
    assert wiped.strip("\r ") == "" != wiped
    assert "0/6" in below


def test_tensorboard_gets_all_that_is_logged_and_is_closed(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config.model_copy(
        update={"log": toy_config.log.model_copy(update={"tensorboard": True})}
    )
    board, go_on = Mock(), Mock()
    monkeypatch.setattr(Monitor, "_open_board", lambda self, step: board)
    model = GPT(config.model, len(toy_corpus.tokenizer))
    with Monitor(tmp_path, config, toy_corpus, Progress()) as monitor:
        monitor.log({"step": 1, "train_loss": 1.0})
        monitor.look_inside(model, 3, go_on)
        monitor.sync()
        monitor.finish(model, 6)
        sample = board.look_inside.call_args.args[1]
    assert len(sample) == config.log.sample_chars
    assert board.mock_calls == [
        call.log({"step": 1, "train_loss": 1.0}),
        call.look_inside(model, sample, toy_corpus.val_ids, 3, go_on),
        call.flush(),
        call.embeddings(model, 6),
        call.close(),
    ]
