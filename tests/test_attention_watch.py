"""What training logs is what the measures say, under names that can be relied on."""

import math

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, T, V, build, text

from gpt.attention.decompose import mute_losses
from gpt.attention.roles import MEASURES, head_roles
from gpt.attention.watch import (
    category,
    embedding_table,
    head_scalars,
    in_blocks,
    label,
    position_embedding_table,
)
from gpt.config import ModelConfig
from gpt.data.tokenizer import CharTokenizer
from gpt.model import GPT

VAL = text(500, seed=5).numpy().astype(np.uint8)


@pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())
def test_scalars_are_the_measures_and_costs_of_each_head(kind):
    model, probe = build(kind), text()
    found = head_scalars(model, probe, VAL, mute_chars=100)
    assert all(math.isfinite(value) for value in found.values())
    config = model.config
    assert len(found) == (config.n_layer > 0) * len(MEASURES) + config.n_layer * config.n_head * (
        len(MEASURES) + 1
    )
    if not config.n_layer:
        return
    roles, costs = head_roles(model, probe), mute_losses(model, VAL[:101])
    head = config.n_head - 1
    for name in MEASURES:
        assert found[f"per_head/{name}/L1H{head + 1}"] == roles[0][head][name].value
        assert found[f"per_head/{name}/uniform"] == roles[0][head][name].uniform
    assert found[f"per_head/mute_loss/L1H{head + 1}"] == float(costs[0, head])


def test_what_cannot_be_measured_is_left_out():
    model = build(VARIANTS["gpt"])
    found = head_scalars(model, torch.arange(5), VAL[:0], mute_chars=100)
    assert "per_head/same/L1H1" not in found
    assert "per_head/same/uniform" not in found
    assert "per_head/self/L2H2" in found
    assert not any("mute" in name for name in found)
    assert not any("mute" in name for name in head_scalars(model, text(), VAL, mute_chars=0))


def test_a_probe_longer_than_a_block_and_known_roles():
    model, probe = build(VARIANTS["gpt"]), text(2 * T + 5)
    texts = in_blocks(probe, T)
    assert torch.equal(texts.flatten(), probe[: 2 * T])
    assert in_blocks(probe[:5], T).shape == (1, 5)
    roles = head_roles(model, texts)
    found = head_scalars(model, probe, VAL, mute_chars=0)
    assert found["per_head/distance/L2H1"] == roles[1][0]["distance"].value
    roles[1][0] = dict(roles[1][0], distance=roles[0][0]["entropy"])
    known = head_scalars(model, probe, VAL, mute_chars=0, roles=roles)
    assert known["per_head/distance/L2H1"] == roles[0][0]["entropy"].value


def test_watching_changes_nothing():
    model = build(VARIANTS["gpt"]).train()
    state = torch.get_rng_state()
    assert head_scalars(model, text(), VAL) == head_scalars(model, text(), VAL)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_embedding_table():
    tokenizer = CharTokenizer("\n\t aB,1\u2028éя_")
    model = GPT(ModelConfig(block_size=T), len(tokenizer))
    table = embedding_table(model, tokenizer)
    assert torch.equal(table.vectors, model.token_embedding.weight)
    assert not table.vectors.requires_grad
    rows = dict(zip(table.labels, table.categories, strict=True))
    assert rows == {
        "⇥": "white space",
        "↵": "white space",
        "·": "white space",
        "U+2028": "white space",
        ",": "punctuation",
        "_": "punctuation",
        "1": "digit",
        "B": "capital",
        "a": "vowel",
        "é": "vowel",
        "я": "letter",
    }
    assert table.labels[tokenizer.encode("B")[0]] == "B"
    assert embedding_table(
        build(VARIANTS["bigram"]), CharTokenizer("abcdefghijk")
    ).vectors.shape == (
        V,
        V,
    )


def test_no_label_breaks_a_metadata_file():
    for point in [*range(0x300), 0x2000, 0x2028, 0x2029, 0x3000, 0xFEFF, 0x1F642]:
        shown = label(chr(point))
        assert shown.strip() == shown != ""
        assert len(shown.splitlines()) == 1
        assert category(chr(point))


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        ("y", "consonant"),
        ("z", "consonant"),
        ("$", "punctuation"),
        ("\x00", "other"),
        ("汉", "letter"),
    ],
)
def test_categories(character, kind):
    assert category(character) == kind


def test_position_embedding_table():
    model = build(VARIANTS["gpt"])
    table = position_embedding_table(model)
    assert torch.equal(table.vectors, model.position_embedding.weight)
    assert table.labels[0] == "1"
    assert table.labels[-1] == str(T)
    assert table.categories[0] == "eighth 1"
    assert table.categories[-1] == "eighth 8"
    assert position_embedding_table(build(VARIANTS["rotary"])) is None
