"""Step 0 of a run: fresh weights, or those of another run's model fitted to a new alphabet."""

from collections.abc import Callable

import numpy as np
import torch

from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.model import GPT
from gpt.storage.checkpoint import Checkpoint, Progress


def fresh(config: Config, corpus: Corpus) -> Checkpoint:
    """Step 0 with weights drawn from the run's seed."""
    torch.manual_seed(config.train.seed)
    weights = GPT(config.model, len(corpus.tokenizer)).state_dict()
    return Checkpoint(config, corpus.tokenizer, Progress(), weights, optimizer_state={})


def with_model_of(origin: Checkpoint, config: Config) -> Config:
    """`config` with the architecture of `origin`, but its own dropout."""
    model = origin.config.model.model_copy(update={"dropout": config.model.dropout})
    return config.model_copy(update={"model": model})


def fine_tuned(
    origin: Checkpoint, config: Config, corpus: Corpus, say: Callable[[str], None]
) -> Checkpoint:
    """Step 0 with the weights of `origin`; `config` has its architecture.

    Rows of characters that both alphabets have are copied; those of new characters are fresh.
    """
    start = fresh(config, corpus)
    weights = start.weights
    known = set(origin.tokenizer.alphabet)
    common = [c for c in corpus.tokenizer.alphabet if c in known]
    new = torch.from_numpy(corpus.tokenizer.encode("".join(common)).astype(np.int64))
    old = torch.from_numpy(origin.tokenizer.encode("".join(common)).astype(np.int64))
    for name, tensor in origin.weights.items():
        if config.model.n_embd == 0:  # the bigram table has a column for each character too
            weights[name][new[:, None], new] = tensor[old[:, None], old]
        elif name.startswith(("token_embedding", "lm_head")):
            weights[name][new] = tensor[old]
        else:
            weights[name] = tensor
    unknown = len(corpus.tokenizer) - len(common)
    say(f"fine-tuning a model of step {origin.progress.step}; {unknown} characters are new to it")
    return start
