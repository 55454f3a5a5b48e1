"""Writing text: `sample_next` picks a character, `generate` repeats it without end."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gpt.generation.decoder import Decoder
from gpt.model import GPT

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@np.errstate(over="ignore")  # at a tiny temperature, logits divided by it are infinite
def sample_next(
    logits: Floats, chance: Floats, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Ids:
    """The next character's ids (B,), a function of its arguments alone.

    Args:
        logits: (B, V)
        chance: (B,) uniform numbers in [0, 1), one a row.
        temperature: divides the logits; 0 takes the most probable character.
        top_k: sample from the k most probable; 0: from all.
        top_p: sample from the fewest that together have this probability (nucleus sampling,
            Holtzman et al. 2020, "The curious case of neural text degeneration", section 3.1).
    """
    if temperature == 0:
        return logits.argmax(axis=-1)
    # float64: no chance is rounded up to 1; differences <= 0: no temperature is too small
    below = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    weights = np.exp(below / temperature)  # (B, V) unnormalised probabilities
    if 0 < top_k < logits.shape[-1] or top_p < 1:
        weights = _truncated(weights, top_k, top_p)
    cumulative = weights.cumsum(axis=-1)
    point = chance[:, None] * cumulative[:, -1:]  # below the last one, so that an id is left
    return (cumulative <= point).sum(axis=-1)


def _truncated(weights: Floats, top_k: int, top_p: float) -> Floats:
    """`weights` (B, V), zero where top-k and top-p exclude a character; the top one stays."""
    order = np.argsort(-weights, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=-1)
    before = ordered.cumsum(axis=-1) - ordered  # total weight of the more probable ones
    keep = before < top_p * ordered.sum(axis=-1, keepdims=True)
    if top_k:
        keep[:, top_k:] = False
    keep[:, 0] = True
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, ordered * keep, axis=-1)
    return kept


def generate(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    *,
    num_samples: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[Ids]:
    """Continue `tokens` without end: each item is the next character's ids (num_samples,).

    Sample i is a function of (seed, i), up to rounding, whatever num_samples is. When the context
    is full, its older half is evicted from the KV cache: see gpt/generation/decoder.py.

    Args:
        model: in evaluation mode.
        tokens: (T,) the prompt, at least one character; its last block_size are used.
        seed: of all samples.
        temperature, top_k, top_p: see `sample_next`.
    """
    prompt = tokens[-model.config.block_size :].astype(np.int64)
    decoder = Decoder(model, num_samples)
    logits = decoder.prefill(prompt[None])
    for chance in _chances(seed, num_samples):
        chosen = sample_next(logits, chance, temperature, top_k, top_p)
        yield chosen
        logits = decoder.decode(chosen)


def _chances(seed: int, num_samples: int, ahead: int = 256) -> Iterator[Floats]:
    """Uniform numbers (num_samples,), without end; row i depends on (seed, i) alone."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in range(num_samples)]
    while True:
        yield from np.stack([row.random(ahead) for row in rows], axis=1)
