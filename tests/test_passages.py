"""Which passages come twice, found in pieces and in a sample of bounded size."""

import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data import passages
from gpt.data.passages import LENGTH, Passages, Places, mark_of, share_seen_before

LINE_END = 0


def lines(count: int, seed: int, length: int = 40) -> npt.NDArray[np.uint8]:
    """Lines of random characters; none comes twice."""
    ids = np.random.default_rng(seed).integers(1, 60, count * length).astype(np.uint8)
    ids[::length] = LINE_END
    return ids


def found_in(*pieces: npt.NDArray[np.uint8], mark: int = LINE_END) -> Places:
    looking = Passages(mark)
    passed = list(looking.watched(pieces))
    assert all(a is b for a, b in zip(passed, pieces, strict=True)), "the ids pass unchanged"
    return looking.found()


def test_a_passage_that_comes_twice_is_found_at_its_first_place() -> None:
    once, twice = lines(50, seed=0), lines(30, seed=1)
    places = found_in(np.concatenate([twice, once, twice, lines(9, seed=2)]))
    whole = len(twice) - LENGTH + 1  # passages that start later differ in what follows
    second = len(twice) + len(once)
    for place, first in places.tolist():
        is_copy = second <= place <= second + whole
        assert first == (place - second if is_copy else place)
    assert share_seen_before(places, second) == 26 / 34
    assert share_seen_before(places, 0) == 0.0, "nothing comes before the start"


@given(st.integers(1, 5), st.lists(st.integers(0, 4000), max_size=6))
def test_the_pieces_change_nothing(seed: int, cuts: list[int]) -> None:
    text = np.concatenate([lines(40, seed), lines(20, seed=9), lines(40, seed)])
    assert np.array_equal(found_in(*np.split(text, sorted(cuts))), found_in(text))


def test_every_passage_is_looked_at_where_there_are_few() -> None:
    text = lines(100, seed=0)
    starts = [start for start in range(1, len(text) - LENGTH + 1) if text[start - 1] == LINE_END]
    assert found_in(text)[:, 0].tolist() == starts


@pytest.mark.parametrize("copies", [2, 400])
def test_the_sample_is_bounded_and_tells_the_share(
    monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """Of a text of which a half comes again, and of one that is the same lines all through."""
    monkeypatch.setattr(passages, "SAMPLE", 256)
    text = lines(4000 if copies == 2 else 10, seed=0)
    new = lines(4000, seed=1)
    places = found_in(*[text] * (copies - 1), text, new)
    assert 128 <= len(places) <= 512
    seen = share_seen_before(places, len(text) * (copies - 1))
    assert seen == pytest.approx(0.5 if copies == 2 else 10 / 4010, abs=0.1)


def test_a_single_passage_that_fills_the_text_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages, "SAMPLE", 64)
    places = found_in(np.zeros(5000, dtype=np.uint8))
    assert len(places) <= 128
    assert places[:, 1].tolist() == [1] * len(places)
    assert share_seen_before(places, 4000) == 1.0


def test_of_a_passage_that_fills_the_sample_the_first_places_stay() -> None:
    looking = Passages(LINE_END)
    looking.hashes = np.array([9, 1, 9, 2, 9, 9, 9, 9, 2, 9], dtype=np.uint64)
    looking.places = np.arange(10)
    looking._thin_out()
    assert looking.places.tolist() == [0, 1, 2, 3, 4, 6, 8]
    assert looking.found()[:, 1].tolist() == [0, 1, 0, 3, 0, 0, 3]


def test_ids_of_two_bytes_and_a_text_shorter_than_a_passage() -> None:
    ids = np.concatenate([lines(9, seed=3).astype(np.uint16) * 999] * 2)
    assert share_seen_before(found_in(ids), len(ids) // 2) > 0.5
    assert found_in(np.zeros(LENGTH, dtype=np.uint8)).shape == (0, 2)
    assert share_seen_before(np.zeros((0, 2), dtype=np.int64), 0) == 0.0


def test_passages_start_after_lines_or_words_or_what_is_frequent() -> None:
    assert mark_of("\n a", [50, 100, 9000]) == 0
    assert mark_of("\n a", [1, 100, 9000]) == 1
    assert mark_of("\n a", [1, 1, 9000]) == 2
    assert mark_of("ab", [1, 2]) == 1


def test_lines_differ() -> None:
    """What the tests stand on: `lines` gives no passage twice."""
    text, chance = lines(500, seed=4), random.Random(0)
    assert len({tuple(text[i : i + 20]) for i in chance.sample(range(19000), 999)}) == 999
