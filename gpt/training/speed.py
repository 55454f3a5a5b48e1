"""How fast this machine trains and evaluates a model: a few timed steps, thrown away."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.device import use_device, uses_bf16
from gpt.evaluate import batch_loss, windows
from gpt.model import GPT
from gpt.optim import make_optimizers

TIMES, ENOUGH_SECONDS = 6, 0.5  # each of the three is timed so often, or for so long
EVALUATED = 2**12  # characters of the validation split that are evaluated for the measurement


@dataclass(frozen=True)
class Speed:
    """Seconds that a model takes on this machine.

    Args:
        character: for the forward and backward pass of a character in a batch.
        update: for an update of all weights by the optimizers.
        evaluated: for a character of an exact evaluation.
    """

    character: float
    update: float
    evaluated: float

    def step(self, config: Config) -> float:
        """Seconds of a training step."""
        characters = config.train.batch_size * config.model.block_size
        return characters * self.character + self.update


def measured(config: Config, corpus: Corpus) -> Speed:
    """Time a model of `config`, on a batch of its size; its weights are thrown away."""
    device, bf16 = use_device(config.train.device), uses_bf16(config)
    rows = config.train.batch_size // config.train.accumulate
    block_size = config.model.block_size
    model = GPT(config.model, len(corpus.tokenizer)).to(device)
    optimizers = make_optimizers(model, config.train, bf16)
    arrays = corpus.batch(0, config.train.seed, rows, block_size)
    tokens, targets = (torch.from_numpy(array).to(device) for array in arrays)
    seen, expected = next(windows(corpus.val_ids[: EVALUATED + 1], block_size, EVALUATED))

    def learn() -> Tensor:
        loss = batch_loss(model, tokens, targets, bf16)
        loss.backward()
        return loss.detach()

    def update() -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
        for optimizer in optimizers:
            optimizer.step()
        return norm

    def evaluate() -> Tensor:
        with torch.no_grad():
            return batch_loss(model, seen.to(device), expected.to(device))

    return Speed(
        character=_seconds(learn) / tokens.numel(),
        update=_seconds(update),
        evaluated=_seconds(evaluate) / seen.numel(),
    )


def _seconds(work: Callable[[], Tensor]) -> float:
    """The median duration of `work`, the first one left out, where there is time for several.

    The number that it gives is read: that waits for a device that computes while we go on.
    """
    durations: list[float] = []
    while not durations or (len(durations) < TIMES and sum(durations) < ENOUGH_SECONDS):
        began = time.perf_counter()
        float(work())
        durations.append(time.perf_counter() - began)
    return statistics.median(durations[1:] or durations)
