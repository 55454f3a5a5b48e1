"""The exact loss against a loop over characters."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import evaluate
from gpt.config import ModelConfig
from gpt.evaluate import bits, exact_loss, windows
from gpt.model import GPT

V, BLOCK = 5, 6


def made(**keys: Any) -> GPT:
    torch.manual_seed(0)
    config = {"block_size": BLOCK, "n_layer": 1, "n_head": 2, "n_embd": 8, **keys}
    return GPT(ModelConfig(**config), V)


def some_ids(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, V, length).astype(np.uint8)


def naive_loss(model: GPT, ids: np.ndarray) -> float:
    """One character at a time: it sees the characters of its own window before it."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for i in range(1, len(ids)):
            start = (i - 1) // BLOCK * BLOCK
            seen = torch.tensor([ids[start:i].tolist()])
            total -= float(model(seen)[0, -1].double().log_softmax(-1)[int(ids[i])])
    return total / (len(ids) - 1)


@pytest.mark.parametrize(
    "length", [2, 3, BLOCK, BLOCK + 1, BLOCK + 2, 4 * BLOCK, 4 * BLOCK + 1, 50]
)
def test_it_is_the_mean_surprise_of_every_character(length: int) -> None:
    model, ids = made(dropout=0.5), some_ids(length)
    assert exact_loss(model, ids) == pytest.approx(naive_loss(model, ids), abs=1e-6)


def test_it_can_be_ended_before_each_forward_pass() -> None:
    model, ids, passes = made(), some_ids(4 * BLOCK + 3), list[int]()
    model.register_forward_pre_hook(lambda *_: passes.append(1))

    def third_time() -> None:
        if len(passes) == 2:
            raise KeyError

    exact_loss(model, ids, BLOCK)
    assert len(passes) == 5
    passes.clear()
    with pytest.raises(KeyError):
        exact_loss(model, ids, BLOCK, third_time)
    assert len(passes) == 2
    assert model.training, "the mode is that from before"


@settings(max_examples=40)
@given(st.integers(2, 90), st.integers(1, 12), st.integers(1, 200))
def test_windows_cover_the_text_once(length: int, block_size: int, batch_chars: int) -> None:
    ids = np.arange(length, dtype=np.uint8)
    pieces = list(windows(ids, block_size, batch_chars))
    for tokens, targets in pieces:
        assert tokens.shape[1] <= block_size
        assert tokens.numel() <= max(batch_chars, block_size)
        assert torch.equal(targets, tokens + 1)  # each target is the next character
    assert torch.cat([targets.flatten() for _, targets in pieces]).tolist() == [*range(1, length)]


def test_it_does_not_depend_on_how_much_goes_through_at_once() -> None:
    model, ids = made(), some_ids(100)
    whole = exact_loss(model, ids)
    for batch_chars in (1, BLOCK, 3 * BLOCK, 10**6):
        assert exact_loss(model, ids, batch_chars) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_no_trace(training: bool) -> None:
    model, ids = made(dropout=0.5).train(training), some_ids(50)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = exact_loss(model, ids)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert exact_loss(model, ids) == first


def test_training_mode_comes_back_after_an_error() -> None:
    model = made().train()
    with pytest.raises(IndexError):
        exact_loss(model, np.full(9, V, dtype=np.uint8))  # no such character
    assert model.training


def test_a_model_that_knows_nothing_loses_ln_v() -> None:
    assert exact_loss(made(zero_init=True, bias=False), some_ids(50)) == pytest.approx(math.log(V))
    assert bits(math.log(8)) == pytest.approx(3)


def test_an_accelerator_gets_more_characters_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def noted(ids: object, block_size: int, batch_chars: int) -> Iterator[Any]:
        sizes.append(batch_chars)
        return iter(())

    monkeypatch.setattr(evaluate, "windows", noted)
    for device in ("cpu", "meta"):
        exact_loss(made().to(device), np.arange(3, dtype=np.uint8))
    assert sizes[1] > sizes[0] >= 1024
