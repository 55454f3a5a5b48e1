"""Writing text: `sample_next` picks a character, `generate` goes on and on."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gpt.decode import Decoder
from gpt.model import GPT

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@np.errstate(over="ignore")  # a temperature may be so low that logits divided by it are infinite
def sample_next(
    logits: Floats, chance: Floats, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Ids:
    """The next character's ids (B,), a function of its arguments alone.

    Args:
        logits: (B, V)
        chance: (B,) uniform numbers in [0, 1), one a row.
        temperature: below 1 bolder, above 1 wilder; 0 takes the likeliest character.
        top_k: only the k likeliest can be chosen; 0: all.
        top_p: only the likeliest that together have this probability (Holtzman et al. 2020).
    """
    if temperature == 0:
        return logits.argmax(axis=-1)
    # in 64 bits no chance is rounded up to 1, and from 0 downwards no temperature is too small
    below = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    shares = np.exp(below / temperature)  # (B, V), in proportion to the probabilities
    if 0 < top_k < logits.shape[-1] or top_p < 1:
        shares = _cut(shares, top_k, top_p)
    heights = shares.cumsum(axis=-1)
    point = chance[:, None] * heights[:, -1:]  # below the last height, so not all are passed
    return (heights <= point).sum(axis=-1)


def _cut(shares: Floats, top_k: int, top_p: float) -> Floats:
    """`shares` (B, V) with zeros for what top-k and top-p leave out; the likeliest always stays."""
    order = np.argsort(-shares, axis=-1, kind="stable")
    ordered = np.take_along_axis(shares, order, axis=-1)
    before = ordered.cumsum(axis=-1) - ordered  # what the likelier ones have together
    keep = before < top_p * ordered.sum(axis=-1, keepdims=True)
    if top_k:
        keep[:, top_k:] = False
    keep[:, 0] = True
    kept = np.zeros_like(shares)
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
    """Go on after `tokens`, without end: each item is the next character's ids (num_samples,).

    Sample i is a function of (seed, i), up to rounding, however many are written beside it. When
    the context is full, its older half is forgotten (see gpt/decode.py).

    Args:
        model: in evaluation mode.
        tokens: (T,) the prompt, at least one character; its last block_size are read.
    """
    beginning = tokens[-model.config.block_size :].astype(np.int64)
    decoder = Decoder(model, num_samples)
    logits = decoder.begin(beginning[None])
    for chance in _chances(seed, num_samples):
        chosen = sample_next(logits, chance, temperature, top_k, top_p)
        yield chosen
        logits = decoder.go_on(chosen)


def _chances(seed: int, num_samples: int, ahead: int = 256) -> Iterator[Floats]:
    """Uniform numbers (num_samples,), without end; row i depends on (seed, i) alone."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in range(num_samples)]
    while True:
        yield from np.stack([row.random(ahead) for row in rows], axis=1)
