"""Step 0 of a run: fresh weights, or those of another run's model fitted to a new alphabet."""

import unicodedata
from collections.abc import Callable, Container, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpt.config import Config, ModelConfig
from gpt.data.corpus import Corpus
from gpt.data.report import count_of_each, name_of
from gpt.data.sources import abbreviated
from gpt.model import GPT
from gpt.storage.checkpoint import Checkpoint, Progress

LR_SCALE = 0.3  # of both learning rates, unless train.lr_scale says another; see configs/LOG.md
MOSTLY_NEW = 0.5  # of the text, in characters the model never saw; see configs/LOG.md

Counts = npt.NDArray[np.int64]  # of each character of an alphabet
ABSENT = -1  # in place of a character's id in the old alphabet


def fresh(config: Config, corpus: Corpus) -> Checkpoint:
    """Step 0 with weights drawn from the run's seed."""
    torch.manual_seed(config.train.seed)
    weights = GPT(config.model, len(corpus.tokenizer)).state_dict()
    return Checkpoint(config, corpus.tokenizer, Progress(), weights, optimizer_state={})


def fine_tuning_config(origin: Checkpoint, config: Config, say: Callable[[str], None]) -> Config:
    """`config` with the architecture of `origin`, but its own dropout, and with lower rates."""
    model = origin.config.model.model_copy(update={"dropout": config.model.dropout})
    if changed := list(_differences(model, config.model)):
        say(f"the model is the run's, not the config's: {abbreviated(changed)}")
    scale = LR_SCALE if config.train.lr_scale is None else config.train.lr_scale
    train = config.train.model_copy(update={"lr_scale": scale})
    return config.model_copy(update={"model": model, "train": train})


def _differences(kept: ModelConfig, asked: ModelConfig) -> Iterator[str]:
    """Each setting that is another than the one asked for."""
    for key, value in kept:
        if value != (other := getattr(asked, key)):
            yield f"{key} {value} instead of {other}"


def fine_tuned(
    origin: Checkpoint, config: Config, corpus: Corpus, say: Callable[[str], None]
) -> Checkpoint:
    """Step 0 with the weights of `origin`; `config` is that of `fine_tuning_config`.

    A character's rows are copied. Those of a new one are copied from its look-alike, if the old
    alphabet has one, else drawn from the mean and the spread of all old rows.
    """
    old = {character: row for row, character in enumerate(origin.tokenizer.alphabet)}
    like = {character: _look_alike(character, old) for character in corpus.tokenizer.alphabet}
    for line in _report(origin, config, corpus, like):
        say(line)
    rows = torch.tensor([old.get(other, ABSENT) for other in like.values()])
    torch.manual_seed(config.train.seed)
    weights = dict(origin.weights)
    for name, tensor in origin.weights.items():
        if name.startswith(("token_embedding", "lm_head")):
            weights[name] = _fitted(tensor, rows)
            if config.model.n_embd == 0:  # the bigram table has a column for each character too
                weights[name] = _fitted(weights[name].T, rows).T
    return Checkpoint(config, corpus.tokenizer, Progress(), weights, optimizer_state={})


def _look_alike(character: str, known: Container[str]) -> str:
    """The first of these that is known: itself, without accents, in the other case; "" if none."""
    plain = unicodedata.normalize("NFD", character)[0]
    candidates = (character, plain, character.swapcase(), plain.swapcase())
    return next((other for other in candidates if other in known), "")


def _fitted(old: Tensor, rows: Tensor) -> Tensor:
    """Row `rows[i]` of `old` (V_old, ...) as row i of (V, ...); where it is ABSENT, one drawn."""
    spread, mean = torch.std_mean(old, dim=0, correction=0)
    fitted = mean + spread * torch.randn(len(rows), *old.shape[1:])
    is_known = rows != ABSENT
    fitted[is_known] = old[rows[is_known]]
    return fitted


def _report(
    origin: Checkpoint, config: Config, corpus: Corpus, like: dict[str, str]
) -> Iterator[str]:
    """What of the model is kept, what is new to it, and how fast it will change."""
    old = origin.tokenizer.alphabet
    dropped = [name_of(character) for character in old if character not in like]
    kept = f"{len(old) - len(dropped)} of its {len(old)} characters"
    yield f"fine-tuning a model of step {origin.progress.step}: it keeps " + (
        f"{kept}; the text lacks {abbreviated(dropped)}"
        if dropped
        else f"all {len(old)} characters"
    )
    counts = count_of_each(corpus.ids, len(like))
    added = {character: other for character, other in like.items() if other != character}
    if added:
        names = [name_of(c) + (f" (begins as {name_of(x)})" if x else "") for c, x in added.items()]
        share = _share([*added], corpus, counts)
        yield f"new to it: {len(added)} characters, {share:.1%} of the text: {abbreviated(names)}"
    if _share([c for c in added if not added[c]], corpus, counts) > MOSTLY_NEW:
        yield (
            "warning: most of the text is new to the model, so training from scratch is as good or "
            "better: leave out --init-from"
        )
    yield (
        f"both learning rates are times {config.train.lr_scale:g} (train.lr_scale): "
        "lower forgets less of what the model knew"
    )


def _share(characters: list[str], corpus: Corpus, counts: Counts) -> float:
    """How much of the text these characters are, in [0, 1]."""
    return float(counts[corpus.tokenizer.encode("".join(characters))].sum() / counts.sum())
