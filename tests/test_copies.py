"""Copied runs and n-grams against Python's `in`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.judge.copies import Copies


def ids(text: str) -> np.ndarray:
    return np.array([ord(c) - ord("a") for c in text], dtype=np.int64)


def table(rows: list[str]) -> np.ndarray:
    return np.stack([ids(row) for row in rows])


def longest_by_hand(rows: list[str], source: str) -> int:
    runs = {row[i:j] for row in rows for i in range(len(row)) for j in range(i, len(row) + 1)}
    return max((len(run) for run in runs if run in source), default=0)


def share_by_hand(rows: list[str], source: str, n: int) -> float | None:
    grams = [row[i : i + n] for row in rows for i in range(len(row) - n + 1)]
    return sum(gram in source for gram in grams) / len(grams) if grams else None


ROWS = st.integers(1, 12).flatmap(
    lambda length: st.lists(
        st.text("abcd", min_size=length, max_size=length), min_size=1, max_size=4
    )
)


@given(ROWS, st.text("abc", max_size=60), st.integers(1, 13))
def test_runs_and_shares_are_those_found_by_search(rows: list[str], source: str, n: int) -> None:
    copies = Copies(table(rows), ids(source))
    run = "".join(chr(i + ord("a")) for i in copies.longest())
    assert len(run) == longest_by_hand(rows, source)
    assert run in source
    assert any(run in row for row in rows)
    assert copies.share(n) == share_by_hand(rows, source, n)
    assert Copies(table(rows), ids(source)).share(n) == copies.share(n), "in either order"


def test_a_long_copy_is_found_whole() -> None:
    source = np.random.default_rng(0).integers(0, 60, 20_000)
    text = np.random.default_rng(1).integers(0, 60, (4, 1000))
    text[2, 100:731] = source[5000:5631]
    copies = Copies(text, source)
    assert copies.longest().tolist() == source[5000:5631].tolist()
    assert copies.share(20) == pytest.approx((631 - 19) / (4 * 981))


def test_no_run_goes_from_one_row_into_the_next() -> None:
    copies = Copies(table(["xxabc", "defxx"]), ids("abcdef"))
    assert len(copies.longest()) == 3
