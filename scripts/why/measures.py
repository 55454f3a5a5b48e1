"""What is measured of a model, and what it writes."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from changes import ChangedAttention
from torch import Tensor

from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.evaluate import evaluating, exact_loss, windows
from gpt.generation.generate import sample_next
from gpt.generation.writer import start_of
from gpt.model import GPT

Numbers = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """A model that is measured, and what it is trained on."""

    model: GPT
    corpus: Corpus
    config: Config

    @property
    def attentions(self) -> list[ChangedAttention]:
        return [block.attention for block in self.model.blocks]  # type: ignore[misc]

    def loss(self, step: int) -> Tensor:
        """Mean loss of the batch of training step `step` [nats a character]."""
        train = self.config.train
        arrays = self.corpus.batch(step, train.seed, train.batch_size, self.config.model.block_size)
        tokens, targets = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return F.cross_entropy(self.model(tokens).flatten(0, 1), targets.flatten())


def nothing(subject: Subject) -> Numbers:
    return {}


def val_loss(subject: Subject) -> Numbers:
    return {"val_loss": exact_loss(subject.model, subject.corpus.val_ids)}


def parameters(subject: Subject) -> Numbers:
    """How many numbers are learned: what gets no gradient is not in use."""
    subject.loss(0).backward()
    used = [p for p in subject.model.parameters() if p.grad is not None and p.grad.any()]
    subject.model.zero_grad()
    return {"parameters": sum(p.numel() for p in used)}


def by_distance(subject: Subject) -> dict[int, Tensor]:
    """The mean weight of each head of layer 1 (H,) at a distance: 1 is the character before,
    -1 the next one."""
    size = subject.config.model.block_size
    ids = subject.corpus.val_ids[: 100 * size + 1]
    with evaluating(subject.model):
        subject.model(next(windows(ids, size, batch_chars=len(ids)))[0])
    weights = subject.attentions[0].weights.mean(0)  # (H, T, T)
    reach = range(1 - size if weights.triu(1).any() else 0, size)
    return {n: weights.diagonal(-n, dim1=1, dim2=2).mean(-1) for n in reach}


def write(subject: Subject, length: int) -> str:
    """Text that a model writes; `generate` is no use, since its KV cache needs the mask."""
    tokenizer, chance = subject.corpus.tokenizer, np.random.default_rng(subject.config.train.seed)
    text = start_of("", tokenizer)
    with evaluating(subject.model):
        for _ in range(length):
            seen = tokenizer.encode(text[-subject.config.model.block_size :]).astype(np.int64)
            logits = subject.model(torch.from_numpy(seen)[None])[:, -1].numpy()
            text += tokenizer.decode(sample_next(logits, chance.random(1)))
    return text.strip()
