"""Attention, inspected in numbers: what the page and TensorBoard show, also for notebooks.

    from gpt.attention import trace
    seen = trace(model, tokenizer.encode("ROMEO:"))
    seen.layers[2].weights[0]        # L3H1: row = query, column = key

`trace` runs a text and keeps every step. `score_parts` and `logit_parts` give a score or the logits
as a sum over what wrote it; `mute` and `mute_losses` measure what a head is worth. `qk_table`,
`position_table`, `distance_table` and `ov_table` read a head's rule from its weights. `head_roles`
measures what each head attends to, beside chance.

Layers, heads and positions are counted from 0 in the code and from 1 where people read them.
"""

from gpt.attention.circuits import distance_table, ov_table, position_table, qk_table
from gpt.attention.decompose import logit_parts, mute, mute_losses, score_parts
from gpt.attention.roles import head_roles
from gpt.attention.trace import trace

__all__ = [
    "distance_table",
    "head_roles",
    "logit_parts",
    "mute",
    "mute_losses",
    "ov_table",
    "position_table",
    "qk_table",
    "score_parts",
    "trace",
]
