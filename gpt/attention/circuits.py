"""A head's rule over the whole alphabet, read from its weights rather than from one text.

Which character asks for which (QK), how that depends on the place, and what follows from being
looked at (OV): the circuits of Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits". They were made for vocabularies where such a table cannot be shown; 65 characters can.

Convention: the stream holds only what the embedding puts there, for each character at each place
that a text of block_size has, and every normalisation is computed on that. In layer 1 this is all
there is, and a table is the exact mean of the scores that texts really get. In later layers it is
the direct path, what earlier layers wrote left out: there a table gives the rule that the
embedding alone would follow, and its scale is that of the embedding alone.

Letters in the shapes: V vocab_size, T block_size, H heads, D head_size, C n_embd. Memory is that of
V texts at once.
"""

from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from gpt.attention.decompose import check_head
from gpt.attention.frozen import FrozenNorm, freeze
from gpt.attention.trace import blocks_of, device_of, output_matrices
from gpt.evaluate import evaluating
from gpt.model import GPT


def qk_table(model: GPT, layer: int, distance: int | None = None) -> Tensor:
    """Scores (H, V, V): how well does character a (row), as query, match character b (column)?

    An entry is the mean of q.k / sqrt(D) over all pairs of places of a and, before it, b; with
    `distance`, over those pairs that are so far apart (rotary positions: they are all alike).
    Only differences along a row matter to a softmax.

    Args:
        layer: counted from 0.
        distance: characters from a back to b, 0 to block_size - 1; 0 is a character's score on
            itself, so that only the diagonal can happen. None: all from 1 on; block_size >= 2.

    Raises:
        ValueError: if the layer or distance is not there, or the embedding does not reach the
            layer, because no residual stream carries it past the first.
    """
    T = model.config.block_size
    if distance is not None and not 0 <= distance < T:
        raise ValueError(f"distance {distance}: 0 to {T - 1} characters back")
    q, k, _ = embedding_qkv(model, layer)  # (V, H, T, D)
    if distance is None:
        # each query meets the sum of all keys before it
        q, k, pairs = q[:, :, 1:], k.cumsum(2)[:, :, :-1], T * (T - 1) // 2
    else:
        q, k, pairs = q[:, :, distance:], k[:, :, : T - distance], T - distance
    return torch.einsum("ahtd,bhtd->hab", q, k) / pairs * q.shape[-1] ** -0.5


def position_table(model: GPT, layer: int, frequencies: Tensor | None = None) -> Tensor:
    """Scores (H, T, T) of place i (row), as query, on place j (column), whichever characters stand
    there: the mean over all pairs of characters; on itself, i = j, over all characters.

    Places that no query may look at, j > i, are NaN.

    Args:
        layer: counted from 0.
        frequencies: (V,) how often each character comes, in any unit; None: all alike.

    Raises:
        ValueError: as `qk_table`.
    """
    q, k, _ = embedding_qkv(model, layer)  # (V, H, T, D)
    share = torch.ones(len(q)) if frequencies is None else frequencies
    share = (share / share.sum()).to(q)
    mean_q, mean_k = (torch.einsum("vhtd,v->htd", part, share) for part in (q, k))
    scores = mean_q @ mean_k.transpose(-2, -1)  # (H, T, T)
    itself = torch.einsum("vhtd,vhtd,v->ht", q, k, share)
    scores = scores.diagonal_scatter(itself, dim1=-2, dim2=-1) * q.shape[-1] ** -0.5
    future = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, torch.nan)


def distance_table(model: GPT, layer: int, frequencies: Tensor | None = None) -> Tensor:
    """Scores (H, T) on the key so many characters back: the mean of each diagonal of
    `position_table`, whose arguments it has. Entry 0 is a character's score on itself."""
    table = position_table(model, layer, frequencies)
    means = [table.diagonal(-back, -2, -1).mean(-1) for back in range(table.shape[-1])]
    return torch.stack(means, dim=-1)


def ov_table(model: GPT, layer: int, tokens: Tensor) -> Tensor:
    """Logits (H, V, V): if a head looks at character a (row), which next characters (column) rise?

    An entry is what the head adds to the logit when all its weight is on an a, the mean over a's
    places: its value, through the projection and the final norm, times the read-out. The final
    norm is linear at a held scale; the scale is its mean over the characters of `tokens`. Its
    bias and that of the read-out are no head's and left out, and so is a soft cap, which comes
    behind. Each row has its mean taken off, since a shift of all logits changes no odds.

    Args:
        layer: counted from 0.
        tokens: ids (B, T) or (T,) of a text such as the model reads, T <= block_size.

    Raises:
        ValueError: as `qk_table`, or if what the head writes does not reach the logits by itself,
            because without a residual stream another layer takes its place.
    """
    config = model.config
    if not config.residual and (layer < config.n_layer - 1 or config.feed_forward != "none"):
        raise ValueError("without a residual stream this head's output does not reach the logits")
    _, _, v = embedding_qkv(model, layer)  # (V, H, T, D)
    with evaluating(model):
        out = output_matrices(blocks_of(model)[layer].attention)  # (H, D, C)
        writes = torch.einsum("vhd,hdc->hvc", v.mean(2), out)  # (H, V, C)
        writes = mean_final_norm(model, tokens)(writes)
        effects = writes @ cast(nn.Linear, model.lm_head).weight.T  # (H, V, V)
    return effects - effects.mean(-1, keepdim=True)


def mean_final_norm(model: GPT, tokens: Tensor) -> FrozenNorm:
    """The final norm with its scale held at the mean over tokens (B, T) or (T,)."""
    with evaluating(model):
        stream = model.embed(tokens.reshape(-1, tokens.shape[-1]).to(device_of(model)))
        *_, stream = model.walk(stream)
        norm = freeze(model.norm, stream)
    return FrozenNorm(norm.scale.mean(), norm.gain, norm.bias, norm.centred)


def embedding_qkv(model: GPT, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (V, H, T, D) of each character at each place, with nothing but its embedding in
    the stream. Raises ValueError where that does not reach the layer."""
    check_head(model, layer, 0)
    if layer and not model.config.residual:
        raise ValueError(f"without a residual stream no embedding reaches layer {layer + 1}")
    alphabet = torch.arange(model.vocab_size, device=device_of(model))
    block = blocks_of(model)[layer]
    with evaluating(model):
        stream = model.embed(alphabet[:, None].expand(-1, model.config.block_size))  # (V, T, C)
        return block.attention.qkv(block.attention_norm(stream))
