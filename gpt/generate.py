"""Writing text: `sample_next` picks a character, `generate` goes on and on."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpt.model import GPT, KVCache


def sample_next(
    logits: Tensor, chance: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """The next character's ids (B,), a function of its arguments alone.

    Args:
        logits: (B, V)
        chance: (B,) uniform numbers in [0, 1), one a row.
        temperature: below 1 bolder, above 1 wilder; 0 takes the likeliest character.
        top_k: only the k likeliest can be chosen; 0: all.
        top_p: only the likeliest that together have this probability (Holtzman et al. 2020).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    # in 64 bits no chance is rounded up to 1, and from 0 downwards no temperature is too small
    probs = ((logits - logits.amax(-1, keepdim=True)).double() / temperature).softmax(dim=-1)
    if 0 < top_k < logits.shape[-1] or top_p < 1:
        probs = _cut(probs, top_k, top_p)
    heights = probs.cumsum(dim=-1)  # (B, V); a character's share of the height is its probability
    point = chance.to(heights)[:, None] * heights[:, -1:]
    return torch.searchsorted(heights, point, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _cut(probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """`probs` (B, V) with zeros for what top-k and top-p leave out; the likeliest always stays."""
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered  # what the likelier ones have together
    keep = before < top_p
    if top_k:
        keep[:, top_k:] = False
    keep[:, 0] = True
    return torch.zeros_like(probs).scatter(-1, order, ordered * keep)


@torch.inference_mode()
def generate(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    *,
    num_samples: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    use_cache: bool = True,
) -> Iterator[Tensor]:
    """Go on after `tokens`, without end: each item is the next character's ids (num_samples,).

    Sample i is a function of (seed, i), however many are written beside it. When the context is
    full its older half is dropped, so that the rest need be read again only every block_size / 2
    characters; with or without the cache the model sees the same.

    Args:
        model: in evaluation mode.
        tokens: (T,) the prompt, at least one character.
    """
    block_size = model.config.block_size
    device = model.token_embedding.weight.device
    window = torch.as_tensor(tokens[-block_size:].astype(np.int64), device=device)
    window = window.repeat(num_samples, 1)  # (B, T)
    cache = KVCache(model, num_samples) if use_cache else None
    unread = window
    for chance in _chances(seed, num_samples):
        logits, _ = model(unread, cache=cache)
        last = logits[:, -1].cpu() if device.type == "mps" else logits[:, -1]  # no 64 bits there
        chosen = sample_next(last, chance.to(last.device), temperature, top_k, top_p)
        yield chosen
        unread = chosen[:, None].to(device)
        window = torch.cat([window, unread], dim=1)
        if window.shape[1] > block_size:
            window = window[:, -max(1, block_size // 2) :]
            cache = KVCache(model, num_samples) if use_cache else None
            unread = window
        unread = unread if use_cache else window


def _chances(seed: int, num_samples: int, ahead: int = 256) -> Iterator[Tensor]:
    """Uniform numbers (num_samples,), without end; row i depends on (seed, i) alone."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in range(num_samples)]
    while True:
        yield from torch.from_numpy(np.stack([row.random(ahead) for row in rows], axis=1))
