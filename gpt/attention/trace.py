"""One text through the model, every step kept: the chain from x to the next character's odds.

x -> q, k, v -> q.k -> / sqrt(D) -> mask -> softmax -> sum of weight * v -> output projection ->
residual stream -> logits.

Letters in the shapes: T characters of the text, C n_embd, H heads, D head_size, V vocab_size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from gpt.attention.frozen import FrozenNorm, freeze
from gpt.model import GPT, Block, MultiHeadAttention, attend


@dataclass(frozen=True)
class LayerTrace:
    """What happened in one block. Every row is a character of the text."""

    before: Tensor  # (T, C) residual stream as the layer finds it
    attention_norm: FrozenNorm  # the normalisation that makes x of it, its scale held
    x: Tensor  # (T, C) what the heads read
    q_content: Tensor  # (H, T, D) query and key before rotary positions and QK-norm, which are
    k_content: Tensor  # (H, T, D) the same as q and k where a model has neither
    q: Tensor  # (H, T, D) what am I looking for?
    k: Tensor  # (H, T, D) what do I have?
    v: Tensor  # (H, T, D) what can I share?
    products: Tensor  # (H, T, T) q.k; row: the character that asks; column: the one looked at
    scores: Tensor  # (H, T, T) products / sqrt(D), also where the mask forbids to look
    weights: Tensor  # (H, T, T) softmax of the masked scores; each row sums to one
    mixed: Tensor  # (H, T, D) sum over keys of weight * v
    head_writes: Tensor  # (H, T, C) what each head adds, its columns of the projection applied
    attention_bias: Tensor  # (C,) the projection's bias, which is no head's; zeros if none
    middle: Tensor  # (T, C) residual stream behind the heads
    feed_forward_x: Tensor | None  # (T, C) what the feed-forward layers read; None: there are none
    feed_forward: Tensor | None  # (T, C) what they add, their biases in it
    after: Tensor  # (T, C) residual stream as the layer leaves it


@dataclass(frozen=True)
class Trace:
    """One forward pass over one text."""

    tokens: Tensor  # (T,)
    character: Tensor  # (T, C) rows of the token table
    position: Tensor | None  # (T, C) rows of the position table; None: nothing is learned of it
    embedding_norm: FrozenNorm  # what is applied to their sum
    embedded: Tensor  # (T, C) residual stream's first state
    mask: Tensor  # (T, T) bool, True where the row's character may look at the column's
    layers: tuple[LayerTrace, ...]
    final: Tensor  # (T, C) residual stream's last state
    final_norm: FrozenNorm  # final_norm.scale (T, 1) is the final norm's scale
    final_x: Tensor  # (T, C) what the logits are read from
    logits_uncapped: Tensor  # (T, V) before the soft cap; the same as logits where there is none
    logits: Tensor  # (T, V) of the next character


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every module's own mode as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def trace(model: GPT, tokens: Tensor) -> Trace:
    """Run one text and keep every step of it.

    Args:
        tokens: (T,) ids, 1 <= T <= block_size, on any device.

    Raises:
        ValueError: if tokens is of another shape or length.
    """
    tokens = check_tokens(model, tokens)
    with evaluating(model):
        character = model.token_embedding(tokens)
        position = None
        if model.config.positions == "learned":
            position = model.position_embedding.weight[: len(tokens)]
        embedded = stream = model.embed(tokens[None])[0]  # (T, C)
        states = [state[0] for state in model.walk(stream[None])]
        layers = map(trace_block, blocks_of(model), states)
        stream = states[-1]
        final_x = model.norm(stream)
        return Trace(
            tokens=tokens,
            character=character,
            position=position if position is None else position.detach(),
            embedding_norm=freeze(
                model.embedding_norm, character if position is None else character + position
            ),
            embedded=embedded,
            mask=torch.ones(
                len(tokens), len(tokens), dtype=torch.bool, device=stream.device
            ).tril(),
            layers=tuple(layers),
            final=stream,
            final_norm=freeze(model.norm, stream),
            final_x=final_x,
            logits_uncapped=model.lm_head(final_x).float(),
            logits=model.read_out(stream[None])[0],
        )


def trace_block(block: Block, before: Tensor) -> LayerTrace:
    """The steps of one block on the stream (T, C) that it finds."""
    attention = block.attention
    x = block.attention_norm(before)
    q, k, v = (part[0] for part in attention.qkv(x[None]))  # (H, T, D) each
    q_content, k_content = (heads(linear(x), q) for linear in (attention.query, attention.key))
    mixed, weights = attend(q, k, v)
    products = q @ k.transpose(-2, -1)  # (H, T, T)
    head_writes = torch.einsum("htd,hdc->htc", mixed, output_matrices(attention))
    bias = output_bias(attention, like=before)
    attended = head_writes.sum(0) + bias
    middle = before + attended if block.residual else attended
    read, thought, after = None, None, middle
    if block.has_feed_forward:
        read = block.feed_forward_norm(middle)
        thought = block.feed_forward(read[None])[0]
        after = middle + thought if block.residual else thought
    return LayerTrace(
        before=before,
        attention_norm=freeze(block.attention_norm, before),
        x=x,
        q_content=q_content,
        k_content=k_content,
        q=q,
        k=k,
        v=v,
        products=products,
        scores=products * attention.head_size**-0.5,
        weights=weights,
        mixed=mixed,
        head_writes=head_writes,
        attention_bias=bias,
        middle=middle,
        feed_forward_x=read,
        feed_forward=thought,
        after=after,
    )


def attention_weights(model: GPT, tokens: Tensor) -> Tensor:
    """Weights (L, B, H, T, T) of every head on tokens (B, T), and nothing else: cheaper than
    a trace. L is the number of layers; 0 for the bigram table."""
    B, T = tokens.shape
    none = torch.zeros(0, B, model.config.n_head, T, T, device=device_of(model))
    return torch.cat([none, *(weights[None] for weights in weights_by_layer(model, tokens))])


def weights_by_layer(model: GPT, tokens: Tensor) -> Iterator[Tensor]:
    """The same, one layer (B, H, T, T) after the other."""
    with evaluating(model):
        stream = model.embed(tokens.to(device_of(model)))  # (B, T, C)
        for block, state in zip(blocks_of(model), model.walk(stream), strict=False):
            q, k, v = block.attention.qkv(block.attention_norm(state))
            yield attend(q, k, v)[1]


def output_matrices(attention: MultiHeadAttention) -> Tensor:
    """(H, D, C): how each head's output is written to the stream. Without a projection the
    heads' outputs stand side by side: head h fills the dimensions h*D to (h+1)*D."""
    H, D = attention.n_head, attention.head_size
    weight = attention.projection.weight if isinstance(attention.projection, nn.Linear) else None
    if weight is None:
        weight = torch.eye(H * D, device=attention.query.weight.device)
    return weight.detach().T.reshape(H, D, H * D)


def output_bias(attention: MultiHeadAttention, like: Tensor) -> Tensor:
    """(C,): the projection's bias, or zeros on the device of `like` (..., C)."""
    bias = attention.projection.bias if isinstance(attention.projection, nn.Linear) else None
    return like.new_zeros(like.shape[-1]) if bias is None else bias.detach()


def heads(x: Tensor, like: Tensor) -> Tensor:
    """x (T, C) cut into heads: (H, T, D), the shape of `like`."""
    H, T, D = like.shape
    return x.view(T, H, D).transpose(0, 1)


def blocks_of(model: GPT) -> list[Block]:
    return [cast(Block, block) for block in model.blocks]


def device_of(model: GPT) -> torch.device:
    return model.token_embedding.weight.device


def head_name(layer: int, head: int) -> str:
    """How people are shown a head: both counted from 1.

    >>> head_name(1, 2)
    'L2H3'
    """
    return f"L{layer + 1}H{head + 1}"


def check_tokens(model: GPT, tokens: Tensor) -> Tensor:
    """`tokens` on the model's device; one text of a length that the model can read."""
    longest = model.config.block_size
    if tokens.dim() != 1 or not 1 <= len(tokens) <= longest:
        raise ValueError(
            f"tokens of shape {tuple(tokens.shape)}: one text of 1 to {longest} characters (T,)"
        )
    return tokens.to(device_of(model))
