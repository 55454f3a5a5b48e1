"""The decoder against the model itself, which reads all characters at once."""

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, T, V, build

from gpt.decode import Decoder
from gpt.model import GPT

TOKENS = np.random.default_rng(1).integers(V, size=(3, T))
each_variant = pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())


@torch.no_grad()
def expected(model: GPT, tokens: np.ndarray) -> np.ndarray:
    """Logits (B, T, V)."""
    return model(torch.from_numpy(tokens))[0].numpy()


def read(decoder: Decoder, tokens: np.ndarray, first: int) -> np.ndarray:
    """Logits (B, T - first + 1, V): `first` characters at once, then one after the other."""
    return np.stack([decoder.read(tokens[:, :t]) for t in range(first, T + 1)], axis=1)


@each_variant
@pytest.mark.parametrize("rows", [1, 3])
def test_the_decoder_is_the_model(kind: dict, rows: int) -> None:
    model, tokens = build(kind).eval(), TOKENS[:rows]
    want = expected(model, tokens)
    for first in (1, 5, T):
        got = read(Decoder(model, rows), tokens, first)
        np.testing.assert_allclose(got, want[:, first - 1 :], atol=2e-5, rtol=1e-5)
        assert got.dtype == np.float32


@pytest.mark.parametrize("n_embd", [1, 6, 24, 48])
def test_widths_of_every_kind(n_embd: int) -> None:
    """Divisible by 16 or not."""
    model = build(VARIANTS["gpt"] | {"n_head": 1, "n_embd": n_embd}).eval()
    got = read(Decoder(model, 1), TOKENS[:1], 1)
    np.testing.assert_allclose(got, expected(model, TOKENS[:1]), atol=2e-5, rtol=1e-5)


@each_variant
def test_another_text_is_read_anew(kind: dict) -> None:
    model = build(kind).eval()
    decoder = Decoder(model, 3)
    read(decoder, (TOKENS + 1) % V, 4)
    want = expected(model, TOKENS)
    np.testing.assert_allclose(read(decoder, TOKENS, 4), want[:, 3:], atol=2e-5, rtol=1e-5)


def test_one_more_character_is_all_that_is_read() -> None:
    """The others may change: nobody looks at them."""
    decoder = Decoder(build(VARIANTS["modern"]).eval(), 3)
    decoder.read(TOKENS[:, :4])
    twin = Decoder(decoder.model, 3)
    twin.read(TOKENS[:, :4])
    changed = TOKENS[:, :5].copy()
    changed[:, :4] = (changed[:, :4] + 1) % V
    np.testing.assert_array_equal(decoder.read(changed), twin.read(TOKENS[:, :5]))


def test_numbers_beyond_all_bounds_are_no_warning() -> None:
    """A damaged checkpoint's weights may be anything that is finite."""
    model = build(VARIANTS["modern"]).eval()
    model.blocks[0].feed_forward.up.weight.data.fill_(3e38)
    read(Decoder(model, 1), TOKENS[:1], 1)
