"""What a validation loss means beside counting, and beside the training loss."""

import math
from typing import Any

import numpy as np
import pytest

from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.judge.ngram import counted_ngrams, loss
from gpt.storage.checkpoint import Progress
from gpt.training import meaning
from gpt.training.meaning import Counted, Course, count, evaluation_of

DAY = 86_400.0


def ignore() -> None:
    """What `between` is where nothing need be done."""


def vast(characters: int) -> Corpus:
    """A corpus of so many characters that takes no memory."""
    ids = np.broadcast_to(np.uint8(0), (characters,))
    return Corpus("vast", CharTokenizer("ab"), ids, "", characters * 9 // 10)


# --- beside counting ---------------------------------------------------------------------------


def test_counting_is_the_judges(toy_corpus: Corpus) -> None:
    counted = count(toy_corpus, DAY, ignore)
    train, val = (ids.astype(np.int64) for ids in (toy_corpus.train_ids, toy_corpus.val_ids))
    ngrams = counted_ngrams(train, len(toy_corpus.tokenizer))
    assert counted == Counted(ngrams.order, loss(ngrams.probabilities(val)))
    assert counted.loss < 0.1, "the text repeats itself"


def test_counting_takes_a_small_share_of_the_session_or_is_left_out(toy_corpus: Corpus) -> None:
    takes = len(toy_corpus.ids) * meaning.SECONDS
    assert count(toy_corpus, takes / 0.029, ignore)
    assert count(toy_corpus, takes / 0.031, ignore) is None


@pytest.mark.parametrize(("characters", "memory"), [(7_000_000, 2**40), (2_000_000, 2**31)])
def test_counting_is_left_out_where_a_long_session_would_wait_or_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, characters: int, memory: int
) -> None:
    monkeypatch.setattr(meaning, "machine_memory", lambda: memory)
    monkeypatch.setattr(meaning, "counted_ngrams", None)  # not even begun
    assert count(vast(characters), DAY, ignore) is None


def test_without_memory_the_training_goes_on(
    toy_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(meaning, "counted_ngrams", full)
    assert count(toy_corpus, DAY, ignore) is None


def test_counting_can_be_ended_between_its_pieces(toy_corpus: Corpus) -> None:
    def end() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        count(toy_corpus, DAY, end)


def test_a_loss_stands_beside_what_counting_reaches() -> None:
    counted = Counted(6, 1.5594)
    assert counted.beside(1.62) == "worse than counted 6-grams, 1.5594"
    assert counted.beside(1.43) == "better than counted 6-grams, 1.5594"
    assert meaning.meaning(100, 1.62, 65, counted) == counted.beside(1.62)
    assert meaning.meaning(100, 1.62, 65, None) == ""
    assert (
        meaning.meaning(0, 4.2, 65, counted)
        == f"all 65 characters alike would be {math.log(65):.4f}"
    )


# --- by heart ----------------------------------------------------------------------------------


def course_of(*losses: tuple[float, float]) -> Course:
    """A run's course, from (train, val) at steps 1, 2, ..."""
    course = Course([], Progress())
    for step, (train, val) in enumerate(losses, 1):
        course.add(evaluation_of({"step": step, "train_loss": train, "val_loss": val}))
    return course


@pytest.mark.parametrize(
    ("losses", "is_by_heart"),
    [
        ([(3.0, 3.1), (2.0, 2.5), (1.0, 2.6)], True),
        ([(3.0, 3.1), (2.0, 2.5), (1.0, 2.52)], False),  # no more than chance
        ([(3.0, 3.1), (2.0, 2.5), (2.1, 2.6)], False),  # both rise: it diverges
        ([(3.0, 3.1), (2.0, 2.5), (1.0, 2.6), (0.9, 2.4)], False),  # it has come down again
    ],
)
def test_by_heart_is_a_val_loss_that_rises_while_the_train_loss_falls(
    losses: list[tuple[float, float]], is_by_heart: bool
) -> None:
    assert course_of(*losses).is_by_heart == is_by_heart


def test_a_fine_tuning_that_gets_worse_from_the_start_on() -> None:
    rows = [{"step": 0, "val_loss": 2.0}, {"step": 9, "train_loss": 1.5, "val_loss": 2.5}]
    course = Course(rows, Progress(step=9, best_val_loss=2.0))
    assert course.is_by_heart
    assert course.best
    assert course.best.step == 0


def test_the_losses_of_another_text_do_not_count() -> None:
    rows = [
        {"step": 1, "train_loss": 1.0, "val_loss": 1.0},
        {"step": 2, "train_loss": 0.5, "val_loss": "torn"},
    ]
    assert Course(rows, Progress(step=2)).best is None
    known = Course(rows, Progress(step=1, best_val_loss=1.0, best_step=1))
    assert known.best
    assert known.best.step == 1
