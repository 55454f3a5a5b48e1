"""A character n-gram model: a baseline that a GPT must beat on the same split.

It is counted and not trained: interpolated Kneser-Ney smoothing with one discount per order (Chen &
Goodman 1999, "An empirical study of smoothing techniques", section 2.7). A character's probability
is its discounted share of the characters that followed the same history. The discounts' sum is
distributed by the model of the next lower order, whose history lacks the oldest character. Below
the highest order a character counts once for each different character before its n-gram.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_ORDER = 8  # that is tried: on 1 MB and on 5 MB of English the best is 6


@dataclass(frozen=True)
class Shares:
    """What n-grams of one length say of the next character, by their counts.

    Args:
        own: (G + 1,) of each n-gram: its discounted share after its history; the last, of one that
            was never seen: 0.
        rest: (H + 1,) of each history: the probability that the discounts leave to the next lower
            order; the last, of a history that was never seen: 1.
    """

    own: Floats
    rest: Floats

    @cached_property
    def sums(self) -> Floats:
        """(G + 1,) the shares of all n-grams before each."""
        return np.concatenate([[0], self.own[:-1].cumsum()])


class Table:
    """The different n-grams of one length that a text holds; an n-gram's number is its place here.

    Args:
        keys: (G,) sorted: the number of an n-gram's history, its first n - 1 characters, times
            `vocab_size`, plus its last character.
        histories: how many different histories there are.
    """

    def __init__(self, keys: Ids, histories: int, vocab_size: int):
        self.histories, self.vocab_size = histories, vocab_size
        self._ended = np.append(keys, -1)  # what is looked up may come after all keys
        self.keys = self._ended[:-1]

    def find(self, histories: Ids, characters: Ids) -> Ids:
        """The numbers of these n-grams; one that was never seen gets len(keys)."""
        wanted = histories * self.vocab_size + characters
        place = np.searchsorted(self.keys, wanted)
        return np.where(self._ended[place] == wanted, place, len(self.keys))

    def shares(self, count: Ids) -> Shares:
        """The discounted shares of the n-grams if they count `count` (G,) times."""
        history, counted = self.keys // self.vocab_size, count > 0
        once, twice = np.sum(count == 1), np.sum(count == 2)
        discount = once / (once + 2 * twice) if once and twice else 0.5
        total = np.bincount(history, weights=count, minlength=self.histories + 1)
        kinds = np.bincount(history[counted], minlength=self.histories + 1)
        known = np.maximum(total, 1)
        own = np.where(counted, count - discount, 0) / known[history]
        return Shares(np.append(own, 0), np.where(total > 0, discount * kinds / known, 1))


class NGrams:
    """The n-grams of a text, counted up to the length `order`; a model of that order, or a lower.

    Args:
        train: (M,) ids below `vocab_size`, whose n-grams are counted.
        order: characters in the longest n-gram, at least 1.
        between: called before n-grams of each length are counted; what it raises ends the counting.
    """

    def __init__(
        self,
        train: Ids,
        order: int,
        vocab_size: int,
        between: Callable[[], None] = lambda: None,
    ):
        self.order, self.vocab_size = order, vocab_size
        self.tables: list[Table] = []
        self._all: list[Shares] = []  # every n-gram counts
        self._kinds: list[Shares] = []  # one for each different character before it
        numbers, different = np.zeros(len(train) + 1, dtype=np.int64), 1  # of the empty n-gram
        for n in range(1, order + 1):
            between()
            last = train[n - 1 :]
            keys, first, after, count = np.unique(
                numbers[: len(last)] * vocab_size + last,
                return_index=True, return_inverse=True, return_counts=True,
            )  # fmt: skip
            if n > 1:
                kinds = np.bincount(numbers[first + 1], minlength=different)
                self._kinds.append(self.tables[-1].shares(kinds))
            self.tables.append(Table(keys, different, vocab_size))
            self._all.append(self.tables[-1].shares(count))
            numbers, different = after, len(keys)

    def _mixed(self, order: int) -> list[Shares]:
        """The shares that the model of `order` mixes, those of the shortest n-grams first."""
        return [*self._kinds[: order - 1], self._all[order - 1]]

    def probabilities(self, text: Ids, order: int | None = None) -> Floats:
        """The probability of each character of `text`, given the order - 1 characters before it.

        Args:
            text: (N,) ids below the vocabulary's size.
            order: at most that which was counted, and by default that.

        Returns:
            (N,) probabilities, none of them zero. After any history those of all sum to 1.
        """
        history = np.zeros(len(text), dtype=np.int64)  # the empty one
        chances = np.full(len(text), 1 / self.vocab_size)
        for table, shares in zip(self.tables, self._mixed(order or self.order), strict=False):
            found = table.find(history, text)
            chances = shares.own[found] + shares.rest[history] * chances
            history = np.concatenate([[len(table.keys)], found])[: len(text)]
        return chances

    def sample(self, rows: int, length: int, seed: int) -> Ids:
        """Texts (rows, length) that the model writes, a function of the arguments alone."""
        chances = np.random.Generator(np.random.Philox(seed)).random((length, rows))
        unknown = [np.full(rows, len(table.keys)) for table in self.tables[:-1]]
        histories = [np.zeros(rows, dtype=np.int64), *unknown]
        written = np.empty((rows, length), dtype=np.int64)
        for i in range(length):
            chosen = written[:, i] = self._next(histories, chances[i])
            pairs = zip(self.tables, histories[:-1], strict=False)
            histories[1:] = [table.find(history, chosen) for table, history in pairs]
        return written

    def _next(self, histories: list[Ids], chance: Floats) -> Ids:
        """The next character's ids (rows,), by one number in [0, 1) a row.

        The longest history has the first part of [0, 1), divided between the characters that
        followed it. The rest, stretched to [0, 1), belongs to the next shorter history.
        """
        chosen = np.full(len(chance), -1)
        for table, shares, history in zip(
            self.tables[::-1], self._mixed(self.order)[::-1], histories[::-1], strict=True
        ):
            first, after = (
                np.searchsorted(table.keys, h * self.vocab_size) for h in (history, history + 1)
            )
            own = 1 - shares.rest[history]
            place = np.searchsorted(shares.sums, shares.sums[first] + chance, side="right") - 1
            place = np.clip(place, first, after - 1)  # against rounding
            hit = (chosen < 0) & (chance < own)
            chosen[hit] = table.keys[place[hit]] % self.vocab_size
            chance = np.where(hit, chance, (chance - own) / shares.rest[history])
        evenly = np.minimum(chance * self.vocab_size, self.vocab_size - 1).astype(np.int64)
        return np.where(chosen < 0, evenly, chosen)


def loss(probabilities: Floats) -> float:
    """Mean loss in nats per character of all characters but the first, as for a GPT."""
    return float(-np.log(probabilities[1:]).mean())


def counted_ngrams(
    train: Ids, vocab_size: int, between: Callable[[], None] = lambda: None
) -> NGrams:
    """The n-grams of `train`, of the order that suits it best; `between` as for `NGrams`."""
    order = best_order(train, vocab_size, MOST_ORDER, between)
    return NGrams(train, order, vocab_size, between)


def best_order(
    train: Ids, vocab_size: int, most: int, between: Callable[[], None] = lambda: None
) -> int:
    """The order, at most `most`, with the least loss on the last tenth of `train`."""
    at = len(train) * 9 // 10
    ngrams = NGrams(train[:at], most, vocab_size, between)
    orders = range(1, most + 1)
    return min(orders, key=lambda n: loss(ngrams.probabilities(train[at:], n)))
