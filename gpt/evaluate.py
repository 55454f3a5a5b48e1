"""The exact loss of a model over a whole split. Draws no random numbers, changes nothing."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model import GPT


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; afterwards each module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def exact_loss(
    model: GPT,
    ids: npt.NDArray[np.unsignedinteger],
    batch_chars: int = 0,
    between: Callable[[], None] = lambda: None,
    share: tuple[int, int] = (0, 1),
) -> float:
    """Mean loss of every character of `ids` but the first [nats a character].

    The text is cut into windows of block_size that do not overlap; the last may be shorter. fp32.

    Args:
        ids: (N,) with N >= 2.
        batch_chars: characters in a forward pass; 0: as many as are fast.
        between: called before each forward pass; what it raises ends the evaluation.
        share: (rank, size); only every size-th forward pass is made, from number `rank` on. The
            results of all ranks add up to the mean.
    """
    device = model.token_embedding.weight.device
    if not batch_chars:  # on a CPU, what fits into its cache
        batch_chars = 2**11 if device.type == "cpu" else 2**14
    total = 0.0
    with evaluating(model):
        batches = windows(ids, model.config.block_size, batch_chars)
        for tokens, targets in islice(batches, share[0], None, share[1]):
            between()
            loss = batch_loss(model, tokens.to(device), targets.to(device))
            total += float(loss) * targets.numel()
    return total / (len(ids) - 1)


def batch_loss(model: GPT, tokens: Tensor, targets: Tensor, bf16: bool = False) -> Tensor:
    """Mean loss of a batch, tokens and targets (B, T) [nats a character]."""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
        logits = model(tokens)  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def windows(
    ids: npt.NDArray[np.unsignedinteger], block_size: int, batch_chars: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(tokens, targets), each (B, T), that cover `ids` once, B x T at most about batch_chars."""
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
    """A loss in bits a character, given in nats."""
    return nats / math.log(2)
