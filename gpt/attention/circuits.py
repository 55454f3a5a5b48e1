"""A head's rule over the whole alphabet, read from its weights rather than from one text.

Which character attends to which (QK circuit), how that depends on the positions, and which next
characters become likelier (OV circuit): Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits". With 65 characters, unlike with 50,000 tokens, the whole table can be shown.

The tables are computed from the embedding of a character alone, for each character at each position
of a block, and so is every normalisation. In layer 1 that is the whole residual stream: a table is
the exact mean of the scores that texts get. In later layers it is the direct path, without what
earlier layers wrote. With token_shift it is the direct path in layer 1 too: the share of the
character before is left out.

Letters in the shapes: V vocab_size, T block_size, H heads, D head_size, C n_embd. Memory is that of
V texts at once.
"""

from dataclasses import replace
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from gpt.attention.decompose import check_head
from gpt.attention.frozen import FrozenNorm, freeze
from gpt.attention.trace import Ids, blocks_of, device_of, in_blocks, output_matrices
from gpt.evaluate import evaluating
from gpt.model import GPT


def qk_table(model: GPT, layer: int, distance: int | None = None) -> Tensor:
    """Scores (H, V, V): how well character a (row), as query, matches character b (column).

    An entry is the mean of q.k / sqrt(D) over all positions of a and, before it, b; with
    `distance`, over those that are so far apart (with rotary positions all of them are equal).
    Only differences along a row matter to the softmax.

    Args:
        layer: counted from 0.
        distance: characters from a back to b, 0 to block_size - 1; at 0, a character's score on
            itself, only the diagonal can occur. None: all from 1 on; block_size >= 2.

    Raises:
        ValueError: if there is no such layer or distance, or if the embedding does not reach the
            layer because there is no residual stream.
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
    """Scores (H, T, T) of position i (row), as query, on position j (column).

    The mean over all pairs of characters; for i = j over all characters. NaN where the mask
    applies, j > i.

    Args:
        layer: counted from 0.
        frequencies: (V,) of the characters, in any unit; None: all equal.

    Raises:
        ValueError: as `qk_table`.
    """
    q, k, _ = embedding_qkv(model, layer)  # (V, H, T, D)
    share = q.new_ones(len(q)) if frequencies is None else frequencies.to(q)
    share = share / share.sum()
    mean_q, mean_k = (torch.einsum("vhtd,v->htd", part, share) for part in (q, k))
    scores = mean_q @ mean_k.transpose(-2, -1)  # (H, T, T)
    itself = torch.einsum("vhtd,vhtd,v->ht", q, k, share)
    scores = scores.diagonal_scatter(itself, dim1=-2, dim2=-1) * q.shape[-1] ** -0.5
    future = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, torch.nan)


def distance_table(model: GPT, layer: int, frequencies: Tensor | None = None) -> Tensor:
    """Scores (H, T) by distance: the mean of each diagonal of `position_table`; see there.

    Entry 0 is a character's score on itself.
    """
    table = position_table(model, layer, frequencies)
    means = [table.diagonal(-back, -2, -1).mean(-1) for back in range(table.shape[-1])]
    return torch.stack(means, dim=-1)


def ov_table(model: GPT, layer: int, ids: Ids) -> Tensor:
    """Logits (H, V, V): what a head adds to each next character (column) when it attends to
    character a (row) alone.

    The value of a, its mean over the positions, goes through the projection, the final norm and
    lm_head. The final norm's scale is held at its mean over `ids`; biases and the soft cap are
    left out. Each row has its mean subtracted: a shift of all logits changes no probability.

    Args:
        layer: counted from 0.
        ids: (N,) of a typical text; one longer than a block is cut into blocks.

    Raises:
        ValueError: as `qk_table`, or if the head's output does not reach the logits because there
            is no residual stream.
    """
    config = model.config
    if not config.residual and (layer < config.n_layer - 1 or config.feed_forward != "none"):
        raise ValueError("without a residual stream this head's output does not reach the logits")
    _, _, v = embedding_qkv(model, layer)  # (V, H, T, D)
    with evaluating(model):
        out = output_matrices(blocks_of(model)[layer].attention)  # (H, D, C)
        writes = torch.einsum("vhd,hdc->hvc", v.mean(2), out)  # (H, V, C)
        writes = mean_final_norm(model, ids)(writes)
        effects = writes @ cast(nn.Linear, model.lm_head).weight.T  # (H, V, V)
    return effects - effects.mean(-1, keepdim=True)


def mean_final_norm(model: GPT, ids: Ids) -> FrozenNorm:
    """The final norm with its scale held at the mean over the characters of `ids` (N,)."""
    tokens = in_blocks(ids, model.config.block_size).to(device_of(model))  # (B, T)
    with evaluating(model):
        *_, last = model.walk(model.embed(tokens))  # (B, T, C)
        norm = freeze(model.norm, last)
    return replace(norm, scale=norm.scale.mean())


def embedding_qkv(model: GPT, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (V, H, T, D) of each character at each position, made of its embedding alone.

    Raises:
        ValueError: if there is no such layer, or if the embedding does not reach it.
    """
    check_head(model, layer, 0)
    if layer and not model.config.residual:
        raise ValueError(f"without a residual stream no embedding reaches layer {layer + 1}")
    block = blocks_of(model)[layer]
    with evaluating(model):
        return block.attention.qkv(block.attention_norm(_each_alone(model)))


def _each_alone(model: GPT) -> Tensor:
    """The embedding (V, T, C) of each character at each position, with no share of one before."""
    x = model.token_embedding.weight[:, None].expand(-1, model.config.block_size, -1)
    if model.config.positions == "learned":
        x = x + model.position_embedding.weight
    return cast(Tensor, model.embedding_norm(x))
