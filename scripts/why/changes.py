"""One thing of attention changed: what the models of a question differ in."""

from collections.abc import Callable

import torch
from torch import Tensor

from gpt.config import Config, ModelConfig
from gpt.model import GPT, Block, MultiHeadAttention, attend

# Each computes what `attend` does: out (B, H, T, D) and the weights (B, H, T, T), of q, k, v and x,
# which are (B, H, T, D). x is what q, k and v are projections of, cut into heads.
Change = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def unchanged(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, v)


def no_scale(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q * q.shape[-1] ** 0.5, k, v)  # undoes the division


def no_mask(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1)
    return weights @ v, weights


def identity_value(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, x)


def query_is_key(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(k, k, v)


def uniform(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(torch.zeros_like(q), k, v)  # equal scores


class ChangedAttention(MultiHeadAttention):
    """The model's attention with one thing changed; `weights` (B, H, T, T) are the last ones."""

    weights: Tensor

    def __init__(self, config: ModelConfig, change: Change):
        super().__init__(config)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        B, T, C = x.shape
        in_heads = x.view(B, T, self.n_head, self.head_size).transpose(1, 2)
        out, self.weights = self.change(*self.qkv(x), in_heads)
        return self.projection(out.transpose(1, 2).reshape(B, T, C))


def changed_model(config: Config, vocab_size: int, change: Change) -> GPT:
    """The GPT that training would begin with, but for its attention."""
    torch.manual_seed(config.train.seed)
    model = GPT(config.model, vocab_size)
    for block in model.blocks:
        assert isinstance(block, Block)
        attention = ChangedAttention(config.model, change)
        attention.load_state_dict(block.attention.state_dict())
        block.attention = attention
    return model
