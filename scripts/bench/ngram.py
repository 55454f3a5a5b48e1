"""A character n-gram model: a baseline that a GPT must beat on the same split.

It is counted and not trained: interpolated Kneser-Ney smoothing with one discount per order (Chen &
Goodman 1999, "An empirical study of smoothing techniques", section 2.7). A character's probability
is its discounted share of the characters that followed the same history. The discounts' sum is
distributed by the model of the next lower order, whose history lacks the oldest character. Below
the highest order a character counts once for each different character before its n-gram.
"""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def probabilities(train: Ids, text: Ids, order: int, vocab_size: int) -> Floats:
    """The probability of each character of `text`, given the order - 1 characters before it.

    Args:
        train: (M,) ids below `vocab_size`, whose n-grams are counted.
        text: (N,) ids below `vocab_size`.
        order: characters in the longest n-gram, at least 1.

    Returns:
        (N,) probabilities, none of them zero. After any history those of all characters sum to 1.
    """
    both = np.concatenate([train, [vocab_size], text])  # `train` has no n-gram with the border
    grams = _grams(both, order, vocab_size + 1)
    chances = np.full(len(text), 1 / vocab_size)
    for n in range(1, order + 1):
        counted = np.arange(n - 1, len(train))  # where the counted n-grams end: everywhere
        if n < order:  # or once for each different character before the n-gram
            _, first = np.unique(grams[n + 1][n : len(train)], return_index=True)
            counted = first + n
        ends = np.arange(len(train) + 1, len(both))
        chances = _interpolated(grams[n], grams[n - 1], counted, ends, chances)
    return chances


def _grams(both: Ids, order: int, symbols: int) -> list[Ids]:
    """For n from 0 to `order`: the number of the n-gram that ends at each position.

    Equal n-grams have equal numbers. The numbers at the first n - 1 positions mean nothing.
    """
    grams = [np.zeros(len(both), dtype=np.int64)]
    for _ in range(order):
        history = np.concatenate([[0], grams[-1][:-1]])
        grams.append(np.unique(history * symbols + both, return_inverse=True)[1])
    return grams


def _interpolated(grams: Ids, shorter: Ids, counted: Ids, ends: Ids, chances: Floats) -> Floats:
    """The probabilities at `ends`, given those of the next lower order, `chances`."""
    history = np.concatenate([[0], shorter[:-1]])  # the history's number at each position
    count = np.bincount(grams[counted], minlength=grams.max() + 1)
    seen, first = np.unique(grams[counted], return_index=True)
    histories = history[counted[first]]  # of each different n-gram that is counted
    size = history.max() + 1
    total = np.bincount(history[counted], minlength=size)
    kinds = np.bincount(histories, minlength=size)  # different characters after a history
    once, twice = np.sum(count[seen] == 1), np.sum(count[seen] == 2)
    discount = once / (once + 2 * twice) if once and twice else 0.5
    here, after = grams[ends], history[ends]
    known = np.maximum(total[after], 1)
    mixed = (np.maximum(count[here] - discount, 0) + discount * kinds[after] * chances) / known
    return np.where(total[after] > 0, mixed, chances)


def loss(train: Ids, text: Ids, order: int, vocab_size: int) -> float:
    """Mean loss in nats per character of all characters of `text` but the first, as for a GPT."""
    return float(-np.log(probabilities(train, text, order, vocab_size)[1:]).mean())


def best_order(train: Ids, vocab_size: int, most: int) -> int:
    """The order, at most `most`, with the least loss on the last tenth of `train`."""
    at = len(train) * 9 // 10
    orders = range(1, most + 1)
    return min(orders, key=lambda order: loss(train[:at], train[at:], order, vocab_size))
