"""The parts sum to what the model really computed, and a muted head is one with zero weights."""

import copy

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, WITH_HEADS, T, V, build, text

from gpt.attention import decompose
from gpt.attention.decompose import logit_parts, mute, mute_losses, score_parts, stream_parts
from gpt.attention.frozen import freeze
from gpt.attention.trace import head_name, trace
from gpt.evaluate import exact_loss
from gpt.model import RMSNorm

all_variants = pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())
with_heads = pytest.mark.parametrize("kind", WITH_HEADS.values(), ids=WITH_HEADS.keys())


@all_variants
def test_parts_of_the_stream_sum_to_it(kind):
    model = build(kind)
    seen = trace(model, text())
    for layer, stage in enumerate(model.eval().walk(model.embed(text()[None]))):
        parts = stream_parts(model, seen, layer)
        assert len(set(parts.names)) == len(parts.names) == len(parts.vectors)
        torch.testing.assert_close(parts.vectors.sum(0), stage[0], atol=1e-4, rtol=1e-5)


@with_heads
def test_parts_of_a_score_sum_to_it(kind):
    model = build(kind)
    seen = trace(model, text())
    for layer in range(model.config.n_layer):
        for head in range(model.config.n_head):
            for query, key in [(0, 0), (5, 2), (11, 11), (11, 0), (3, 7)]:
                parts = score_parts(model, seen, layer, head, query, key)
                score = float(seen.layers[layer].scores[head, query, key])
                assert parts.score == score
                assert float(parts.pairs.sum()) == pytest.approx(score, abs=1e-4, rel=1e-4)
                assert parts.pairs.shape == (len(parts.names),) * 2
                torch.testing.assert_close(parts.of_query, parts.pairs.sum(1))
                torch.testing.assert_close(parts.of_key, parts.pairs.sum(0))


@all_variants
def test_parts_of_the_logits_sum_to_them(kind):
    model = build(kind)
    seen = trace(model, text())
    parts = logit_parts(model, seen)
    assert parts.vectors.shape == (len(parts.names), T, V)
    assert not parts.vectors.requires_grad
    total = parts.vectors.sum(0)
    if cap := model.config.logit_softcap:
        total = cap * torch.tanh(total / cap)
    torch.testing.assert_close(total, seen.logits, atol=1e-4, rtol=1e-4)


def test_who_wrote_what():
    model = build(VARIANTS["gelu"])
    seen = trace(model, text())
    assert stream_parts(model, seen, 0).names == ("character", "position", "embedding norm's bias")
    parts = stream_parts(model, seen, 1)
    first = ("L1H1", "L1H2", "L1 projection's bias", "L1 feed-forward")
    assert parts.names[3:] == first
    torch.testing.assert_close(parts.vectors[4], seen.layers[0].head_writes[1])
    torch.testing.assert_close(parts.vectors[6], seen.layers[0].feed_forward)
    assert score_parts(model, seen, 1, 0, 3, 2).names == (*parts.names, "norm's bias")
    assert logit_parts(model, seen).names[-2:] == ("final norm's bias", "lm_head's bias")

    def names(kind: str, layer: int) -> tuple[str, ...]:
        model = build(VARIANTS[kind])
        return stream_parts(model, trace(model, text()), layer).names

    assert names("modern", 1) == ("character", "L1H1", "L1H2", "L1 feed-forward")
    assert names("heads", 1) == ("L1H1", "L1H2", "L1H3", "L1H4")
    assert names("heads and relu", 1) == ("L1 feed-forward",)
    assert names("bigram", 0) == ("character",)
    assert names("token shift", 0) == ("character", "character before")
    both = ("character", "character before", "position")
    assert names("token shift and learned positions", 0) == both


def test_the_character_before_is_a_part_of_its_own():
    model, tokens = build(VARIANTS["token shift and learned positions"]), text()
    parts = stream_parts(model, trace(model, tokens), 0)
    character, before = parts.vectors[:2]
    assert torch.equal(character, model.token_embedding.weight[tokens])
    assert not before[0].any()
    for t in range(1, T):
        torch.testing.assert_close(before[t], model.token_shift * character[t - 1])


@pytest.mark.parametrize("kind", ["modern", "gelu"])
def test_each_part_is_what_the_part_alone_would_give_at_the_frozen_scale(kind):
    """Independent of the code under test: scores are bilinear, so differences show the parts."""
    model = build(VARIANTS[kind])
    seen = trace(model, text())
    layer, head, i, j = 1, 1, 9, 4
    parts = score_parts(model, seen, layer, head, i, j)
    without = stream_parts(model, seen, layer)
    attention = model.blocks[layer].attention
    P = parts.names.index("L1H2")
    x = seen.layers[layer].x.clone()
    norm = freeze(model.blocks[layer].attention_norm, seen.layers[layer].before)
    x[j] -= norm(without.vectors[P])[j].detach()
    with torch.no_grad():
        k = attention.key(x).view(T, 2, -1).transpose(0, 1)
        if attention.rotary:
            k = attention.rotary(k[None])[0]
    content = seen.layers[layer].k_content
    scale = freeze(attention.qk_norm, content).scale[head, j]
    score = (seen.layers[layer].q[head, i] * k[head, j] * scale).sum() * 8**-0.5
    assert parts.score - float(parts.of_key[P]) == pytest.approx(float(score), abs=1e-4)


@with_heads
def test_muting_is_zeroing_the_heads_columns_of_the_projection(kind):
    model = build(kind).eval()
    tokens, D = text()[None], model.config.head_size
    before = model(tokens)
    for layer in range(model.config.n_layer):
        for head in range(model.config.n_head):
            columns = slice(head * D, (head + 1) * D)
            other = copy.deepcopy(model)
            attention = other.blocks[layer].attention
            with torch.no_grad():
                # without a projection the head's values are its only way out
                attention.value.weight[columns] = 0
                if model.config.residual:
                    attention = copy.deepcopy(model.blocks[layer].attention)
                    attention.projection.weight[:, columns] = 0
                    other.blocks[layer].attention = attention
            with mute(model, layer, head):
                muted = model(tokens)
            torch.testing.assert_close(muted, other(tokens), atol=1e-5, rtol=1e-5)
            assert (muted - before).abs().max() > 1e-4
    torch.testing.assert_close(model(tokens), before, atol=0, rtol=0)


@all_variants
def test_mute_losses_are_differences_of_exact_losses(kind, monkeypatch):
    monkeypatch.setattr(decompose, "BATCH_CHARS", 2 * T)
    model = build(kind).train()
    ids = text(4 * T + 6).numpy().astype(np.uint8)
    state = torch.get_rng_state()
    costs = mute_losses(model, ids)
    assert costs.shape == (model.config.n_layer, model.config.n_head)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    heard = exact_loss(model, ids)
    for layer in range(model.config.n_layer):
        for head in range(model.config.n_head):
            with mute(model, layer, head):
                muted = exact_loss(model, ids)
            assert float(costs[layer, head]) == pytest.approx(muted - heard, abs=1e-5)


def test_what_stands_before_a_muted_head_is_computed_once():
    model = build(VARIANTS["attention only"])
    calls = [0, 0, 0]
    for layer, block in enumerate(model.blocks):

        def count(*_, layer=layer):
            calls[layer] += 1

        block.register_forward_hook(count)
    mute_losses(model, text(T + 1).numpy().astype(np.uint8))
    # once with all heads, then once for each of the 2 heads of this layer and of those before it
    assert calls == [1 + 2, 1 + 4, 1 + 6]


@pytest.mark.parametrize(("layer", "head"), [(2, 0), (0, 2), (-1, 0), (0, -1)])
def test_a_head_that_is_not_there(layer, head):
    model = build(VARIANTS["gpt"])
    with pytest.raises(ValueError, match=f"no {head_name(layer, head)}"), mute(model, layer, head):
        pass
    with pytest.raises(ValueError, match="2 layers of 2 heads"):
        score_parts(model, trace(model, text()), layer, head, 0, 0)


@pytest.mark.parametrize("kind", ["bigram", "gpt"])
def test_a_state_that_is_not_there(kind):
    """A negative layer, as an index of Python's, would be a stream cut short without a word."""
    model = build(VARIANTS[kind])
    last = model.config.n_layer
    for layer in (-1, last + 1):
        with pytest.raises(ValueError, match=f"layer {layer}: 0 to {last};"):
            stream_parts(model, trace(model, text()), layer)


@pytest.mark.parametrize("place", [-1, T - 2, T])
@pytest.mark.parametrize("name", ["query", "key"])
def test_a_character_that_is_not_there(name, place):
    """Of the text, which is shorter than what the model can read."""
    model = build(VARIANTS["gpt"])
    places = {"query": 0, "key": 0, name: place}
    with pytest.raises(ValueError, match=f"{name} {place}: the text's characters are 0 to {T - 3}"):
        score_parts(model, trace(model, text()[: T - 2]), 0, 0, **places)


def test_the_head_speaks_again_after_an_error():
    model = build(VARIANTS["gpt"]).eval()
    before = model(text()[None])
    with pytest.raises(KeyError), mute(model, 0, 0):
        raise KeyError
    assert torch.equal(model(text()[None]), before)


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8)])
@pytest.mark.parametrize("norm", [torch.nn.LayerNorm(8), RMSNorm(), torch.nn.Identity()])
def test_a_frozen_norm_is_the_norm_where_it_was_frozen(norm, shape):
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1
    with torch.no_grad():
        for n, parameter in enumerate(norm.parameters()):
            parameter.copy_(n + torch.arange(8) / 8)
        held = freeze(norm, x)
        without_bias = norm(x) - (0 if held.bias is None else held.bias)
    torch.testing.assert_close(held(x), without_bias)
    torch.testing.assert_close(held(x / 2) + held(x / 2), held(x))  # linear


def test_only_known_normalisations():
    with pytest.raises(TypeError, match="Dropout"):
        freeze(torch.nn.Dropout(), torch.zeros(2))
