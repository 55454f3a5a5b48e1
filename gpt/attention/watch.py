"""The scalars that training logs of each head."""

import math

import numpy as np
import numpy.typing as npt

from gpt.attention.decompose import mute_losses
from gpt.attention.roles import Roles
from gpt.attention.trace import head_name
from gpt.model import GPT

MUTE_CHARS = 256  # enough to rank heads; each costs most of an evaluation of so many characters


def head_scalars(
    model: GPT, roles: list[list[Roles]], val_ids: npt.NDArray[np.unsignedinteger]
) -> dict[str, float]:
    """Scalars by tag; empty for a model without heads.

    For each of `roles.MEASURES`, `per_head/previous/L1H2` of each head, and beside them
    `per_head/previous/uniform` of uniform attention. `per_head/mute_loss/L1H2` is what muting the
    head costs on the first MUTE_CHARS characters of val_ids [nats a character]. A scalar that the
    text has nothing to measure for is left out.

    Args:
        roles: of the model, by `head_roles`.
        val_ids: (N,) ids of the validation split.
    """
    found = {}
    for layer, heads in enumerate(roles):
        for head, measures in enumerate(heads):
            for name, measure in measures.items():
                found[f"per_head/{name}/uniform"] = measure.uniform
                found[f"per_head/{name}/{head_name(layer, head)}"] = measure.value
    ids = val_ids[: MUTE_CHARS + 1]
    if len(ids) > 1:
        for layer, costs in enumerate(mute_losses(model, ids).tolist()):
            for head, cost in enumerate(costs):
                found[f"per_head/mute_loss/{head_name(layer, head)}"] = cost
    return {tag: value for tag, value in found.items() if math.isfinite(value)}
