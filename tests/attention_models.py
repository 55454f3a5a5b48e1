"""Small models of every kind, with weights large enough that nothing about them is trivial."""

import torch

from gpt.config import ModelConfig
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
