"""Decoding with a KV cache: `GPT.forward` a character at a time.

The prompt is prefilled by the model's own blocks, which fill the cache of keys and values. Later
characters are computed in numpy on the CPU: twice as fast as torch on vectors this short. A test
checks that the logits are those of `GPT.forward`.

When the context is full, the older half is evicted from the cache. Above layer 1, kept keys and
values still carry information from evicted characters (with token_shift, one character's in layer 1
too). Learned positions do not allow eviction: there the newer half is prefilled anew, at positions
that start from 0.

Letters in the shapes as in gpt/model.py: B texts side by side, S characters in the cache.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt.model import GPT, RMS_EPS, Block, RMSNorm

Array = npt.NDArray[np.float32]
Function = Callable[[Array], Array]


class Decoder:
    """Decodes B texts side by side.

    Args:
        model: in evaluation mode; its weights must not change meanwhile.
        rows: B
    """

    def __init__(self, model: GPT, rows: int):
        self.model = model
        self.layers = [_Layer(cast(Block, block), model, rows) for block in model.blocks]
        self.characters = model.token_embedding.weight.numpy(force=True)  # (V, C)
        self.shifts = model.config.token_shift
        if self.shifts:
            self.token_shift = model.token_shift.numpy(force=True)  # (C,)
        self.learned = model.config.positions == "learned"
        if self.learned:
            self.positions = model.position_embedding.weight.numpy(force=True)  # (block_size, C)
        self.embedding_norm, self.norm = _norm(model.embedding_norm), _norm(model.norm)
        self.lm_head = _linear(rows, model.lm_head)
        self.block_size, self.length = model.config.block_size, 0  # length: S
        self.tokens = np.empty((rows, self.block_size), np.int64)  # kept to be prefilled anew

    def prefill(self, tokens: npt.NDArray[np.int64]) -> Array:
        """Logits (B, V) of the characters after `tokens` (B, T), 1 <= T <= block_size.

        A prompt that all texts share is given once, as (1, T).
        """
        self.length = tokens.shape[1] - 1
        self.tokens[:, : self.length] = tokens[:, :-1]
        if self.length:  # a GPU's fused attention refuses a text without characters
            self._fill_cache(tokens[:, :-1])
        if self.shifts:  # the last but one is before the one to decode; zeros if there is none
            self.before = self.characters[tokens[:, -2:-1]].sum(1)  # (B, C)
        return self.decode(np.broadcast_to(tokens[:, -1], len(self.tokens)))

    @np.errstate(all="ignore")  # as torch does
    def decode(self, token: npt.NDArray[np.int64]) -> Array:
        """Logits (B, V) of the characters after the cached ones and `token` (B,), now cached."""
        if self.length == self.block_size:
            older = max(1, self.length // 2)
            if self.learned:
                return self.prefill(np.column_stack([self.tokens[:, older:], token]))
            for layer in self.layers:
                layer.evict(older)
            self.length -= older
        place, self.length = self.length, self.length + 1
        self.tokens[:, place] = token
        return self._logits(token, place)

    @torch.inference_mode()
    def _fill_cache(self, tokens: npt.NDArray[np.int64]) -> None:  # (B, T)
        device = self.model.token_embedding.weight.device
        x = self.model.embed(torch.from_numpy(tokens).to(device))  # (B, T, C)
        # walk is lazy: the last block's output, which is not needed, is not computed
        for layer, state in zip(self.layers, self.model.walk(x), strict=False):
            layer.fill_cache(state)

    def _logits(self, token: npt.NDArray[np.int64], place: int) -> Array:  # (B,)
        x = self.characters[token]  # (B, C)
        if self.shifts:
            x, self.before = x + self.token_shift * self.before, x
        if self.learned:
            x = x + self.positions[place]
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer.decode(x, place)
        logits = self.lm_head(self.norm(x))  # (B, V)
        cap = self.model.config.logit_softcap
        return cap * np.tanh(logits / cap) if cap else logits


class _Layer:
    """A block and its KV cache."""

    def __init__(self, block: Block, model: GPT, rows: int):
        self.block, config = block, model.config
        H, D = self.heads = config.n_head, config.head_size
        self.keys = np.empty((rows, H, config.block_size, D), np.float32)  # (B, H, S, D)
        self.values = np.empty_like(self.keys)
        attention = block.attention
        if attention.rotary:
            rotary = attention.rotary
            self.cos, self.sin = rotary.cos.numpy(force=True), rotary.sin.numpy(force=True)
        self.attention_norm, self.qk_norm = _norm(block.attention_norm), _norm(attention.qk_norm)
        self.qkv = _linear(rows, attention.query, attention.key, attention.value)
        self.projection = _linear(rows, attention.projection)
        if block.has_feed_forward:
            self.feed_forward_norm = _norm(block.feed_forward_norm)
            self.up = _linear(rows, block.feed_forward.up)
            self.activation = _ACTIVATIONS[config.feed_forward]
            self.down = _linear(rows, block.feed_forward.projection)

    def fill_cache(self, x: Tensor) -> None:  # (B, T, C)
        _, k, v = self.block.attention.qkv(self.block.attention_norm(x))  # (B, H, T, D)
        self.keys[:, :, : x.shape[1]] = k.numpy(force=True)
        self.values[:, :, : x.shape[1]] = v.numpy(force=True)

    def evict(self, older: int) -> None:
        """Remove the first `older` characters from the cache; the others move to their places."""
        keys, values = self.keys[:, :, older:], self.values[:, :, older:]
        if self.block.attention.rotary:  # rotated back by as many places
            keys = _rotate(keys, self.cos[older : older + 1], -self.sin[older : older + 1])
        self.keys[:, :, :-older], self.values[:, :, :-older] = keys, values

    def decode(self, x: Array, place: int) -> Array:  # (B, C)
        attended = self.projection(self._attend(self.qkv(self.attention_norm(x)), place))
        x = x + attended if self.block.residual else attended
        if self.block.has_feed_forward:
            computed = self.down(self.activation(self.up(self.feed_forward_norm(x))))
            x = x + computed if self.block.residual else computed
        return x

    def _attend(self, qkv: Array, place: int) -> Array:  # (B, 3 C)
        B, (H, D) = len(qkv), self.heads
        qkv = qkv.reshape(B, 3, H, D)
        qk, v = qkv[:, :2], qkv[:, 2]
        if self.block.attention.rotary:
            qk = _rotate(qk, self.cos[place], self.sin[place])
        qk = self.qk_norm(qk)
        self.keys[:, :, place], self.values[:, :, place] = qk[:, 1], v
        q, keys = qk[:, 0, :, None] * D**-0.5, self.keys[:, :, : place + 1]
        scores = q @ keys.swapaxes(-1, -2)  # (B, H, 1, S)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = weights @ self.values[:, :, : place + 1] / weights.sum(-1, keepdims=True)
        return out.reshape(B, H * D)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """x (..., D) rotated as by `Rotary`, with the given rows of its tables."""
    half = x.shape[-1] // 2
    partner: Array = np.concatenate([x[..., half:], x[..., :half]], axis=-1)
    return x * cos + partner * sin


_ACTIVATIONS: dict[str, Function] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: F.gelu(torch.from_numpy(x)).numpy(),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
}


def _norm(module: nn.Module) -> Function:
    """A normalisation of the model as a numpy function, x (..., C) -> (..., C)."""
    if isinstance(module, RMSNorm):
        return lambda x: _by_rms(x, RMS_EPS)
    if isinstance(module, nn.LayerNorm):
        gain, bias = module.weight.numpy(force=True), module.bias.numpy(force=True)
        eps, C = module.eps, len(gain)
        return lambda x: _by_rms(x - x.sum(-1, keepdims=True) / C, eps) * gain + bias
    return lambda x: x


def _by_rms(x: Array, eps: float) -> Array:
    return x / np.sqrt(np.vecdot(x, x)[..., None] / x.shape[-1] + eps)


def _linear(rows: int, *layers: nn.Module) -> Function:
    """Linear layers of one input, side by side, as a numpy function, x (B, K) -> (B, N)."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if not linear:
        return lambda x: x
    weight = torch.cat([layer.weight for layer in linear]).numpy(force=True)  # (N, K)
    columns = np.ascontiguousarray(weight.T)  # (K, N)

    def of_one(x: Array) -> Array:  # a matrix product takes 40 % longer at 10 M parameters
        return np.vecdot(weight, x)[None]

    def of_several(x: Array) -> Array:
        return x @ columns

    product = of_one if rows == 1 else of_several
    if linear[0].bias is None:
        return product
    bias = torch.cat([layer.bias for layer in linear]).numpy(force=True)
    return lambda x: product(x) + bias
