"""The exact loss of a model over a whole split. Draws no random number, changes nothing."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model import GPT


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients; afterwards the model is in the mode it was in before."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def exact_loss(model: GPT, ids: npt.NDArray[np.unsignedinteger], batch_chars: int = 0) -> float:
    """Mean loss, in nats a character, of every character of `ids` but the first.

    The text is cut into windows of the model's block_size that do not overlap; the last one may be
    shorter. fp32, evaluation mode.

    Args:
        ids: (N,) with N >= 2.
        batch_chars: characters that go through the model at once; 0: as many as are fast.
    """
    device = model.token_embedding.weight.device
    if not batch_chars:  # on a CPU they shall stay in its cache
        batch_chars = 2**11 if device.type == "cpu" else 2**14
    total = 0.0
    with evaluating(model):
        for tokens, targets in windows(ids, model.config.block_size, batch_chars):
            logits = model(tokens.to(device))  # (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.to(device).flatten())
            total += float(loss) * targets.numel()
    return total / (len(ids) - 1)


def windows(
    ids: npt.NDArray[np.unsignedinteger], block_size: int, batch_chars: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(tokens, targets), each (B, T), that cover `ids` once."""
    whole = (len(ids) - 1) // block_size
    rows = max(1, batch_chars // block_size)
    for first in range(0, whole, rows):
        start, stop = first * block_size, min(first + rows, whole) * block_size
        piece = torch.from_numpy(ids[start : stop + 1].astype(np.int64))
        yield piece[:-1].view(-1, block_size), piece[1:].view(-1, block_size)
    rest = torch.from_numpy(ids[whole * block_size :].astype(np.int64))
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]


def bits(nats: float) -> float:
    """A loss in bits a character."""
    return nats / math.log(2)
