"""The tables are held against texts: in layer 1 they are means of scores that texts really get."""

import pytest
import torch
from attention_models import BLOCKS, HEADS, VARIANTS, T, V, build, text

from gpt.attention.circuits import (
    distance_table,
    mean_final_norm,
    ov_table,
    position_table,
    qk_table,
)
from gpt.attention.decompose import logit_parts
from gpt.attention.trace import trace

FIRST_LAYER = {name: VARIANTS[name] for name in ("heads", "gpt", "gelu", "rotary", "modern")}
first_layer = pytest.mark.parametrize("kind", FIRST_LAYER.values(), ids=FIRST_LAYER.keys())


def first_scores(model, texts: torch.Tensor) -> torch.Tensor:
    """(B, H, T, T) scores of the first layer on texts (B, T)."""
    block = model.blocks[0]
    with torch.no_grad():
        q, k, _ = block.attention.qkv(block.attention_norm(model.embed(texts)))
    return q @ k.transpose(-2, -1) * model.config.head_size**-0.5


def scores(model, a: int, b: int) -> torch.Tensor:
    """(H, T, T) scores of character a at i on character b at j < i, each read from a real text."""
    texts = torch.full((T, T), b).fill_diagonal_(a)
    return first_scores(model, texts).diagonal(0, 0, 2).permute(0, 2, 1)  # text i, query i


@first_layer
@pytest.mark.parametrize(("a", "b"), [(3, 7), (5, 5)])
def test_the_character_table_is_the_mean_score_over_places(kind, a, b):
    model = build(kind)
    real = scores(model, a, b)
    earlier = torch.ones(T, T, dtype=torch.bool).tril(-1)
    expected = real[:, earlier].mean(-1)
    torch.testing.assert_close(qk_table(model, 0)[:, a, b], expected, atol=1e-4, rtol=1e-4)
    for back in (1, 4, T - 1):
        expected = real.diagonal(-back, -2, -1).mean(-1)
        found = qk_table(model, 0, distance=back)[:, a, b]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_score_on_itself():
    model = build(VARIANTS["gpt"])
    expected = scores(model, 4, 4).diagonal(0, -2, -1).mean(-1)
    found = qk_table(model, 0, distance=0)[:, 4, 4]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@first_layer
def test_the_position_table_is_the_mean_score_over_characters(kind):
    model = build(kind)
    share = torch.rand(V, generator=torch.Generator().manual_seed(0)) * 5
    pairs = [(a, b) for a in range(V) for b in range(V)]
    every = first_scores(model, torch.stack([one_pair(a, b) for a, b in pairs]))
    itself, every = every[::V, :, 9, 9], every[:, :, 9, 2]
    alike = position_table(model, 0)
    torch.testing.assert_close(alike[:, 9, 2], every.mean(0), atol=1e-4, rtol=1e-4)
    weight = torch.stack([share[a] * share[b] for a, b in pairs]) / share.sum() ** 2
    expected = (every * weight[:, None]).sum(0)
    found = position_table(model, 0, share)
    torch.testing.assert_close(found[:, 9, 2], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alike[:, 9, 9], itself.mean(0), atol=1e-4, rtol=1e-4)
    assert alike[:, 2, 9].isnan().all()
    assert not alike[:, 9, :10].isnan().any()


def one_pair(a: int, b: int) -> torch.Tensor:
    tokens = text()
    tokens[9], tokens[2] = a, b
    return tokens


def test_the_distance_table_is_the_mean_of_the_diagonals():
    model = build(VARIANTS["gpt"])
    places, distances = position_table(model, 1), distance_table(model, 1)
    assert distances.shape == (2, T)
    expected = sum(places[1, i, i - 3] for i in range(3, T)) / (T - 3)
    assert float(distances[1, 3]) == pytest.approx(float(expected), abs=1e-5)
    assert float(distances[1, T - 1]) == pytest.approx(float(places[1, T - 1, 0]))
    model = build(VARIANTS["rotary"])
    places, distances = position_table(model, 0), distance_table(model, 0)
    torch.testing.assert_close(places[:, 8, 3], distances[:, 5])  # distance is all that counts


def test_what_follows_from_being_looked_at_without_norm():
    """A text of one character: its head can only look at it, and the logits say what follows."""
    model = build(HEADS | {"positions": "none", "feed_forward": "none"})
    table = ov_table(model, 0, text())
    for a in range(V):
        rise = trace(model, torch.tensor([a])).logits[0] - model.lm_head.bias.detach()
        torch.testing.assert_close(table[:, a].sum(0), rise - rise.mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "kind",
    [
        BLOCKS | {"n_layer": 1, "feed_forward": "none", "positions": "none"},
        VARIANTS["modern"] | {"n_layer": 1},
    ],
    ids=["layer norm", "rms norm"],
)
def test_what_follows_from_being_looked_at_through_the_final_norm(kind):
    model = build(kind)
    table, scale = ov_table(model, 0, text()), float(mean_final_norm(model, text()).scale)
    real = trace(model, text()).final_norm.scale
    assert scale == pytest.approx(float(real.mean()))
    for a in range(V):
        seen = trace(model, torch.full((T,), a))  # all values are alike: weights do not matter
        parts = logit_parts(model, seen)
        for head in range(2):
            rise = parts.vectors[parts.names.index(f"L1H{head + 1}"), 5]
            rise = (rise - rise.mean()) * scale / seen.final_norm.scale[5]
            torch.testing.assert_close(table[head, a], rise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(table.sum(-1), torch.zeros(2, V), atol=1e-4, rtol=0)


def test_values_are_means_over_places():
    model = build(HEADS | {"feed_forward": "none"})
    logits = torch.zeros(V)
    for i in range(T):
        tokens = torch.full((T,), 6)
        layer = trace(model, tokens).layers[0]
        logits += model.lm_head.weight.detach() @ layer.v[:, i].flatten() / T
    found = ov_table(model, 0, text())[:, 6].sum(0)
    torch.testing.assert_close(found, logits - logits.mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["token shift", "token shift and learned positions"])
def test_the_rule_leaves_the_share_of_the_character_before_out(kind):
    """It is the rule of the same weights without it."""
    model = build(VARIANTS[kind])
    plain = build(VARIANTS[kind] | {"token_shift": False})
    plain.load_state_dict(model.state_dict(), strict=False)
    for layer in (0, 1):
        torch.testing.assert_close(qk_table(model, layer), qk_table(plain, layer))
        torch.testing.assert_close(
            position_table(model, layer), position_table(plain, layer), equal_nan=True
        )


def test_tables_that_there_are_not():
    with pytest.raises(ValueError, match="no L1H1"):
        qk_table(build(VARIANTS["bigram"]), 0)
    with pytest.raises(ValueError, match="no L3H1"):
        position_table(build(VARIANTS["gpt"]), 2)
    with pytest.raises(ValueError, match="reaches layer 2"):
        qk_table(build(VARIANTS["two layers of heads"]), 1)
    with pytest.raises(ValueError, match="does not reach the logits"):
        ov_table(build(VARIANTS["two layers of heads"]), 0, text())
    with pytest.raises(ValueError, match="does not reach the logits"):
        ov_table(build(VARIANTS["heads and relu"]), 0, text())
    with pytest.raises(ValueError, match="0 to 11 characters back"):
        qk_table(build(VARIANTS["gpt"]), 0, distance=T)


def test_the_model_stays_as_it_was():
    model = build(VARIANTS["gpt"]).train()
    qk_table(model, 1)
    assert not ov_table(model, 1, text()).requires_grad
    assert model.training


def test_the_scores_above_are_those_of_the_trace():
    model = build(VARIANTS["modern"])
    real = first_scores(model, one_pair(3, 4)[None])[0]
    torch.testing.assert_close(real, trace(model, one_pair(3, 4)).layers[0].scores)
