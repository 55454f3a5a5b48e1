"""The trace is held against the model's own fused forward pass and against the formulas."""

import math

import pytest
import torch
from attention_models import VARIANTS, WITH_HEADS, T, build, text

from gpt.attention.trace import attention_weights, blocks_of, head_name, trace
from gpt.evaluate import evaluating

all_variants = pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())
with_heads = pytest.mark.parametrize("kind", WITH_HEADS.values(), ids=WITH_HEADS.keys())


@all_variants
@pytest.mark.parametrize("length", [1, 5, T])
def test_logits_are_those_of_the_model(kind, length):
    model, tokens = build(kind).eval(), text(length)
    expected = model(tokens[None])
    torch.testing.assert_close(trace(model, tokens).logits, expected[0], atol=1e-5, rtol=1e-5)


@with_heads
def test_weights_are_the_softmax_of_the_masked_scores(kind):
    model, tokens = build(kind), text()
    seen = trace(model, tokens)
    for i in range(T):
        for j in range(T):
            assert seen.mask[i, j] == (j <= i)
    for layer in seen.layers:
        products = torch.einsum("hid,hjd->hij", layer.q, layer.k)
        torch.testing.assert_close(layer.products, products)
        torch.testing.assert_close(layer.scores, products / math.sqrt(model.config.head_size))
        weights = layer.scores.masked_fill(~seen.mask, -math.inf).softmax(-1)
        torch.testing.assert_close(layer.weights, weights)
        torch.testing.assert_close(layer.weights.sum(-1), torch.ones(layer.weights.shape[:2]))
        assert (layer.weights[:, ~seen.mask] == 0).all()
        torch.testing.assert_close(layer.mixed, layer.weights @ layer.v)


@with_heads
def test_what_the_parts_write_is_the_residual_stream(kind):
    model = build(kind)
    seen = trace(model, text())
    stream = seen.embedded
    for layer, block in zip(seen.layers, blocks_of(model), strict=True):
        torch.testing.assert_close(layer.before, stream)
        stream = stream if model.config.residual else torch.zeros_like(stream)
        attended = layer.head_writes.sum(0) + layer.attention_bias
        torch.testing.assert_close(attended, block.eval().attention(layer.x[None])[0])
        stream = stream + attended
        torch.testing.assert_close(layer.middle, stream)
        if layer.feed_forward is not None:
            stream = stream * model.config.residual + layer.feed_forward
        torch.testing.assert_close(layer.after, stream)
    torch.testing.assert_close(seen.final, stream)


@with_heads
def test_a_head_writes_its_own_columns_of_the_projection(kind):
    model = build(kind)
    D = model.config.head_size
    for layer, block in zip(trace(model, text()).layers, blocks_of(model), strict=True):
        for h, write in enumerate(layer.head_writes):
            alone = torch.zeros(T, model.config.n_embd)
            alone[:, h * D : (h + 1) * D] = layer.mixed[h]
            with torch.no_grad():
                projection = block.attention.projection(alone) - layer.attention_bias
            torch.testing.assert_close(write, projection, atol=1e-5, rtol=1e-5)


@all_variants
def test_embedding_parts_and_norms_add_up(kind):
    seen = trace(build(kind), text())
    norm = seen.embedding_norm
    parts = norm(seen.character) + (0 if seen.position is None else norm(seen.position))
    torch.testing.assert_close(parts + (0 if norm.bias is None else norm.bias), seen.embedded)
    norm = seen.final_norm
    whole = norm(seen.final) + (0 if norm.bias is None else norm.bias)
    torch.testing.assert_close(whole, seen.final_x)


def test_queries_before_rotary_and_qk_norm():
    layer = trace(build(VARIANTS["modern"]), text()).layers[0]
    one = torch.ones(layer.q.shape[:2])
    torch.testing.assert_close(layer.q.square().mean(-1), one, atol=1e-4, rtol=0)
    first = layer.k_content[:, 0]  # position 0 is not turned
    scale = first.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(layer.k[:, 0], first / scale, atol=1e-4, rtol=1e-4)
    assert (layer.q - layer.q_content).abs().max() > 0.1
    layer = trace(build(VARIANTS["gpt"]), text()).layers[0]
    torch.testing.assert_close(layer.q_content, layer.q)
    torch.testing.assert_close(layer.k_content, layer.k)


@all_variants
def test_weights_of_a_batch_are_those_of_the_traces(kind):
    model = build(kind)
    batch = torch.stack([text(seed=1), text(seed=2)])
    weights = attention_weights(model, batch)
    assert weights.shape == (model.config.n_layer, 2, model.config.n_head, T, T)
    for layer in range(model.config.n_layer):
        for b in range(2):
            expected = trace(model, batch[b]).layers[layer].weights
            torch.testing.assert_close(weights[layer, b], expected)


def test_the_soft_cap():
    seen = trace(build(VARIANTS["modern"]), text())
    torch.testing.assert_close(seen.logits, 15 * torch.tanh(seen.logits_uncapped / 15))
    assert (seen.logits - seen.logits_uncapped).abs().max() > 1e-3
    seen = trace(build(VARIANTS["gpt"]), text())
    torch.testing.assert_close(seen.logits, seen.logits_uncapped)


def test_nothing_about_the_model_or_the_random_state_changes():
    model = build(VARIANTS["gpt"]).train()
    model.blocks[0].eval()
    state = torch.get_rng_state()
    first, second = trace(model, text()), trace(model, text())
    assert torch.equal(first.logits, second.logits)  # no dropout
    assert not first.logits.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.blocks[1].attention.training
    assert not model.blocks[0].attention.training
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.training


@pytest.mark.parametrize("shape", [(0,), (T + 1,), (2, 3), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="1 to 12 characters"):
        trace(build(VARIANTS["gpt"]), torch.zeros(shape, dtype=torch.long))


def test_heads_are_counted_from_one():
    assert head_name(0, 0) == "L1H1"
    assert head_name(1, 2) == "L2H3"
