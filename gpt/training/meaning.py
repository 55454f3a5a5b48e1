"""What a validation loss means: beside knowing nothing, counting, and the training loss."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt.data.corpus import Corpus
from gpt.judge.ngram import counted_ngrams, loss
from gpt.memory import machine_memory
from gpt.storage.checkpoint import Progress

# Counting n-grams is the baseline that a model must beat. It may take a share of a session's time
# and of the machine's memory that nobody misses, else it is left to scripts/evaluate.py. On a
# core, 1 MB of English takes 2 seconds and 110 MB, 5 MB take 15 seconds; tiny.yaml trains for 90.
SHARE_OF_TIME, MOST_SECONDS, SHARE_OF_MEMORY = 0.03, 20, 1 / 16
SECONDS, BYTES = 3e-6, 120  # a character

RISE = 1.02  # times the best val loss: more than chance moves it from one evaluation to the next


@dataclass(frozen=True)
class Counted:
    """What counting reaches on the validation split."""

    order: int
    loss: float  # nats a character

    def beside(self, val_loss: float) -> str:
        """`val_loss` [nats a character] in words."""
        is_better = "better" if val_loss < self.loss else "worse"
        return f"{is_better} than counted {self.order}-grams, {self.loss:.4f}"


def count(corpus: Corpus, seconds: float, between: Callable[[], None]) -> Counted | None:
    """The n-grams' loss on the validation split; None where it would cost too much.

    Args:
        seconds: what the whole session takes.
        between: called between pieces; what it raises ends the counting.
    """
    if not counting_seconds(corpus, seconds):
        return None
    with suppress(MemoryError):
        train, val = (ids.astype(np.int64) for ids in (corpus.train_ids, corpus.val_ids))
        ngrams = counted_ngrams(train, len(corpus.tokenizer), between)
        return Counted(ngrams.order, loss(ngrams.probabilities(val)))
    return None


def counting_seconds(corpus: Corpus, seconds: float) -> float:
    """What counting takes in a session of `seconds`; 0 where it would cost too much."""
    size = len(corpus.ids)
    most = min(SHARE_OF_TIME * seconds, MOST_SECONDS)
    fits = size * SECONDS <= most and size * BYTES <= SHARE_OF_MEMORY * machine_memory()
    return size * SECONDS if fits else 0.0


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its losses [nats a character] and what the model wrote."""

    step: int
    val: float
    train: float  # mean of the steps before it
    sample: str = ""


def evaluation_of(row: dict[str, Any], sample: str = "") -> Evaluation:
    """That of a row of metrics.jsonl with a val_loss.

    Before step 1 no text is known to the model: its train loss is taken to be its val loss.
    """
    return Evaluation(row["step"], row["val_loss"], row.get("train_loss", row["val_loss"]), sample)


class Course:
    """How the losses of a run go: its best evaluation, its last, whether it learns by heart.

    Args:
        rows: of metrics.jsonl, from earlier sessions.
        progress: where they left the run.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], progress: Progress):
        self.best: Evaluation | None = None
        self.last: Evaluation | None = None
        self.is_told = False  # that the model learns by heart
        if progress.best_val_loss is not None:  # else they are another text's
            for row in rows:
                if row["step"] >= progress.best_step and isinstance(row.get("val_loss"), float):
                    self.add(evaluation_of(row))

    def add(self, now: Evaluation) -> bool:
        """Note an evaluation; whether it is the run's first that shows learning by heart."""
        self.last = now
        if self.best is None or now.val < self.best.val:
            self.best = now
        is_news = self.is_by_heart and not self.is_told
        self.is_told |= is_news
        return is_news

    @property
    def is_by_heart(self) -> bool:
        """Whether the val loss has risen since the best evaluation, and the train loss fallen."""
        best, last = self.best, self.last
        if best is None or last is None:
            return False
        return last.val > RISE * best.val and last.train < best.train


def meaning(step: int, val_loss: float, vocab_size: int, counted: Counted | None) -> str:
    """A val loss after `step` in words; empty where there is nothing to compare it with."""
    if step == 0:
        return f"all {vocab_size} characters alike would be {math.log(vocab_size):.4f}"
    return counted.beside(val_loss) if counted else ""
