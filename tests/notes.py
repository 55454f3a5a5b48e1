"""The self-attention snippet of the notes that this project grew from, word for word."""

from torch import Tensor

SNIPPET = """
import torch
from torch.nn import functional as F
import torch.nn as nn

torch.manual_seed(1337)

B, T, C = 4, 3, 5  # batch, time, channels
x = torch.randn(B, T, C)

head_size = 6

# What am i looking for?
query = nn.Linear(in_features=C, out_features=head_size, bias=False)

# What do I have ?
key = nn.Linear(in_features=C, out_features=head_size, bias=False)

# What I can share?
value = nn.Linear(in_features=C, out_features=head_size, bias=False)

k = key(x)
q = query(x)
v = value(x)

wei = q @ k.transpose(-2, -1) * head_size**-0.5   # Scaled dot product

tril = torch.tril(torch.ones(T, T))
wei = wei.masked_fill(tril == 0, float('-inf'))
wei = F.softmax(wei, dim=-1)
out = wei @ v
"""


def run_snippet() -> dict[str, Tensor]:
    """x (4, 3, 5); q, k, v, out (4, 3, 6); wei (4, 3, 3), the weights; query, key, value (6, 5)."""
    made: dict = {}
    exec(SNIPPET, made)
    found = {name: made[name].detach() for name in ("x", "q", "k", "v", "wei", "out")}
    return found | {name: made[name].weight.detach() for name in ("query", "key", "value")}
