"""A character n-gram model, counted and not trained: what a GPT must beat on the same split.

Interpolated Kneser-Ney with one discount an order (Chen & Goodman 1999, "An empirical study of
smoothing techniques", section 2.7): a character's share among those that followed the same
history, less a discount, whose sum goes to the model of the history without its oldest character.
Shorter histories do not count how often a character came, but after how many different characters.
"""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def probabilities(train: Ids, text: Ids, order: int, vocab_size: int) -> Floats:
    """How probable each character of `text` (N,) is after those before it, at most order - 1.

    Args:
        train: (M,) ids below `vocab_size` that are counted.
        order: characters in the longest n-gram, at least 1.

    Returns:
        (N,) probabilities, none of them zero. After any history those of all characters sum to 1.
    """
    both = np.concatenate([train, [vocab_size], text])  # no n-gram with the border was counted
    grams = _grams(both, order, vocab_size + 1)
    chances = np.full(len(text), 1 / vocab_size)
    for n in range(1, order + 1):
        counted = np.arange(n - 1, len(train))  # ends of the n-grams that are counted: all of them
        if n < order:  # or each once for every different character before it
            _, first = np.unique(grams[n + 1][n : len(train)], return_index=True)
            counted = first + n
        ends = np.arange(len(train) + 1, len(both))
        chances = _interpolated(grams[n], grams[n - 1], counted, ends, chances)
    return chances


def _grams(both: Ids, order: int, symbols: int) -> list[Ids]:
    """For n from 0 to `order`: at each place the number of the n-gram that ends there.

    Equal n-grams have equal numbers; those of the first n - 1 places mean nothing.
    """
    grams = [np.zeros(len(both), dtype=np.int64)]
    for _ in range(order):
        history = np.concatenate([[0], grams[-1][:-1]])
        grams.append(np.unique(history * symbols + both, return_inverse=True)[1])
    return grams


def _interpolated(grams: Ids, shorter: Ids, counted: Ids, ends: Ids, chances: Floats) -> Floats:
    """The chances at `ends`, given those of the model one character shorter."""
    history = np.concatenate([[0], shorter[:-1]])  # the history's number at each place
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
    """Mean loss in nats of every character of `text` but the first, as the GPT's is counted."""
    return float(-np.log(probabilities(train, text, order, vocab_size)[1:]).mean())


def best_order(train: Ids, vocab_size: int, most: int) -> int:
    """The order, up to `most`, that foretells the last tenth of `train` best from the rest."""
    at = len(train) * 9 // 10
    orders = range(1, most + 1)
    return min(orders, key=lambda order: loss(train[:at], train[at:], order, vocab_size))
