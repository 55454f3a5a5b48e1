"""The corpus that a model is trained on: its ids, its two splits, its batches. No torch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from gpt import paths
from gpt.config import Config
from gpt.data.named import named_text
from gpt.data.prepare import prepare, prepared_passages, prepared_survey
from gpt.data.report import report_of
from gpt.data.shares import Source, say_several, split_sizes
from gpt.data.sources import abbreviated, own_texts
from gpt.data.survey import require_fit, survey_text
from gpt.data.tokenizer import CharTokenizer

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Corpus:
    """A prepared text. `ids` (N,) is all of it; the validation split is its end."""

    name: str
    tokenizer: CharTokenizer
    ids: Ids
    sha256: str  # of the text, UTF-8, line ends as \n; of several files, see gpt/data/shares.py
    train_length: int
    report: tuple[str, ...] = ()  # lines: the size of the text, and what is odd about it

    @cached_property
    def train_ids(self) -> Ids:
        return self.ids[: self.train_length]

    @cached_property
    def val_ids(self) -> Ids:
        return self.ids[self.train_length :]

    def batch(
        self, step: int, seed: int, batch_size: int, block_size: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """tokens and targets, each (batch_size, block_size), of training step `step`.

        A function of its arguments alone, so that a resumed run continues with the same data.
        Each epoch cuts the training split into windows at another offset and visits them in
        another order: a character comes again only after (nearly) all others have come.
        """
        windows = np.arange(step * batch_size, (step + 1) * batch_size)
        starts = self._starts(windows, seed, block_size)
        rows = self.train_ids[starts[:, None] + np.arange(block_size + 1)].astype(np.int64)
        return rows[:, :-1], rows[:, 1:]

    def windows_per_epoch(self, block_size: int) -> int:
        return max(1, (self.train_length - 1 - block_size) // block_size)

    def _starts(
        self, windows: npt.NDArray[np.int64], seed: int, block_size: int
    ) -> npt.NDArray[np.int64]:
        """Where in the text each of `windows` starts; windows are counted from step 0 on."""
        last = len(self.train_ids) - 1 - block_size  # start of the last whole window
        per_epoch = self.windows_per_epoch(block_size)
        slack = last - (per_epoch - 1) * block_size
        epochs, places = np.divmod(windows, per_epoch)
        starts = np.empty_like(windows)
        for epoch in np.unique(epochs):
            offset, order = _shuffled(seed, int(epoch), per_epoch, slack)
            chosen = order[places[epochs == epoch]].astype(np.int64)
            starts[epochs == epoch] = offset + chosen * block_size
        return starts


@lru_cache(maxsize=1)
def _shuffled(seed: int, epoch: int, count: int, slack: int) -> tuple[int, Ids]:
    """An epoch's offset in [0, slack] and the order of its `count` windows."""
    chance = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    offset = int(chance.integers(slack + 1))
    order = np.arange(count, dtype=np.min_scalar_type(count))  # narrow: a large text has millions
    chance.shuffle(order)
    return offset, order


def load_corpus(config: Config, say: Callable[[str], None]) -> Corpus:
    """The corpus that `config.data` names, prepared first where that has not been done.

    Args:
        say: is called with a line for each thing that takes time.

    Raises:
        Mistake: with exit code 3 if the text is missing, cannot be read or is unfit to train on.
    """
    data = config.data
    texts = own_texts(data.text, say=say) if data.text else [named_text(data.corpus, say)]
    name = abbreviated([path.name for path in texts]) if data.text else data.corpus
    source = Source(texts, data.val_fraction)
    folder = paths.DATA / "prepared" / source.sha256[:16]
    known = prepared_survey(folder, source.sha256)
    survey = known or survey_text(texts)
    require_fit(survey, name, data.val_fraction, config.model.block_size)
    say_several(source, say)
    if not known:
        prepare(source, survey, folder, say)
    tokenizer = CharTokenizer(survey.alphabet)
    ids = np.memmap(folder / "ids.bin", dtype=tokenizer.dtype, mode="r")
    train_length, _ = split_sizes(survey.lengths, data.val_fraction)
    report = report_of(source, survey, ids[train_length:], prepared_passages(folder))
    report = (f"{name}: {report[0]}", *report[1:])
    return Corpus(name, tokenizer, ids, source.sha256, train_length, report)
