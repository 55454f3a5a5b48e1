"""When a run is evaluated, and how long the rest of it takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.command.config_file import load_config
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.paths import CONFIGS
from gpt.training.time_left import TimeLeft, evaluations_left, is_due


def corpus_of(train: int, val: int = 100) -> Corpus:
    """A corpus of so many characters that takes no memory."""
    ids = np.broadcast_to(np.uint8(0), (train + val,))
    return Corpus("vast", CharTokenizer("ab"), ids, "", train)


def config_of(max_steps: int, eval_every: int, batch_size: int = 10) -> Config:
    sections = {
        "model": {"block_size": 10},
        "train": {"max_steps": max_steps, "batch_size": batch_size},
        "log": {"eval_every": eval_every},
    }
    return Config.model_validate(sections)


def due(config: Config, corpus: Corpus) -> list[int]:
    return [step for step in range(1, config.train.max_steps + 1) if is_due(step, config, corpus)]


# --- when --------------------------------------------------------------------------------------


def test_a_short_text_is_evaluated_after_its_1st_2nd_4th_and_8th_reading() -> None:
    """Else the best model of 3 kB, after 20 of tiny.yaml's steps, would come and go unseen."""
    config = load_config(CONFIGS / "tiny.yaml")
    assert due(config, corpus_of(2_700)) == [2, 4, 7, 14, 27, 54, 107, 214, 225, 450, 675, 900]


def test_a_text_that_is_not_read_again_so_soon_is_evaluated_as_ever() -> None:
    config = load_config(CONFIGS / "tiny.yaml")
    assert due(config, corpus_of(1_000_000)) == [225, 450, 675, 900]


@given(st.integers(12, 10**6), st.integers(1, 300), st.integers(1, 200), st.integers(1, 20))
def test_few_evaluations_are_added_and_all_are_counted(
    characters: int, max_steps: int, eval_every: int, batch_size: int
) -> None:
    config, corpus = config_of(max_steps, eval_every, batch_size), corpus_of(characters)
    steps = due(config, corpus)
    regular = [step for step in steps if step % eval_every == 0 or step == max_steps]
    added = set(steps) - set(regular)
    assert len(added) <= np.log2(eval_every) + 2
    assert all(step < eval_every for step in added)
    for step in range(max_steps + 1):
        left = evaluations_left(step, config, corpus)
        assert left == sum(other > step for other in steps), f"after step {step}"


# --- how long ----------------------------------------------------------------------------------


class Session:
    """What takes how long, by a clock of its own."""

    def __init__(self, config: Config, corpus: Corpus, step: int = 0):
        self.now = 50.0
        self.time_left = TimeLeft(config, corpus, step, lambda: self.now)

    def steps(self, seconds: float, count: int = 1) -> None:
        for _ in range(count):
            self.now += seconds
            self.time_left.stepped()

    def evaluation(self, seconds: float) -> None:
        self.time_left.evaluating()
        self.now += seconds
        self.time_left.evaluated()


@pytest.fixture
def session() -> Session:
    """1,000 steps with ten evaluations."""
    return Session(config_of(1000, 100), corpus_of(10**6))


def test_the_rest_takes_its_steps_and_its_evaluations(session: Session) -> None:
    session.evaluation(5)
    session.steps(0.5, 250)
    session.evaluation(4)
    assert session.time_left.seconds() == pytest.approx(750 * 0.5 + 8 * 4)


def test_an_evaluation_is_not_taken_for_slow_steps(session: Session) -> None:
    session.steps(1, 2)
    session.evaluation(60)
    session.steps(1)
    assert session.time_left.step_seconds == 1
    assert session.time_left.chars_per_second == 100


def test_before_step_1_it_is_unknown(session: Session) -> None:
    session.evaluation(5)
    assert session.time_left.seconds() is None
    assert session.time_left.chars_per_second == 0


def test_the_first_step_of_a_session_is_not_a_measure_of_the_others(session: Session) -> None:
    session.evaluation(0)
    session.steps(30)
    assert session.time_left.step_seconds == 30
    session.steps(1)
    assert session.time_left.seconds() == pytest.approx(998)


def test_it_follows_a_machine_that_becomes_busy(session: Session) -> None:
    session.evaluation(0)
    session.steps(1, 300)
    session.steps(3, 101)
    assert session.time_left.step_seconds == pytest.approx(3)


def test_it_runs_down_within_an_evaluation(session: Session) -> None:
    session.evaluation(10)
    session.steps(1, 100)
    session.time_left.evaluating()
    for passed in (0, 4, 10, 15):
        session.now = 50 + 10 + 100 + passed
        assert session.time_left.seconds() == pytest.approx(900 + 9 * 10 + max(0, 10 - passed))


def test_what_comes_once_is_expected_of_no_other_evaluation(session: Session) -> None:
    session.time_left.evaluating()
    session.now += 8
    session.time_left.leave_out(8)
    session.evaluation(2)
    assert session.time_left.evaluation == 2


def test_an_evaluation_that_was_not_made_yet_is_estimated_by_its_characters() -> None:
    session = Session(config_of(1000, 100), corpus_of(10**6, val=30_000), step=400)
    session.steps(1)
    assert session.time_left.seconds() == pytest.approx(599 + 6 * 30_000 / 3 / 100)
