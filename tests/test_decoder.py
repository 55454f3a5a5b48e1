"""The decoder against the model itself, which reads all characters at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attention_models import VARIANTS, T, V, build, read_on
from torch import Tensor

from gpt.generation.decoder import Decoder
from gpt.model import GPT

TOKENS = np.random.default_rng(1).integers(V, size=(3, 4 * T))
each_variant = pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


@torch.no_grad()
def expected(model: GPT, tokens: np.ndarray) -> np.ndarray:
    """Logits (B, T, V)."""
    return model(torch.from_numpy(tokens)).numpy()


def read(decoder: Decoder, tokens: np.ndarray, first: int) -> np.ndarray:
    """Logits (B, N - first + 1, V): `first` characters at once, then one after the other."""
    after = [decoder.prefill(tokens[:, :first])]
    after += [decoder.decode(token) for token in tokens.T[first:]]
    return np.stack(after, axis=1)


@each_variant
@pytest.mark.parametrize("rows", [1, 3])
def test_the_decoder_is_the_model(kind: dict, rows: int) -> None:
    model, tokens = build(kind).eval(), TOKENS[:rows, :T]
    want = expected(model, tokens)
    for first in (1, 5, T):
        got = read(Decoder(model, rows), tokens, first)
        np.testing.assert_allclose(got, want[:, first - 1 :], **CLOSE)
        assert got.dtype == np.float32


@each_variant
@pytest.mark.parametrize("block_size", [1, 2, 5, T])
def test_when_the_context_is_full_its_older_half_is_out_of_sight(
    kind: dict, block_size: int
) -> None:
    """Again and again; the newer half still knows of it, unless positions are learned."""
    model = build(kind | {"block_size": block_size}).eval()
    want = read_on(model, torch.from_numpy(TOKENS)).numpy()
    for first in {1, block_size}:
        got = read(Decoder(model, 3), TOKENS, first)
        np.testing.assert_allclose(got, want[:, first - 1 :], **CLOSE)


def test_reading_on_without_a_cache_is_the_model_while_the_context_lasts() -> None:
    """What the test above is held against, held against the model."""
    for kind in VARIANTS.values():
        model = build(kind).eval()
        got = read_on(model, torch.from_numpy(TOKENS)).numpy()
        np.testing.assert_allclose(got[:, :T], expected(model, TOKENS[:, :T]), **CLOSE)


@pytest.mark.parametrize("n_embd", [1, 6, 24, 48])
def test_widths_of_every_kind(n_embd: int) -> None:
    """Divisible by 16 or not."""
    model = build(VARIANTS["gpt"] | {"n_head": 1, "n_embd": n_embd}).eval()
    tokens = TOKENS[:1, :T]
    got = read(Decoder(model, 1), tokens, 1)
    np.testing.assert_allclose(got, expected(model, tokens), **CLOSE)


@each_variant
def test_another_beginning_is_read_anew(kind: dict) -> None:
    model, tokens = build(kind).eval(), TOKENS[:, :T]
    decoder = Decoder(model, 3)
    read(decoder, (TOKENS + 1) % V, 4)
    np.testing.assert_allclose(read(decoder, tokens, 4), expected(model, tokens)[:, 3:], **CLOSE)


@each_variant
def test_a_beginning_that_all_share(kind: dict) -> None:
    model = build(kind).eval()
    shared, tokens = TOKENS[:1, :4], TOKENS[:, 4:T]
    each = np.concatenate([np.tile(shared, (3, 1)), tokens], axis=1)
    decoder = Decoder(model, 3)
    got = [decoder.prefill(shared)] + [decoder.decode(token) for token in tokens.T]
    np.testing.assert_allclose(np.stack(got, axis=1), expected(model, each)[:, 3:], **CLOSE)


def test_numbers_beyond_all_bounds_are_no_warning() -> None:
    """A damaged checkpoint's weights may be anything that is finite."""
    model = build(VARIANTS["modern"]).eval()
    model.blocks[0].feed_forward.up.weight.data.fill_(3e38)
    read(Decoder(model, 1), TOKENS[:1], 1)


def read_few(device: str) -> None:
    """Prompts of one character; with learned positions, a full context of one and of two."""
    for block_size in (1, 2, T):
        model = build(VARIANTS["gpt"] | {"block_size": block_size}).eval().to(device)
        read(Decoder(model, 3), TOKENS[:, :4], 1)


def test_no_text_without_characters_is_prefilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's fused attention refuses one."""
    attention = F.scaled_dot_product_attention

    def gpus(q: Tensor, k: Tensor, v: Tensor, **keys: object) -> Tensor:
        assert q.shape[-2] > 0
        return attention(q, k, v, **keys)

    monkeypatch.setattr(F, "scaled_dot_product_attention", gpus)
    read_few("cpu")


@pytest.mark.gpu
def test_a_gpu_prefills_a_prompt_of_one_character() -> None:
    read_few("cuda")
