"""Reading on, a character at a time: `GPT.forward` without what only training needs.

The model's own modules read the beginning; of its characters only keys and values are kept. What
is computed for each one after that is written in numpy, which on vectors as short as a character's
takes half of torch's time; so it is on the CPU, wherever the model lives. A test holds it equal to
`GPT.forward`.

When the context is full, the keys and values of its older half are forgotten. Those of the newer
half stay, and with them, in the layers above the first, what their characters had seen of the older
one. Learned positions do not allow that: there the newer half is read again as a beginning.

Letters in the shapes as in gpt/model.py: B texts side by side, S characters remembered.
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
    """Reads B texts side by side.

    Args:
        model: in evaluation mode; its weights must stay as they are.
        rows: B
    """

    def __init__(self, model: GPT, rows: int):
        self.model = model
        self.layers = [_Layer(cast(Block, block), model, rows) for block in model.blocks]
        self.characters = model.token_embedding.weight.numpy(force=True)  # (V, C)
        self.learned = model.config.positions == "learned"
        if self.learned:
            self.places = model.position_embedding.weight.numpy(force=True)  # (block_size, C)
        self.embedding_norm, self.norm = _norm(model.embedding_norm), _norm(model.norm)
        self.lm_head = _linear(rows, model.lm_head)
        self.block_size, self.length = model.config.block_size, 0  # length: S
        self.tokens = np.empty((rows, self.block_size), np.int64)  # for learned positions to reread

    def begin(self, tokens: npt.NDArray[np.int64]) -> Array:
        """Logits (B, V) of the characters after `tokens` (B, T), 1 <= T <= block_size.

        A beginning that all texts share is read once, as (1, T).
        """
        self.length = tokens.shape[1] - 1
        self.tokens[:, : self.length] = tokens[:, :-1]
        self._remember(tokens[:, :-1])
        return self.go_on(np.broadcast_to(tokens[:, -1], len(self.tokens)))

    @np.errstate(all="ignore")  # as torch does
    def go_on(self, token: npt.NDArray[np.int64]) -> Array:
        """Logits (B, V) of the characters after what was read before and then `token` (B,)."""
        if self.length == self.block_size:
            older = max(1, self.length // 2)
            if self.learned:
                return self.begin(np.column_stack([self.tokens[:, older:], token]))
            for layer in self.layers:
                layer.forget(older)
            self.length -= older
        place, self.length = self.length, self.length + 1
        self.tokens[:, place] = token
        return self._read(token, place)

    @torch.inference_mode()
    def _remember(self, tokens: npt.NDArray[np.int64]) -> None:  # (B, T)
        device = self.model.token_embedding.weight.device
        x = self.model.embed(torch.from_numpy(tokens).to(device))  # (B, T, C)
        for layer, state in zip(self.layers, self.model.walk(x), strict=False):
            layer.remember(state)

    def _read(self, token: npt.NDArray[np.int64], place: int) -> Array:  # (B,)
        x = self.characters[token]  # (B, C)
        if self.learned:
            x = x + self.places[place]
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer.go_on(x, place)
        logits = self.lm_head(self.norm(x))  # (B, V)
        cap = self.model.config.logit_softcap
        return cap * np.tanh(logits / cap) if cap else logits


class _Layer:
    """A block, and the keys and values of the characters that it has read."""

    def __init__(self, block: Block, model: GPT, rows: int):
        self.block, config = block, model.config
        H, D = self.heads = config.n_head, config.head_size
        self.keys = np.empty((rows, H, config.block_size, D), np.float32)  # (B, H, S, D)
        self.values = np.empty_like(self.keys)
        attention = block.attention
        if attention.rotary:
            turn = attention.rotary
            self.cos, self.sin = turn.cos.numpy(force=True), turn.sin.numpy(force=True)
        self.attention_norm, self.qk_norm = _norm(block.attention_norm), _norm(attention.qk_norm)
        self.qkv = _linear(rows, attention.query, attention.key, attention.value)
        self.projection = _linear(rows, attention.projection)
        if block.has_feed_forward:
            self.feed_forward_norm = _norm(block.feed_forward_norm)
            self.up = _linear(rows, block.feed_forward.up)
            self.activation = _ACTIVATIONS[config.feed_forward]
            self.down = _linear(rows, block.feed_forward.projection)

    def remember(self, x: Tensor) -> None:  # (B, T, C)
        _, k, v = self.block.attention.qkv(self.block.attention_norm(x))  # (B, H, T, D)
        self.keys[:, :, : x.shape[1]] = k.numpy(force=True)
        self.values[:, :, : x.shape[1]] = v.numpy(force=True)

    def forget(self, older: int) -> None:
        """Drop the first `older` characters; the others take their places."""
        keys, values = self.keys[:, :, older:], self.values[:, :, older:]
        if self.block.attention.rotary:  # turned back by as many places
            keys = _turn(keys, self.cos[older : older + 1], -self.sin[older : older + 1])
        self.keys[:, :, :-older], self.values[:, :, :-older] = keys, values

    def go_on(self, x: Array, place: int) -> Array:  # (B, C)
        attended = self.projection(self._attend(self.qkv(self.attention_norm(x)), place))
        x = x + attended if self.block.residual else attended
        if self.block.has_feed_forward:
            thought = self.down(self.activation(self.up(self.feed_forward_norm(x))))
            x = x + thought if self.block.residual else thought
        return x

    def _attend(self, qkv: Array, place: int) -> Array:  # (B, 3 C)
        B, (H, D) = len(qkv), self.heads
        qkv = qkv.reshape(B, 3, H, D)
        qk, v = qkv[:, :2], qkv[:, 2]
        if self.block.attention.rotary:
            qk = _turn(qk, self.cos[place], self.sin[place])
        qk = self.qk_norm(qk)
        self.keys[:, :, place], self.values[:, :, place] = qk[:, 1], v
        q, keys = qk[:, 0, :, None] * D**-0.5, self.keys[:, :, : place + 1]
        scores = q @ keys.swapaxes(-1, -2)  # (B, H, 1, S)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = weights @ self.values[:, :, : place + 1] / weights.sum(-1, keepdims=True)
        return out.reshape(B, H * D)


def _turn(x: Array, cos: Array, sin: Array) -> Array:
    """x (..., D) turned as `Rotary` does, by the rows of its tables that are given."""
    half = x.shape[-1] // 2
    partner: Array = np.concatenate([x[..., half:], x[..., :half]], axis=-1)
    return x * cos + partner * sin


_ACTIVATIONS: dict[str, Function] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: F.gelu(torch.from_numpy(x)).numpy(),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
}


def _norm(module: nn.Module) -> Function:
    """What a normalisation of the model does, x (..., C) -> (..., C)."""
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
    """What linear layers of the same input do, x (B, K) -> (B, N), side by side."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if not linear:
        return lambda x: x
    weight = torch.cat([layer.weight for layer in linear]).numpy(force=True)  # (N, K)
    columns = np.ascontiguousarray(weight.T)  # (K, N)

    def of_one(x: Array) -> Array:  # at 10 M parameters a matrix product takes 40 % longer
        return np.vecdot(weight, x)[None]

    def of_several(x: Array) -> Array:
        return x @ columns

    product = of_one if rows == 1 else of_several
    if linear[0].bias is None:
        return product
    bias = torch.cat([layer.bias for layer in linear]).numpy(force=True)
    return lambda x: product(x) + bias
