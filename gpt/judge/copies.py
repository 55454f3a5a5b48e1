"""What a text has word for word from another: its longest copied run, its share of copied n-grams.

Exact, without hashes and without a suffix array: the n-grams that stand in both texts are numbered,
equal ones alike. A longer n-gram is a pair of two shorter ones, so that lengths double at each
step. The work for a source of N characters is a few passes over it, most of them over few places.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shared:
    """The n-grams of one length that stand in both texts.

    Args:
        length: their n.
        text, source: (N - n + 1,) the number of the n-gram that starts at each place; -1 if it
            stands in one of both alone.
    """

    length: int
    text: Ids
    source: Ids

    def __bool__(self) -> bool:
        return bool((self.text >= 0).any())

    def then(self, other: "Shared") -> "Shared":
        """Those n-grams that are one of these and, directly after it, one of `other`."""
        most = int(other.text.max(initial=0)) + 1
        pairs = [
            _pairs(here, there[self.length :], most)
            for here, there in ((self.text, other.text), (self.source, other.source))
        ]
        return Shared(self.length + other.length, *_numbered(*pairs))


def _pairs(here: Ids, there: Ids, most: int) -> Ids:
    """One number for each pair, where both are numbers; else -1."""
    here = here[: len(there)]
    return np.where((here >= 0) & (there >= 0), here * most + there, -1)


def _numbered(text: Ids, source: Ids) -> tuple[Ids, Ids]:
    """Both with numbers from 0 on, equal ones alike; those that one of both lacks become -1."""
    known = np.unique(text[text >= 0])  # few: the text is short, the source is long
    in_source = _places(known, source)
    lacks = np.ones(len(known) + 1, dtype=bool)
    lacks[in_source] = False  # the last entry stands for -1
    in_text = _places(known, text)
    return np.where(lacks[in_text], -1, in_text), in_source


def _places(known: Ids, values: Ids) -> Ids:
    """The place in `known`, which is sorted, of each of `values`; -1 where it is not there."""
    found = np.full(len(values), -1)
    (real,) = np.nonzero(values >= 0)
    place = np.searchsorted(known, values[real])
    found[real] = np.where(np.append(known, -1)[place] == values[real], place, -1)
    return found


class Copies:
    """What `text` has from `source`, word for word.

    Args:
        text: (rows, T) ids; no n-gram goes from one row into the next.
        source: (N,) ids.
    """

    def __init__(self, text: Ids, source: Ids):
        self.rows, self.columns = text.shape
        ended = np.pad(text, ((0, 0), (0, 1)), constant_values=-1)  # a border after each row
        self._text = ended.ravel()
        self._powers = [Shared(1, *_numbered(self._text, source))]  # of lengths 1, 2, 4, ...

    def longest(self) -> Ids:
        """(L,) the longest run of the text that stands in the source; the first such."""
        while last := self._powers[-1]:
            self._powers.append(last.then(last))
        best = self._powers[-1]  # of a length at which nothing is shared
        for power in self._powers[-2::-1]:  # the length's binary digits, from the highest on
            longer = best.then(power) if best else power
            best = longer or best
        start = int(np.argmax(best.text >= 0))
        return self._text[start : start + best.length] if best else self._text[:0]

    def share(self, n: int) -> float | None:
        """The share of the text's n-grams that stand in the source; None if it has none."""
        if self.columns < n:
            return None
        while len(self._powers) < n.bit_length():
            self._powers.append(self._powers[-1].then(self._powers[-1]))
        digits = [power for k, power in enumerate(self._powers) if n >> k & 1]
        shared = reduce(Shared.then, digits)
        return int((shared.text >= 0).sum()) / (self.rows * (self.columns - n + 1))
