"""How many steps end a training in time, and what a run is that was counted anew."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.command.config_file import load_config, overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.optim import lr_factor
from gpt.storage.find import load_last
from gpt.training.pace import (
    TOLERANCE,
    Pace,
    in_words,
    regular_evaluations,
    training_seconds,
    with_steps,
)
from gpt.training.plan import Plan
from gpt.training.run import resume, train_new
from gpt.training.speed import Speed
from gpt.training.time_left import TimeLeft


def schedule(max_steps: int, eval_every: int) -> Config:
    keys = {"train": {"max_steps": max_steps}, "log": {"eval_every": eval_every}}
    return Config.model_validate(keys)


def text_of(length: int) -> Corpus:
    """A corpus of so many characters that takes no memory; half of it is kept for validation."""
    ids = np.broadcast_to(np.uint8(0), (length,))
    return Corpus("text", CharTokenizer("ab"), ids, "", length // 2)


def test_seconds_are_those_of_steps_evaluations_and_counting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = overridden(schedule(100, 30), {"log.tensorboard": False})
    speed, corpus = Speed(character=0.001, update=0.5, evaluated=0.01), text_of(10**6)
    step = config.train.batch_size * config.model.block_size * 0.001 + 0.5
    each = 500_000 * 0.01
    monkeypatch.setattr("gpt.training.pace.counting_seconds", lambda *_: 7)
    assert training_seconds(config, speed, corpus) == pytest.approx(100 * step + 4 * each + 7)
    assert training_seconds(config, speed, corpus, step=90) == pytest.approx(10 * step + each + 7)
    owed = training_seconds(config, speed, corpus, step=90, owed=True)
    assert owed == pytest.approx(10 * step + 2 * each + 7)


@given(st.integers(1, 10**6), st.floats(0, 1), st.integers(1, 10))
def test_the_plateau_ends_at_its_step(steps: int, share: float, evaluated: int) -> None:
    plateau = min(steps - 1, int(share * steps))
    config = with_steps(Config(), steps, plateau, evaluated)
    assert config.train.max_steps == steps
    assert lr_factor(max(plateau - 1, 0), config.train) == 1
    if plateau + 1 < steps:
        assert lr_factor(plateau + 1, config.train) < 1
    assert regular_evaluations(config) <= evaluated


@given(st.floats(0.01, 5), st.floats(0.01, 5), st.integers(20, 10**4), st.floats(0, 3))
def test_steps_counted_anew_end_in_time(
    expected: float, true: float, steps: int, each: float
) -> None:
    """Whether each step takes less or more than expected, evaluations included."""
    plateau = steps // 12 + 1
    config = with_steps(Config(), steps, plateau, evaluated=4)
    deadline = steps * expected + 4 * each
    kept: list[Config] = []
    pace = Pace(deadline, plateau, each, kept.append)
    now = 0.0
    time_left = TimeLeft(config, text_of(10**10), 0, lambda: now)
    for _ in range(plateau):
        now += true
        time_left.stepped()
    new = pace.recounted(config, time_left, now)
    assert kept == ([new] if new != config else [])
    end = new.train.max_steps * true + regular_evaluations(new) * each
    possible = (plateau + 1) * true + 4 * each <= deadline
    if possible:
        assert end <= deadline * (1 + TOLERANCE) + 1e-6
        assert end >= deadline * (1 - TOLERANCE) - true - each
    for step in range(plateau):
        assert lr_factor(step, new.train) == lr_factor(step, config.train)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.26, "0.3 s"), (12, "12 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"), (7300, "2 h 1 min")],
)
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize("faster", [0.5, 3])
def test_a_run_counted_anew_is_that_of_its_config(
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    faster: float,
) -> None:
    """Its config.yaml, run from the start or resumed, gives the same weights bit for bit."""
    keys = {"run.dir": str(tmp_path / "run"), "log.tensorboard": False}
    config = with_steps(overridden(toy_config, keys), 24, plateau=3, evaluated=2)
    monkeypatch.setattr("gpt.training.trainer.process_seconds", lambda: 1.0)
    steps = math.floor(24 * faster)

    def planned(base: Config, corpus: Corpus) -> Plan:
        return Plan(base, {}, Speed(1e-9, 1e-9, 1e-9), deadline=100)

    def recounted(self: Pace, config: Config, time_left: TimeLeft, now: float) -> Config:
        new = with_steps(config, steps, self.step, 2)
        self.keep(new)
        return new

    monkeypatch.setattr(Pace, "recounted", recounted)
    train_new(config, "toy", planned=planned, json_result=True)
    assert json.loads(capsys.readouterr().out)["ended_by"] == "max_steps"
    written = load_config(tmp_path / "run" / "config.yaml")
    assert written.train.max_steps == steps
    last = load_last(tmp_path / "run", print)
    assert (last.progress.step, last.config.train) == (steps, written.train)

    train_new(overridden(written, {"run.dir": str(tmp_path / "again")}), "toy")
    again = load_last(tmp_path / "again", print)
    for name, tensor in last.weights.items():
        assert torch.equal(tensor, again.weights[name]), name


def test_a_kill_after_the_steps_are_counted_anew_loses_nothing(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """config.yaml is written before the next step: what was said of the run stays true."""
    keys = {"run.dir": str(tmp_path / "run"), "log.tensorboard": False}
    config = with_steps(overridden(toy_config, keys), 24, plateau=3, evaluated=1)

    def planned(base: Config, corpus: Corpus) -> Plan:
        return Plan(base, {}, Speed(1e-9, 1e-9, 1e-9), deadline=100)

    def killed(self: Pace, config: Config, time_left: TimeLeft, now: float) -> Config:
        self.keep(with_steps(config, 30, self.step, 1))
        raise KeyboardInterrupt

    monkeypatch.setattr(Pace, "recounted", killed)
    with pytest.raises(KeyboardInterrupt):
        train_new(config, "toy", planned=planned)
    resume(tmp_path / "run", lambda config: config)
    resumed = load_last(tmp_path / "run", print)
    assert resumed.progress.step == 30

    whole = overridden(resumed.config, {"run.dir": str(tmp_path / "whole")})
    train_new(whole, "toy")
    for name, tensor in load_last(tmp_path / "whole", print).weights.items():
        assert torch.equal(tensor, resumed.weights[name]), name
