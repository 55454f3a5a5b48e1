"""A trained model's attention in numbers, for notebooks: what the page and TensorBoard show.

    from gpt.attention import trace
    from gpt.storage.find import find_checkpoint

    checkpoint = find_checkpoint(None, print)  # of the newest run, its best
    model, ids = checkpoint.make_model(), checkpoint.tokenizer.encode("ROMEO:")
    seen = trace(model, ids)
    seen.layers[2].weights[0]  # (T, T) of head L3H1; row: query, column: key

What happens in a text:
    trace(model, ids)                 the residual stream, q, k, v, scores, weights, logits
    stream_parts(model, seen, layer)  the residual stream as a sum over what wrote it
    score_parts(model, seen, layer, head, query, key)  a score as a sum over pairs of such parts
    logit_parts(model, seen)          the logits as a sum over such parts
    head_roles(model, ids)            what each head attends to, beside chance; [layer][head]
    role_in_words(roles)              the clearest of one head's

What a head is worth:
    mute(model, layer, head)          a `with` block in which the head's output is zero
    mute_losses(model, ids)           what muting each head costs [nats a character]

A head's rule, read from its weights (every head of the layer at once):
    qk_table(model, layer)            the score of every character on every other
    position_table(model, layer)      the score of every position on every other
    distance_table(model, layer)      the score by distance
    ov_table(model, layer, ids)       what attending to a character adds to the logits

`ids` is what `tokenizer.encode` gives. Layers, heads and positions are counted from 0 in the code
and from 1 where people read them. The tests hold the page's JavaScript against these functions.
"""

from gpt.attention.circuits import distance_table, ov_table, position_table, qk_table
from gpt.attention.decompose import logit_parts, mute, mute_losses, score_parts, stream_parts
from gpt.attention.roles import head_roles, role_in_words
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
    "role_in_words",
    "score_parts",
    "stream_parts",
    "trace",
]
