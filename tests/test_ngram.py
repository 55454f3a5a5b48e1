"""The counted model against counting by hand, and against what probabilities are."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngram import best_order, loss, probabilities


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
    train, text, vocab_size = "abracadabraabacab", "abracabbadcaab", 6
    found = probabilities(ids(train), ids(text), order, vocab_size)
    for i in range(order - 1, len(text)):
        expected = by_hand(train, text[:i], text[i], order, vocab_size)
        assert found[i] == pytest.approx(float(expected), rel=1e-12), (i, text[i])


def test_one_number_by_hand() -> None:
    """In ababb "ab" stands twice, "ba" and "bb" once: the discount is 2 / (2 + 2) = 1/2.

    After a comes b, twice: 3/4 is its own, and the discount's 1/4 goes to the shorter model. There
    b came after two different characters, a after one: its discount is 1 / (1 + 2) = 1/3, and b has
    (2 - 1/3) / 3 = 5/9 and half of what two discounts leave, (1/3 * 2 / 3) / 2 = 1/9.
    """
    found = probabilities(ids("ababb"), ids("ab"), order=2, vocab_size=2)
    assert found[1] == pytest.approx(3 / 4 + 1 / 4 * 2 / 3)


@given(st.text("abc", min_size=2, max_size=40), st.text("abcd", max_size=6), st.integers(1, 5))
def test_the_chances_of_all_characters_sum_to_one(train: str, history: str, order: int) -> None:
    chances = [probabilities(ids(train), ids(history + c), order, 4)[-1] for c in "abcd"]
    assert min(chances) > 0
    assert sum(chances) == pytest.approx(1)


def test_order_one_is_the_entropy_of_the_frequencies() -> None:
    text = "abac" * 5000
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert loss(ids(text), ids(text), order=1, vocab_size=3) == pytest.approx(entropy, abs=1e-3)


def test_the_order_is_as_long_as_the_text_s_memory() -> None:
    """Each character is told by the two before it, and no less."""
    rng = np.random.default_rng(1)
    chain = [0, 1]
    for _ in range(5000):
        rule = (chain[-1] + chain[-2]) % 3
        chain.append(rule if rng.random() < 0.9 else int(rng.integers(3)))
    assert best_order(np.array(chain), vocab_size=3, most=5) == 3
