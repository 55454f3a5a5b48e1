"""Small models of every kind, with weights large enough that nothing about them is trivial."""

from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from gpt.config import ModelConfig
from gpt.generation.generate import sample_next
from gpt.model import GPT

V, T = 11, 12

HEADS = {"n_layer": 1, "n_head": 4, "n_embd": 16, "norm": "none", "residual": False}
BLOCKS = {"n_layer": 2, "n_head": 2, "n_embd": 16}
MODERN = BLOCKS | {
    "positions": "rotary",
    "norm": "rms",
    "embedding_norm": True,
    "qk_norm": True,
    "feed_forward": "relu2",
    "bias": False,
    "logit_softcap": 15.0,
}
VARIANTS: dict[str, dict] = {
    "bigram": {"n_layer": 0, "n_head": 1, "n_embd": 0, "positions": "none", "norm": "none"},
    "no layers": {"n_layer": 0, "n_head": 1, "n_embd": 16, "bias": True},
    "one head": HEADS | {"n_head": 1, "feed_forward": "none"},
    "heads": HEADS | {"feed_forward": "none"},
    "heads and relu": HEADS | {"feed_forward": "relu"},
    "two layers of heads": HEADS | {"n_layer": 2, "feed_forward": "none", "norm": "layer"},
    "two layers without residual": HEADS | {"n_layer": 2, "feed_forward": "relu", "norm": "rms"},
    "gpt": BLOCKS | {"dropout": 0.3},
    "gelu": BLOCKS | {"feed_forward": "gelu", "embedding_norm": True, "qk_norm": True},
    "attention only": BLOCKS | {"n_layer": 3, "feed_forward": "none"},
    "no positions": BLOCKS | {"positions": "none", "norm": "none"},
    "rotary": BLOCKS | {"positions": "rotary"},
    "modern": MODERN,
    "token shift": MODERN | {"token_shift": True},
    "token shift and learned positions": BLOCKS | {"token_shift": True},
}
WITH_HEADS = {name: kind for name, kind in VARIANTS.items() if kind["n_layer"]}


def build(kind: dict, seed: int = 0, std: float = 0.3) -> GPT:
    """A model whose every parameter, gains and biases too, is drawn from N(0, std)."""
    config = ModelConfig(**({"block_size": T} | kind))
    model = GPT(config, V)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw) * std
            gain = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + noise if gain else noise)
    return model


def text(length: int = T, seed: int = 1, vocab_size: int = V) -> torch.Tensor:
    """Random ids (length,)."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (length,), generator=draw)


@torch.no_grad()
def read_on(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (B, N, V) after each of `tokens` (B, N), however many: what a decoder shall give.

    Nothing is kept from one character to the next. Which ones a character sees: when block_size
    are in sight, the older half is out of it from then on.
    """
    N, block_size = tokens.shape[1], model.config.block_size
    oldest = [0]  # in sight of each character
    for i in range(1, N):
        full = i - oldest[-1] == block_size
        oldest.append(oldest[-1] + max(1, block_size // 2) * full)
    if model.config.positions == "learned":  # the oldest in sight stands at place 0
        shown = [tokens[:, first : i + 1] for i, first in enumerate(oldest)]
        return torch.stack([model(seen)[:, -1] for seen in shown], dim=1)
    longer = GPT(model.config.model_copy(update={"block_size": N}), model.vocab_size).eval()
    longer.load_state_dict(model.state_dict())
    i = torch.arange(N)
    seen = (i <= i[:, None]) & (i >= torch.tensor(oldest)[:, None])  # (N, N)
    attention = F.scaled_dot_product_attention
    with patch.object(F, attention.__name__, lambda q, k, v, **_: attention(q, k, v, seen)):
        return longer(tokens)


def write_on(model: GPT, prompt: list[int], count: int, seed: int, row: int) -> list[int]:
    """The `count` characters of `generate`'s row `row`, all of the text read for each one."""
    text = prompt[-model.config.block_size :]
    begun = len(text)
    for chance in np.random.Generator(np.random.Philox(key=[seed, row])).random(count):
        logits = read_on(model, torch.tensor([text]))[:, -1].numpy()
        text = [*text, int(sample_next(logits, np.array([chance]))[0])]
    return text[begun:]
