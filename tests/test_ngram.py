"""The counted model against counting by hand, and against what probabilities are."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.judge.ngram import NGrams, best_order, loss


def ids(text: str) -> np.ndarray:
    return np.array([ord(c) - ord("a") for c in text], dtype=np.int64)


def by_hand(train: str, history: str, character: str, order: int, vocab_size: int) -> Fraction:
    """Kneser-Ney as the paper writes it, with sets and exact fractions."""

    def counts(n: int) -> Counter[str]:
        grams = [train[i : i + n] for i in range(len(train) - n + 1)]
        if n == order:
            return Counter(grams)
        longer = {train[i : i + n + 1] for i in range(len(train) - n)}
        return Counter(gram[1:] for gram in longer)

    def chance(n: int, history: str) -> Fraction:
        if n == 0:
            return Fraction(1, vocab_size)
        lower = chance(n - 1, history[1:])
        if len(history) < n - 1:
            return chance(n - 1, history)
        count = counts(n)
        once, twice = (sum(value == k for value in count.values()) for k in (1, 2))
        discount = Fraction(once, once + 2 * twice) if once and twice else Fraction(1, 2)
        after = {gram[-1]: value for gram, value in count.items() if gram[:-1] == history}
        total = sum(after.values())
        if not total:
            return lower
        own = max(after.get(character, 0) - discount, Fraction(0))
        return (own + discount * len(after) * lower) / total

    return chance(order, history[len(history) - order + 1 :] if order > 1 else "")


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_model_is_the_paper_s(order: int) -> None:
    train, text, vocab_size = "abeacadabeaabacab", "abeacabbadcaab", 6
    found = NGrams(ids(train), order, vocab_size).probabilities(ids(text))
    for i in range(order - 1, len(text)):
        expected = by_hand(train, text[:i], text[i], order, vocab_size)
        assert found[i] == pytest.approx(float(expected), rel=1e-12), (i, text[i])


def test_one_number_by_hand() -> None:
    """In ababb "ab" stands twice, "ba" and "bb" once: the discount is 2 / (2 + 2) = 1/2.

    After a comes b, twice: 3/4 is its own, and the discount's 1/4 goes to the shorter model. There
    b came after two different characters, a after one: its discount is 1 / (1 + 2) = 1/3, and b has
    (2 - 1/3) / 3 = 5/9 and half of what two discounts leave, (1/3 * 2 / 3) / 2 = 1/9.
    """
    found = NGrams(ids("ababb"), order=2, vocab_size=2).probabilities(ids("ab"))
    assert found[1] == pytest.approx(3 / 4 + 1 / 4 * 2 / 3)


@given(st.text("abc", min_size=2, max_size=40), st.text("abcd", max_size=6), st.integers(1, 5))
def test_the_chances_of_all_characters_sum_to_one(train: str, history: str, order: int) -> None:
    ngrams = NGrams(ids(train), order, vocab_size=4)
    chances = [ngrams.probabilities(ids(history + c))[-1] for c in "abcd"]
    assert min(chances) > 0
    assert sum(chances) == pytest.approx(1)


def test_order_one_is_the_entropy_of_the_frequencies() -> None:
    text = "abac" * 5000
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    found = loss(NGrams(ids(text), order=1, vocab_size=3).probabilities(ids(text)))
    assert found == pytest.approx(entropy, abs=1e-3)


def test_the_order_is_as_long_as_the_text_s_memory() -> None:
    """Each character is told by the two before it, and no less."""
    rng = np.random.default_rng(1)
    chain = [0, 1]
    for _ in range(5000):
        rule = (chain[-1] + chain[-2]) % 3
        chain.append(rule if rng.random() < 0.9 else int(rng.integers(3)))
    assert best_order(np.array(chain), vocab_size=3, most=5) == 3


def test_each_lower_order_is_the_model_that_is_counted_for_it() -> None:
    train, text = ids("abeacadabeaabacab" * 3), ids("abeacabbadcaab")
    ngrams = NGrams(train, 4, vocab_size=6)
    for order in (1, 2, 3, 4):
        alone = NGrams(train, order, vocab_size=6)
        assert ngrams.probabilities(text, order).tolist() == alone.probabilities(text).tolist()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_what_is_written_has_the_model_s_probabilities(order: int) -> None:
    """The character after each written history, counted, against the probabilities."""
    vocab_size, rows = 4, 40_000  # d stands nowhere in the text
    ngrams = NGrams(ids("abacabbcaab"), order, vocab_size)
    written = ngrams.sample(rows, length=3, seed=1)
    assert written.shape == (rows, 3)
    for length in (0, 1, 2):
        for history in {tuple(row[:length]) for row in written.tolist()}:
            same = written[(written[:, :length] == history).all(axis=1), length]
            chances = [ngrams.probabilities(np.array([*history, c]))[-1] for c in range(vocab_size)]
            found = np.bincount(same, minlength=vocab_size) / len(same)
            assert np.abs(found - chances).max() < 4 * 0.5 / math.sqrt(len(same)), history


def test_a_seed_is_a_text() -> None:
    ngrams = NGrams(ids("abacabbcaab"), 3, vocab_size=4)
    assert ngrams.sample(2, 50, seed=1).tolist() == ngrams.sample(2, 50, seed=1).tolist()
    assert ngrams.sample(2, 50, seed=1).tolist() != ngrams.sample(2, 50, seed=2).tolist()


@pytest.mark.parametrize("train", ["", "a", "ab"])
def test_a_text_that_is_shorter_than_an_n_gram(train: str) -> None:
    ngrams = NGrams(ids(train), 4, vocab_size=3)
    chances = [ngrams.probabilities(ids("ab" + c))[-1] for c in "abc"]
    assert sum(chances) == pytest.approx(1)
    assert ngrams.sample(2, 5, seed=0).max() < 3
