"""The model, from the bigram table to the GPT. Read it from top to bottom.

Letters in the shapes: B batch, T time (characters in a row), C n_embd, H n_head, D head_size,
V vocab_size.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt.config import ModelConfig
from gpt.kernels import relu_squared, rms_norm


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, written out: what `F.scaled_dot_product_attention` computes.

    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, with the causal mask of 3.2.3.

    Args:
        q: what am I looking for? (..., T, D)
        k: what do I have? (..., T, D)
        v: what can I share? (..., T, D)

    Returns:
        out (..., T, D), each row a weighted mean of the rows of v, and the weights (..., T, T):
        rows of non-negative numbers that sum to one.
    """
    T, D = q.shape[-2:]
    scores = (q * D**-0.5) @ k.transpose(-2, -1)  # (..., T, T): does a query match a key?
    future = scores.new_full((T, T), -math.inf).triu(diagonal=1)
    scores = scores + future  # no character attends to a later one
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


class Head(nn.Module):
    """One head of self-attention, as in the lecture: slow and clear.

    `MultiHeadAttention` computes all its heads at once; a test checks that they are equal.
    """

    def __init__(self, n_embd: int, head_size: int):
        super().__init__()
        self.query = nn.Linear(n_embd, head_size, bias=False)  # what am I looking for?
        self.key = nn.Linear(n_embd, head_size, bias=False)  # what do I have?
        self.value = nn.Linear(n_embd, head_size, bias=False)  # what can I share?

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        out, _ = attend(self.query(x), self.key(x), self.value(x))
        return out  # (B, T, D)


RMS_EPS = 1e-6


class RMSNorm(nn.Module):
    """x / rms(x) over the last dimension, nothing learned (Zhang & Sennrich 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, RMS_EPS)


class Rotary(nn.Module):
    """Rotates each pair of dimensions of q or k by an angle that grows with the position, so that
    q.k depends on the positions through their distance alone.

    Su et al. 2021, "RoFormer", section 3.2.2.
    """

    cos: Tensor  # (block_size, D)
    sin: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        half = config.head_size // 2
        frequency = 10000.0 ** (-torch.arange(half) / half)  # (D/2,) radians a character
        angle = torch.arange(config.block_size)[:, None] * frequency  # (block_size, D/2)
        cos, sin = angle.cos(), angle.sin()
        self.register_buffer("cos", torch.cat([cos, cos], -1), persistent=False)
        self.register_buffer("sin", torch.cat([sin, -sin], -1), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (..., T, D) rotated as the characters at positions `start` to `start` + T - 1."""
        cos, sin = (table[start : start + x.shape[-2]] for table in (self.cos, self.sin))
        partner = x.roll(x.shape[-1] // 2, dims=-1)  # dimension i is paired with i + D/2
        return (x * cos + partner * sin).type_as(x)


def norm(config: ModelConfig) -> nn.Module:
    """The normalisation that `config` asks for, (..., C) -> (..., C)."""
    if config.norm == "layer":
        return nn.LayerNorm(config.n_embd)
    return RMSNorm() if config.norm == "rms" else nn.Identity()


class MultiHeadAttention(nn.Module):
    """H heads side by side, then a projection into the residual stream, if there is one.

    QK-norm: Henry et al. 2020, "Query-key normalization for transformers".
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        C, self.n_head, self.head_size = config.n_embd, config.n_head, config.head_size
        self.query = nn.Linear(C, C, bias=False)  # rows h*D to (h+1)*D belong to head h
        self.key = nn.Linear(C, C, bias=False)
        self.value = nn.Linear(C, C, bias=False)
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        self.qk_norm = RMSNorm() if config.qk_norm else nn.Identity()
        self.projection = nn.Linear(C, C, config.bias) if config.residual else nn.Identity()
        self.dropout = config.dropout

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v (B, H, T, D) of x (B, T, C)."""
        B, T, _ = x.shape
        q, k, v = (
            linear(x).view(B, T, self.n_head, self.head_size).transpose(1, 2)  # (B, H, T, D)
            for linear in (self.query, self.key, self.value)
        )
        if self.rotary:
            q, k = self.rotary(q), self.rotary(k)
        return self.qk_norm(q), self.qk_norm(k), v

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        B, T, C = x.shape
        q, k, v = self.qkv(x)
        dropout = self.dropout if self.training else 0.0
        if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not dropout:
            out, _ = attend(q, k, v)  # the fused kernel takes two to four times as long there
        else:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        out = out.transpose(1, 2).reshape(B, T, C)  # the heads' outputs side by side
        return F.dropout(self.projection(out), self.dropout, self.training)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "relu2": relu_squared,
}


class FeedForward(nn.Module):
    """Computes on each character by itself: C -> 4 C -> C.

    Without a residual stream there is no projection: C -> C, as in the early rungs.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        C, width = config.n_embd, 4 * config.n_embd if config.residual else config.n_embd
        self.up = nn.Linear(C, width, config.bias)
        self.activation = ACTIVATIONS[config.feed_forward]
        self.projection = nn.Linear(width, C, config.bias) if config.residual else nn.Identity()
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        x = self.up(x)  # (B, T, 4 C); without a residual stream (B, T, C)
        x = self.activation(x)
        return F.dropout(self.projection(x), self.dropout, self.training)


class Block(nn.Module):
    """Communication, then computation: attention between characters, feed-forward for each."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.residual = config.residual
        self.attention_norm = norm(config)
        self.attention = MultiHeadAttention(config)
        self.has_feed_forward = config.feed_forward != "none"
        if self.has_feed_forward:
            self.feed_forward_norm = norm(config)
            self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        attended = self.attention(self.attention_norm(x))
        x = x + attended if self.residual else attended
        if self.has_feed_forward:
            computed = self.feed_forward(self.feed_forward_norm(x))
            x = x + computed if self.residual else computed
        return x


class GPT(nn.Module):
    """Characters in, logits of the next character out.

    Args:
        config: which of the parts there are; with n_embd 0, the bigram table and nothing else.
        vocab_size: number of characters in the alphabet.
    """

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        C = config.n_embd or vocab_size
        self.token_embedding = nn.Embedding(vocab_size, C)
        if config.token_shift:
            self.token_shift = nn.Parameter(torch.zeros(C))  # begins as if it were not there
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.block_size, C)
        self.embedding_norm = norm(config) if config.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = norm(config)
        self.lm_head = nn.Linear(C, vocab_size, config.bias) if config.n_embd else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        """Keep torch's defaults or draw from N(0, init_std); then apply zero_init.

        Zero projections make each block begin as the identity (Zhang et al. 2019, "Fixup
        initialization").
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding) and self.config.init_std:
                nn.init.normal_(module.weight, std=self.config.init_std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            last = name.endswith(("projection", "lm_head"))
            if last and self.config.zero_init and isinstance(module, nn.Linear):
                nn.init.zeros_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the character that follows each of tokens (B, T).

        Raises:
            ValueError: if T > block_size.
        """
        *_, x = self.walk(self.embed(tokens))  # (B, T, C)
        return self.read_out(x)

    def embed(self, tokens: Tensor) -> Tensor:
        """The first state of the residual stream (B, T, C): which character, at which position.

        Token shift: Peng et al. 2023, "RWKV", section 3.1; Allen-Zhu 2025, "Canon layers".

        Raises:
            ValueError: if T > block_size.
        """
        length, block_size = tokens.shape[1], self.config.block_size
        if length > block_size:
            raise ValueError(f"{length} characters are more than block_size {block_size}")
        x = self.token_embedding(tokens)  # (B, T, C)
        if self.config.token_shift:
            before = F.pad(x[:, :-1], (0, 0, 1, 0))  # (B, T, C) zeros before the first
            x = x + self.token_shift * before
        if self.config.positions == "learned":
            x = x + self.position_embedding.weight[:length]
        return self.embedding_norm(x)

    def walk(self, x: Tensor, first: int = 0) -> Iterator[Tensor]:
        """Walk the residual stream block by block, from block `first` on.

        Yields `x` (B, T, C) and then the state behind each block, each computed when it is asked
        for. `zip(model.blocks, model.walk(x))` is each block with the state that it reads.
        """
        yield x
        for block in self.blocks[first:]:
            x = block(x)
            yield x

    def read_out(self, x: Tensor) -> Tensor:
        """Logits (B, T, V) of the last state of the residual stream (B, T, C).

        Soft cap: Gemma Team 2024, "Gemma 2", section 2, logit soft-capping.
        """
        logits = self.lm_head(self.norm(x)).float()  # (B, T, V)
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits
