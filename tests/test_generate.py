"""The sampler against brute force, and the writing loop against the model without a cache."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from attention_models import write_on
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.config import ModelConfig
from gpt.generation.generate import _chances, generate, sample_next
from gpt.model import GPT

V = 7
EVEN = (np.arange(20_000) + 0.5) / 20_000  # evenly spread chances


def shares(logits: Sequence[float], **how: Any) -> npt.NDArray[np.float64]:
    """How often each character is chosen, over chances that are evenly spread."""
    rows = np.tile(np.array(logits, np.float32), (len(EVEN), 1))
    return np.bincount(sample_next(rows, EVEN, **how), minlength=len(logits)) / len(EVEN)


def sample_one(logits: Sequence[float], chance: float, **how: Any) -> int:
    (chosen,) = sample_next(np.array([logits], np.float32), np.array([chance]), **how)
    return int(chosen)


logits_lists = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=2, max_size=9)


# --- sample_next -------------------------------------------------------------------------------


@settings(max_examples=50)
@given(logits_lists, st.sampled_from([0.3, 1.0, 2.5]))
def test_each_character_is_chosen_as_often_as_its_probability(
    logits: list[float], temperature: float
) -> None:
    weights = np.exp(np.array(logits) / temperature)
    got = shares(logits, temperature=temperature)
    np.testing.assert_allclose(got, weights / weights.sum(), atol=2e-4)


@settings(max_examples=100)
@given(logits_lists, st.integers(0, 12), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_top_k_and_top_p_are_the_brute_force_ones(
    logits: list[float], top_k: int, top_p: float
) -> None:
    weights = np.exp(logits)
    probs = (weights / weights.sum()).tolist()
    kept: list[int] = []
    for i in sorted(range(len(probs)), key=lambda i: -probs[i]):  # ties: the first stays first
        together = sum(probs[j] for j in kept)
        if kept and (together >= top_p - 1e-9 or (top_k and len(kept) >= top_k)):
            break
        if abs(together - top_p) < 1e-6 and kept:
            return  # on the edge rounding decides; not what is tested here
        kept.append(i)
    total = sum(probs[i] for i in kept)
    expected = [probs[i] / total if i in kept else 0.0 for i in range(len(probs))]
    got = shares(logits, top_k=top_k, top_p=top_p)
    np.testing.assert_allclose(got, expected, atol=2e-4)


@pytest.mark.parametrize("n", range(2, 10))
def test_of_n_equals_a_top_p_of_j_nths_keeps_j(n: int) -> None:
    for j in range(1, n + 1):
        kept = np.count_nonzero(shares([0.5] * n, top_p=j / n))
        assert kept == j, f"top_p {j}/{n} keeps {kept} characters"


@settings(max_examples=50)
@given(logits_lists, st.floats(0, 1, exclude_max=True))
def test_temperature_0_takes_the_likeliest(logits: list[float], chance: float) -> None:
    assert sample_one(logits, chance, temperature=0) == np.argmax(logits)


@pytest.mark.parametrize("temperature", [1e-2, 1e-30, 1e-45, 1e-300])
def test_a_temperature_near_0_is_nearly_0(temperature: float) -> None:
    got = shares([3.0, -50.0, 4.0, 3.0], temperature=temperature)
    assert got.tolist() == [0, 0, 1, 0]


def test_the_highest_chance_never_chooses_what_was_left_out() -> None:
    logits, highest = [1.0, 2.0, 1.0, -1e9], np.nextafter(1.0, 0)
    for how in ({"top_k": 2}, {"top_p": 0.5}, {}):
        assert sample_one(logits, highest, **how) != 3, how


def test_the_lowest_chance_never_chooses_what_was_left_out() -> None:
    for how in ({"top_k": 2}, {"top_p": 0.99}, {}):
        assert sample_one([-1e9, 1.0, 2.0], 0.0, **how) == 1, how


def test_each_row_has_its_own_chance() -> None:
    chances = np.array([0.1, 0.3, 0.9])
    assert sample_next(np.zeros((3, 4), np.float32), chances).tolist() == [0, 1, 3]


# --- generate ----------------------------------------------------------------------------------


def written(model: Any, prompt: list[int], count: int, **how: Any) -> list[list[int]]:
    """`count` characters after `prompt`, a list for each sample."""
    steps = islice(generate(model, np.array(prompt, dtype=np.uint8), **how), count)
    return np.stack(list(steps), axis=1).tolist()


def made(seed: int = 0, **keys: Any) -> GPT:
    torch.manual_seed(seed)
    config = {"block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16, **keys}
    model = GPT(ModelConfig(**config), V).eval()
    if config["n_embd"]:
        model.lm_head.weight.data.mul_(3)  # choices that depend on what was read
    return model


@pytest.mark.parametrize("block_size", [1, 4])
def test_the_right_answer_is_written(block_size: int) -> None:
    """By a table that always knows: after 3 comes 4, after the last character the first."""
    model = made(n_embd=0, n_layer=0, positions="none", norm="none", block_size=block_size)
    model.token_embedding.weight.data = 100 * torch.eye(V).roll(1, dims=1)
    got = written(model, [2, 3], 9, num_samples=2)
    assert got == [[4, 5, 6, 0, 1, 2, 3, 4, 5]] * 2


@pytest.mark.parametrize("seed", [0, 5])
def test_the_chances_of_a_sample_are_those_of_its_seed_and_number(seed: int) -> None:
    got = np.stack(list(islice(_chances(seed, 3), 600)), axis=1)  # more than is drawn ahead
    for i, row in enumerate(got):
        expected = np.random.Generator(np.random.Philox(key=[seed, i])).random(600)
        np.testing.assert_array_equal(row, expected, f"sample {i} of seed {seed}")


@pytest.mark.parametrize("seed", [0, 5])
def test_generate_samples_by_the_chances_of_its_seed(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    seen: list[list[float]] = []

    def noted(logits: Any, chance: npt.NDArray[np.float64], *how: Any) -> Any:
        seen.append(chance.tolist())
        return sample_next(logits, chance, *how)

    monkeypatch.setattr("gpt.generation.generate.sample_next", noted)
    written(made(), [1], 5, num_samples=2, seed=seed)
    expected = [chance.tolist() for chance in islice(_chances(seed, 2), 5)]
    assert seen == expected, "not the chances of this seed"


KINDS = {
    "learned": {},
    "rotary": {"positions": "rotary"},
    "no layers": {"n_layer": 0},
    "odd block": {"block_size": 5},
    "block of one": {"block_size": 1},
    "block of two": {"block_size": 2},
}


@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("length", [1, 5, 20])
def test_the_cache_changes_no_character(keys: dict[str, Any], length: int) -> None:
    model, prompt = made(**keys), [i % V for i in range(length)]
    got = written(model, prompt, 40, num_samples=2, seed=3)
    assert got == [write_on(model, prompt, 40, seed=3, row=row) for row in (0, 1)]
    assert len(set(got[0])) > 2  # it says something


def test_one_sample_is_the_same_row_of_a_batch() -> None:
    model = made()
    three = written(model, [1, 2], 30, num_samples=3, seed=5)
    assert three[:1] == written(model, [1, 2], 30, num_samples=1, seed=5)
    assert three[:2] == written(model, [1, 2], 30, num_samples=2, seed=5)
    assert len({tuple(row) for row in three}) == 3


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    model = made()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = written(model, [1], 300, seed=5)  # longer than what is drawn ahead
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert written(model, [1], 300, seed=5) == first
    assert written(model, [1], 300, seed=6) != first
    assert first[0][:44] != first[0][256:]  # the chances do not begin again


def test_chances_are_as_likely_as_the_model_says() -> None:
    """Chi-square: 5,000 characters of a table without memory against its probabilities."""
    model = made(n_layer=0, positions="none")
    model.token_embedding.weight.data[:] = model.token_embedding.weight.data[0]
    probs = model(torch.zeros(1, 1, dtype=torch.long))[0, 0].softmax(-1)
    (row,) = written(model, [0], 5_000, seed=11)
    expected = probs.detach() * len(row)
    counts = torch.bincount(torch.tensor(row), minlength=V)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 22.5  # 6 degrees of freedom: passed by all but one seed in a thousand


def test_top_p_alone_leaves_the_least_probable_where_it_is_needed() -> None:
    assert sample_next(np.zeros((1, 4)), np.array([0.99]), top_p=0.999).tolist() == [3]
