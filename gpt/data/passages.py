"""Which passages of a text occur earlier in it too, from a sample of bounded size.

A validation split is no test where the training split holds its passages too. A passage is the
LENGTH characters after a mark, such as a line end. Each has a hash; the passages with the smallest
hashes are the sample, so it holds either all occurrences of a passage or none, unless
one passage fills it (`_thin_out`).
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

LENGTH = 200  # characters; proverbs and refrains are shorter, licences and quoted mails longer
SAMPLE = 4096  # passages, at most twice as many; 0.5 % of a tenth of them is about two
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2^64
INVERSE = np.uint64(pow(int(FACTOR), -1, 1 << 64))

Places = npt.NDArray[np.int64]
Ids = npt.NDArray[np.unsignedinteger]


class Passages:
    """The sample of the passages of a text that comes piece by piece.

    Args:
        mark: id of the character after which a passage starts.
    """

    def __init__(self, mark: int):
        self.mark = mark
        self.bound = np.uint64((1 << 64) - 1)  # the largest hash in the sample
        self.hashes = np.zeros(0, dtype=np.uint64)
        self.places = np.zeros(0, dtype=np.int64)
        self._rest: Ids = np.zeros(0, dtype=np.uint8)  # the end of the pieces so far
        self._start = 0  # its place in the text
        self._powers = np.ones((2, 0), dtype=np.uint64)

    def watched(self, pieces: Iterable[Ids]) -> Iterator[Ids]:
        """`pieces` of ids, unchanged; each is looked at as it passes."""
        for piece in pieces:
            self._look_at(piece)
            yield piece

    def found(self) -> Places:
        """(M, 2): place of each passage of the sample, and the first place that holds the same."""
        order = np.argsort(self.places)
        places, hashes = self.places[order], self.hashes[order]
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        return np.stack([places, places[first[which]]], axis=1)

    def _look_at(self, piece: Ids) -> None:
        ids = np.concatenate([self._rest.astype(piece.dtype), piece])
        starts = np.flatnonzero(ids[:-LENGTH] == self.mark) + 1
        if len(starts):
            hashes = self._hashes(ids, starts)
            small = hashes <= self.bound
            self.hashes = np.concatenate([self.hashes, hashes[small]])
            self.places = np.concatenate([self.places, starts[small] + self._start])
            while len(self.hashes) > 2 * SAMPLE:
                self._thin_out()
        looked_at = max(len(ids) - LENGTH, 0)
        self._rest, self._start = ids[looked_at:].copy(), self._start + looked_at

    def _hashes(self, ids: Ids, starts: Places) -> npt.NDArray[np.uint64]:
        """Of each passage: the sum of id x FACTOR^place within it, mixed. Modulo 2^64."""
        if self._powers.shape[1] <= len(ids):
            factors = np.repeat(np.array([[FACTOR], [INVERSE]]), len(ids) + 1, axis=1)
            factors[:, 0] = 1
            self._powers = np.cumprod(factors, axis=1)
        powers, inverse_powers = self._powers
        sums = np.zeros(len(ids) + 1, dtype=np.uint64)
        np.cumsum(ids * powers[: len(ids)], out=sums[1:])
        hashes = (sums[starts + LENGTH] - sums[starts]) * inverse_powers[starts]
        for _ in range(2):  # the product carries low bits up, the shift high bits down
            hashes = (hashes ^ (hashes >> np.uint64(32))) * FACTOR
        return hashes ^ (hashes >> np.uint64(32))

    def _thin_out(self) -> None:
        """Keep the smaller hashes.

        If that drops none, since one passage fills the sample: every second place, and each
        passage's first.
        """
        middle = len(self.hashes) // 2
        self.bound = np.partition(self.hashes, middle)[middle]
        small = self.hashes <= self.bound
        if small.all():
            small[1::2] = False
            small[np.unique(self.hashes, return_index=True)[1]] = True
        self.hashes, self.places = self.hashes[small], self.places[small]


def mark_of(alphabet: str, counts: list[int]) -> int:
    """The id after which passages start: of the line end or the space where they are frequent
    enough, else of the most frequent character."""
    for character in "\n ":
        place = alphabet.find(character)
        if place >= 0 and counts[place] * LENGTH >= sum(counts):
            return place
    return int(np.argmax(counts)) if counts else 0


def share_seen_before(passages: Places, cut: int) -> float:
    """Share of the passages from place `cut` on that occur before it too."""
    later = passages[passages[:, 0] >= cut]
    return float((later[:, 1] < cut).mean()) if len(later) else 0.0
