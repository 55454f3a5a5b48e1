"""The trace is held against the model's own fused forward pass and against the formulas."""

import math

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, WITH_HEADS, T, build, text

from gpt import attention
from gpt.attention.circuits import mean_final_norm
from gpt.attention.roles import MEASURES, head_roles, key_sets, measure, measures_of
from gpt.attention.trace import as_tokens, in_blocks, trace, weights_by_layer
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
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    for layer in trace(model, tokens).layers:
        products = torch.einsum("hid,hjd->hij", layer.q, layer.k)
        torch.testing.assert_close(layer.scores, products / math.sqrt(model.config.head_size))
        weights = layer.scores.masked_fill(future, -math.inf).softmax(-1)
        torch.testing.assert_close(layer.weights, weights)
        torch.testing.assert_close(layer.weights.sum(-1), torch.ones(layer.weights.shape[:2]))
        assert (layer.weights[:, future] == 0).all()
        torch.testing.assert_close(layer.mixed, layer.weights @ layer.v)


@with_heads
def test_what_the_parts_write_is_the_residual_stream(kind):
    model = build(kind).eval()
    seen = trace(model, text())
    with torch.no_grad():
        torch.testing.assert_close(seen.embedded, model.embed(text()[None])[0])
    stream = seen.embedded
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        torch.testing.assert_close(layer.before, stream)
        stream = stream if model.config.residual else torch.zeros_like(stream)
        stream = stream + layer.head_writes.sum(0) + bias_of(block)
        if layer.feed_forward is not None:
            stream = stream * model.config.residual + layer.feed_forward
        torch.testing.assert_close(layer.after, stream)


def bias_of(block):
    bias = getattr(block.attention.projection, "bias", None)
    return 0 if bias is None else bias.detach()


@with_heads
def test_a_head_writes_its_own_columns_of_the_projection(kind):
    model = build(kind)
    D = model.config.head_size
    for layer, block in zip(trace(model, text()).layers, model.blocks, strict=True):
        for h, write in enumerate(layer.head_writes):
            alone = torch.zeros(2, T, model.config.n_embd)  # and one without any output
            alone[0, :, h * D : (h + 1) * D] = layer.mixed[h]
            with torch.no_grad():
                one, none = block.attention.projection(alone)
            torch.testing.assert_close(write, one - none, atol=1e-5, rtol=1e-5)


@all_variants
def test_the_final_norm_is_linear_at_its_scale(kind):
    model = build(kind).eval()
    norm = trace(model, text()).final_norm
    with torch.no_grad():
        *_, last = model.walk(model.embed(text()[None]))
        whole = norm(last[0]) + (0 if norm.bias is None else norm.bias)
        torch.testing.assert_close(whole, model.norm(last[0]))


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
    found = list(weights_by_layer(model, batch))
    assert len(found) == model.config.n_layer
    for layer, weights in enumerate(found):
        expected = torch.stack([trace(model, row).layers[layer].weights for row in batch])
        torch.testing.assert_close(weights, expected)


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


@pytest.mark.parametrize("shape", [(0,), (2, 3), ()])
def test_other_shapes_are_refused(shape):
    model = build(VARIANTS["gpt"])
    for function in (trace, head_roles, mean_final_norm):
        for ids in (torch.zeros(shape, dtype=torch.long), np.zeros(shape, dtype=np.uint8)):
            with pytest.raises(ValueError, match="one text of one character or more"):
                function(model, ids)


def test_a_text_longer_than_a_block():
    model, long = build(VARIANTS["gpt"]), text(2 * T + 5)
    with pytest.raises(ValueError, match="block_size 12"):
        trace(model, long)
    assert torch.equal(in_blocks(long, T), long[: 2 * T].view(2, T))
    assert torch.equal(in_blocks(long[:5], T), long[None, :5])
    halves = [trace(model, half).final_norm.scale for half in (long[:T], long[T : 2 * T])]
    scale = float(mean_final_norm(model, long).scale)
    assert scale == pytest.approx(float(torch.cat(halves).mean()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_ids_may_come_from_a_tokenizer(dtype):
    model, ids = build(VARIANTS["modern"]), text().numpy().astype(dtype)
    ids.flags.writeable = False  # as a corpus has them
    assert as_tokens(ids).dtype == torch.long
    assert torch.equal(trace(model, ids).logits, trace(model, text()).logits)
    for scale in (mean_final_norm(model, ids).scale, mean_final_norm(model, text()).scale):
        assert scale == trace(model, ids).final_norm.scale.mean()
    assert repr(head_roles(model, ids)) == repr(head_roles(model, text()))


def test_every_tensor_is_made_where_those_are_that_it_meets():
    """As on a GPU, where the default device is another: tensors of two devices do not mix."""
    model, ids = build(VARIANTS["modern"]), text().numpy()
    with torch.device("meta"):
        seen = trace(model, ids)
        assert set(measure(seen.layers[0].weights[:, None], seen.tokens[None])) == set(MEASURES)
        found = [seen.logits, attention.score_parts(model, seen, 1, 0, 5, 2).pairs]
        found += [attention.logit_parts(model, seen).vectors, attention.ov_table(model, 1, ids)]
        found += [attention.qk_table(model, 1), attention.distance_table(model, 1)]
        found += [*measures_of(model, seen.tokens[None]).values()]
        attention.mute_losses(model, ids)
        roles = head_roles(model, ids)
    assert repr(roles) == repr(head_roles(model, ids))
    assert {tensor.device.type for tensor in found} == {"cpu"}
    for keys in key_sets(text()[None].to("meta")).values():
        assert keys.device.type == "meta"
    with pytest.raises(NotImplementedError, match="copy out of meta"):  # to the tokens' device
        measure(torch.zeros(1, T, T, device="meta"), text()[None])


@pytest.mark.gpu
def test_measures_of_a_model_on_a_gpu_are_those_on_the_cpu():
    """The texts may be on either device."""
    model, tokens = build(VARIANTS["modern"]), text()[None]
    want = measures_of(model, tokens)
    for ids in (tokens, tokens.cuda()):
        for name, found in measures_of(model.cuda(), ids).items():
            assert found.device == ids.device
            torch.testing.assert_close(
                found.cpu(), want[name], atol=1e-4, rtol=1e-4, equal_nan=True
            )
