"""One text through the model, every step kept: from x to the next character's logits.

x -> q, k, v -> q.k / sqrt(D) -> mask -> softmax -> sum of weight * v -> output projection ->
residual stream -> logits.

Letters in the shapes: T characters of the text, C n_embd, H heads, D head_size, V vocab_size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn as nn
from torch import Tensor

from gpt.attention.frozen import FrozenNorm, freeze
from gpt.evaluate import evaluating
from gpt.model import GPT, Block, MultiHeadAttention, attend

Ids = Tensor | npt.NDArray[np.integer]  # what `tokenizer.encode` gives, or the same as a tensor


@dataclass(frozen=True)
class LayerTrace:
    """The steps of one block, as the page shows them. Rows (T) are the characters of the text."""

    before: Tensor  # (T, C) residual stream that the block reads
    x: Tensor  # (T, C) the same, normalised: what queries, keys and values are made of
    q_content: Tensor  # (H, T, D) query(x), before rotary positions and QK-norm
    k_content: Tensor  # (H, T, D) key(x), before rotary positions and QK-norm
    q: Tensor  # (H, T, D) what am I looking for?
    k: Tensor  # (H, T, D) what do I have?
    v: Tensor  # (H, T, D) what can I share?
    scores: Tensor  # (H, T, T) q.k / sqrt(D), also where the mask applies; row: query, column: key
    weights: Tensor  # (H, T, T) softmax of the masked scores; each row sums to one
    mixed: Tensor  # (H, T, D) weights @ v
    head_writes: Tensor  # (H, T, C) what each head adds: `mixed` through its part of the projection
    feed_forward: Tensor | None  # (T, C) what the feed-forward layer adds; None: there is none
    after: Tensor  # (T, C) residual stream behind the block


@dataclass(frozen=True)
class Trace:
    """One forward pass over one text."""

    tokens: Tensor  # (T,)
    embedded: Tensor  # (T, C) the residual stream's first state
    layers: tuple[LayerTrace, ...]
    final_norm: FrozenNorm  # the final norm at the last state, its scale (T, 1) held
    logits: Tensor  # (T, V) of the next character


def trace(model: GPT, ids: Ids) -> Trace:
    """Run one text and keep every step.

    Args:
        ids: (T,) of one text, 1 <= T <= block_size.

    Raises:
        ValueError: if ids has another shape or length.
    """
    tokens = as_tokens(ids).to(device_of(model))
    with evaluating(model):
        states = [state[0] for state in model.walk(model.embed(tokens[None]))]  # (T, C) each
        steps = zip(blocks_of(model), states, states[1:], strict=False)
        return Trace(
            tokens=tokens,
            embedded=states[0],
            layers=tuple(_trace_block(block, before, after) for block, before, after in steps),
            final_norm=freeze(model.norm, states[-1]),
            logits=model.read_out(states[-1][None])[0],
        )


def _trace_block(block: Block, before: Tensor, after: Tensor) -> LayerTrace:
    """The steps of one block between two states of the residual stream (T, C)."""
    attention = block.attention
    x = block.attention_norm(before)
    q, k, v = (part[0] for part in attention.qkv(x[None]))  # (H, T, D) each
    mixed, weights = attend(q, k, v)
    attended = attention(x[None])[0]  # (T, C)
    feed_forward = None
    if block.has_feed_forward:
        middle = before + attended if block.residual else attended
        feed_forward = block.feed_forward(block.feed_forward_norm(middle)[None])[0]
    return LayerTrace(
        before=before,
        x=x,
        q_content=_split(attention.query(x), like=q),
        k_content=_split(attention.key(x), like=k),
        q=q,
        k=k,
        v=v,
        scores=q @ k.transpose(-2, -1) * attention.head_size**-0.5,
        weights=weights,
        mixed=mixed,
        head_writes=torch.einsum("htd,hdc->htc", mixed, output_matrices(attention)),
        feed_forward=feed_forward,
        after=after,
    )


def _split(x: Tensor, like: Tensor) -> Tensor:
    """x (T, C) split into heads, the shape of `like` (H, T, D)."""
    H, T, D = like.shape
    return x.view(T, H, D).transpose(0, 1)


def weights_by_layer(model: GPT, tokens: Tensor) -> Iterator[Tensor]:
    """Weights (B, H, T, T) of one layer after the other on tokens (B, T); cheaper than a trace."""
    with evaluating(model):
        x = model.embed(tokens.to(device_of(model)))  # (B, T, C)
        for block, state in zip(blocks_of(model), model.walk(x), strict=False):
            q, k, v = block.attention.qkv(block.attention_norm(state))
            yield attend(q, k, v)[1]


def output_matrices(attention: MultiHeadAttention) -> Tensor:
    """(H, D, C): the part of the projection that each head writes through.

    Without a projection head h fills the dimensions h*D to (h+1)*D.
    """
    H, D = attention.n_head, attention.head_size
    weight = attention.projection.weight if isinstance(attention.projection, nn.Linear) else None
    if weight is None:
        weight = torch.eye(H * D, device=attention.query.weight.device)
    return weight.detach().T.reshape(H, D, H * D)


def blocks_of(model: GPT) -> list[Block]:
    """The model's blocks, typed."""
    return [cast(Block, block) for block in model.blocks]


def device_of(model: GPT) -> torch.device:
    return model.token_embedding.weight.device


def head_name(layer: int, head: int) -> str:
    """The name of a head as people read it: both counted from 1.

    >>> head_name(1, 2)
    'L2H3'
    """
    return f"L{layer + 1}H{head + 1}"


def as_tokens(ids: Ids) -> Tensor:
    """`ids` (N,) as int64; an array is copied to the CPU, a tensor stays on its device.

    Raises:
        ValueError: if ids is not one text of at least one character.
    """
    if ids.ndim != 1 or not len(ids):
        raise ValueError(f"ids of shape {tuple(ids.shape)}: one text of one character or more (N,)")
    return ids.long() if isinstance(ids, Tensor) else torch.from_numpy(ids.astype(np.int64))


def in_blocks(ids: Ids, block_size: int) -> Tensor:
    """`ids` (N,) as texts that a model can read, (B, T) with T <= block_size; the rest is left out.

    Raises:
        ValueError: as `as_tokens`.
    """
    T = min(len(tokens := as_tokens(ids)), block_size)
    return tokens[: len(tokens) // T * T].view(-1, T)
