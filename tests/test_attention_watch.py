"""What training logs is what the measures say, under names that can be relied on."""

import math

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, T, build, text

from gpt.attention.decompose import mute_losses
from gpt.attention.roles import MEASURES, head_roles
from gpt.attention.watch import MUTE_CHARS, head_scalars

VAL = text(500, seed=5).numpy().astype(np.uint8)


@pytest.mark.parametrize("kind", VARIANTS.values(), ids=VARIANTS.keys())
def test_scalars_are_the_measures_and_costs_of_each_head(kind):
    model = build(kind)
    roles = head_roles(model, text(2 * T + 5))
    found = head_scalars(model, roles, VAL)
    costs = mute_losses(model, VAL[: MUTE_CHARS + 1])
    for layer in range(model.config.n_layer):
        for head in range(model.config.n_head):
            name = f"L{layer + 1}H{head + 1}"
            for measure in MEASURES:
                assert found.pop(f"per_head/{measure}/{name}") == roles[layer][head][measure].value
            assert found.pop(f"per_head/mute_loss/{name}") == float(costs[layer, head])
    uniform = {f"per_head/{name}/uniform": roles[0][0][name].uniform for name in MEASURES if roles}
    assert found == uniform


def test_what_cannot_be_measured_is_left_out():
    model = build(VARIANTS["gpt"])
    found = head_scalars(model, head_roles(model, torch.arange(5)), VAL[:1])
    assert all(math.isfinite(value) for value in found.values())
    assert "per_head/same/L1H1" not in found
    assert "per_head/same/uniform" not in found
    assert "per_head/self/L2H2" in found
    assert not any("mute" in name for name in found)


def test_watching_changes_nothing():
    model = build(VARIANTS["gpt"]).train()
    state = torch.get_rng_state()
    first, second = (head_scalars(model, head_roles(model, text()), VAL) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
