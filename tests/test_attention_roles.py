"""Weights made by hand, for which the right answer is obvious."""

import math
from itertools import product

import pytest
import torch
from attention_models import VARIANTS, WITH_HEADS, T, V, build, text

from gpt.attention.roles import (
    MEASURES,
    Measure,
    head_roles,
    key_sets,
    measure,
    repeated_strings,
    role_in_words,
    uniform_weights,
)
from gpt.attention.trace import trace, weights_by_layer

LETTERS = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]])  # abcabcab


def looking_at(key_of) -> torch.Tensor:
    """(8, 8) weights of a head whose character i looks at key_of(i) alone, else at itself."""
    weights = torch.zeros(8, 8)
    for i in range(8):
        weights[i, key_of(i) if 0 <= key_of(i) <= i else i] = 1
    return weights


@pytest.mark.parametrize(
    ("name", "key_of"),
    [
        ("previous", lambda i: i - 1),
        ("self", lambda i: i),
        ("first", lambda i: 0),
        ("same", lambda i: i - 3),
        ("induction", lambda i: i - 2),
    ],
)
def test_a_head_that_does_one_thing(name, key_of):
    found = measure(looking_at(key_of), LETTERS)
    assert found[name] == 1
    assert found["entropy"] == 0
    assert measure(looking_at(lambda i: i - 4), LETTERS)[name] < 0.5


COUNTS = {  # whether key j counts for query i of a text, j <= i
    "previous": lambda ids, i, j: j == i - 1,
    "self": lambda ids, i, j: j == i,
    "first": lambda ids, i, j: j == 0,
    "same": lambda ids, i, j: j < i and ids[j] == ids[i],
    "induction": lambda ids, i, j: 0 < j < i and ids[j - 1] == ids[i],
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_keys_of_a_share_in_every_text_of_three_letters(name):
    texts = list(product(range(3), repeat=5))
    got = key_sets(torch.tensor(texts))[name].tolist()
    for keys, letters in zip(got, texts, strict=True):
        for i in range(5):
            expected = [j <= i and COUNTS[name](letters, i, j) for j in range(5)]
            assert keys[i] == expected, f"{name}: keys of character {i} of {letters}"


def test_distance_and_entropy_by_hand():
    assert measure(looking_at(lambda i: i - 1), LETTERS)["distance"] == 1
    assert measure(looking_at(lambda i: 0), LETTERS)["distance"] == sum(range(8)) / 7
    halves = torch.eye(8)
    halves[7, 7] = halves[7, 6] = 0.5
    found = measure(halves, LETTERS)
    assert found["entropy"] == pytest.approx(math.log(2) / math.log(8) / 7)
    assert found["distance"] == pytest.approx(0.5 / 7)


def test_chance_is_the_closed_form():
    chance = measure(uniform_weights(8), LETTERS)
    allowed = torch.arange(2.0, 9.0)
    for name in ("previous", "self", "first"):
        assert chance[name] == pytest.approx((1 / allowed).mean())
    assert chance["entropy"] == pytest.approx(1)
    assert chance["distance"] == pytest.approx(((allowed - 1) / 2).mean())
    # of abcabcab the last five have copies: one, one, one, two, two of them
    copies = torch.tensor([1 / 4, 1 / 5, 1 / 6, 2 / 7, 2 / 8])
    assert chance["same"] == pytest.approx(copies.mean())
    assert chance["induction"] == pytest.approx(copies.mean())


def test_heads_and_texts_are_not_mixed_up():
    texts = torch.stack([text(seed=1), text(seed=2)])
    weights = torch.rand(2, 3, 2, T, T, generator=torch.Generator().manual_seed(0)).tril()
    weights = weights / weights.sum(-1, keepdim=True)
    together = measure(weights, texts)
    for layer in range(2):
        for head in range(3):
            alone = measure(weights[layer, head], texts)
            for name in MEASURES:
                assert together[name][layer, head] == pytest.approx(alone[name])
    first, second = (measure(weights[0, 0, b], texts[b : b + 1]) for b in range(2))
    mean = (first["entropy"] + second["entropy"]) / 2
    assert together["entropy"][0, 0] == pytest.approx(mean)


@pytest.mark.parametrize("kind", WITH_HEADS.values(), ids=WITH_HEADS.keys())
def test_uniform_attention_scores_exactly_the_baseline(kind):
    model = build(kind)
    for name, parameter in model.named_parameters():
        if "attention.query" in name:
            torch.nn.init.zeros_(parameter)
    for layer in head_roles(model, text()):
        for roles in layer:
            assert roles.keys() == set(MEASURES)
            for name in MEASURES:
                assert roles[name].value == pytest.approx(roles[name].uniform, abs=1e-6), name


def test_roles_of_a_model_are_the_measures_of_its_traces():
    model, tokens = build(VARIANTS["modern"]), text()
    repeated = repeated_strings(V, T)
    roles = head_roles(model, tokens)
    assert [len(layer) for layer in roles] == [2, 2]
    for layer in range(2):
        for head in range(2):
            found = measure(trace(model, tokens).layers[layer].weights[head], tokens[None])
            assert roles[layer][head]["same"].value == pytest.approx(float(found["same"]))
            each = [trace(model, row).layers[layer].weights[head] for row in repeated]
            found = measure(torch.stack(each), repeated)
            assert roles[layer][head]["induction"].value == pytest.approx(float(found["induction"]))
    assert head_roles(build(VARIANTS["bigram"]), tokens) == []


def test_a_long_block_takes_no_more_memory_for_random_strings(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "gpt.attention.roles.weights_by_layer",
        lambda model, tokens: asked.append(tokens.shape) or weights_by_layer(model, tokens),
    )
    head_roles(build(VARIANTS["gpt"] | {"block_size": 2000}), text())
    assert asked == [(1, T), (8, 256)]


def test_repeated_strings():
    state = torch.get_rng_state()
    strings = repeated_strings(vocab_size=65, block_size=65)
    assert strings.shape == (8, 64)
    assert torch.equal(strings[:, :32], strings[:, 32:])
    assert all(len(set(row[:32].tolist())) == 32 for row in strings)
    assert torch.equal(strings, repeated_strings(65, 65))
    assert repeated_strings(2, 64).shape == (8, 64)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_text_without_copies_and_a_block_of_one():
    assert math.isnan(measure(uniform_weights(4), torch.arange(4)[None])["same"])
    (((roles,),),) = [head_roles(build(WITH_HEADS["one head"] | {"block_size": 1}), text(1))]
    assert math.isnan(roles["previous"].value)
    assert role_in_words(roles)


def roles_with(**values: float) -> dict[str, Measure]:
    chance = dict.fromkeys(MEASURES, 0.035) | {"entropy": 1.0, "distance": 24.5}
    low = dict.fromkeys(MEASURES, 0.01) | {"entropy": 0.5, "distance": 3.0}
    return {name: Measure((low | values)[name], chance[name]) for name in MEASURES}


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        (roles_with(previous=0.83), "previous character: 83 %, uniform 3.5 %"),
        (roles_with(previous=0.4, self=0.5), "itself: 50 %, uniform 3.5 %"),
        (
            roles_with(induction=0.3),
            "what followed it last time (induction): 30 %, uniform 3.5 %",
        ),
        (roles_with(entropy=0.97), "spread evenly: entropy 97 %, uniform 100 %"),
        (roles_with(), "nearby characters: 3.0 back, uniform 24.5"),
        (roles_with(distance=20.0), "mixed: 20.0 back, uniform 24.5"),
        (roles_with(same=math.nan, self=0.3), "itself: 30 %, uniform 3.5 %"),
    ],
)
def test_roles_in_words(roles, words):
    assert role_in_words(roles) == words
