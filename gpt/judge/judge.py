"""Is a model any good? It is compared with counting and compression, and searched for copies."""

import lzma
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.evaluate import bits, evaluating
from gpt.generation.generate import generate
from gpt.generation.writer import start_of
from gpt.judge.copies import Copies
from gpt.judge.ngram import NGrams, counted_ngrams, loss
from gpt.judge.scores import (
    Rows,
    Scores,
    by_context,
    by_kind,
    calibration,
    costliest,
    standard_error,
)
from gpt.model import GPT

Ids = npt.NDArray[np.int64]

MOST_CHARACTERS = 5_000_000  # of either split, the exact loss apart: 20 seconds, a gigabyte
TEXTS, LENGTH = 16, 1000  # samples and their characters: enough to hold a long copy
SEED = 1337  # of all samples
MOST_NATS = 700  # whose exponential is a float
COPY = 20  # characters that are hardly the same by chance

# When a model counts as having learned by heart. Held-out text has copies too, of names and set
# phrases: that much is no fault. A longest run is a single event, 22 to 31 characters in six parts
# of Shakespeare: twice held-out text's is more than such chance. There 0.0 % to 0.4 % of 20-grams
# are copies: MORE is far above it, and is one line in twenty.
LONGER, MORE, MOSTLY = 2, 0.05, 0.5
SURE = 2  # standard errors from which on a difference of losses counts


def judge(
    model: GPT, corpus: Corpus, scores: Scores, most: int = MOST_CHARACTERS
) -> Iterator[tuple[str, Any]]:
    """The parts of the judgement, each once it is known: its name and what goes into the JSON.

    Args:
        scores: of the corpus's validation split by the model.
        most: characters of a longer text that are used: training's last, validation's first.
    """
    tokenizer, ids = corpus.tokenizer, corpus.val_ids
    train, val = (x.astype(np.int64) for x in (corpus.train_ids[-most:], ids[:most]))
    yield "standard_error", standard_error(scores.losses)
    yield "perplexity", perplexity(scores.loss)
    yield "characters_used", {"training": len(train), "validation": len(val), "most": most}
    ngrams = counted_ngrams(train, len(tokenizer))
    yield "baselines", baselines(ngrams, train, val, tokenizer)
    yield "against_counting", (difference := against_counting(scores, ngrams, val))
    yield "by_context", by_context(scores.losses, model.config.block_size)
    yield "by_kind", by_kind(scores.losses, ids, tokenizer.alphabet)
    yield "costliest", costliest(scores.losses, ids, tokenizer.alphabet)
    yield "calibration", calibration(scores.sure, scores.right)
    yield "copies", (found := copies(written(model, ngrams, val, tokenizer), train, tokenizer))
    yield "verdict", verdict(difference, found)


def baselines(ngrams: NGrams, train: Ids, val: Ids, tokenizer: CharTokenizer) -> Rows:
    """The losses of what has learned nothing, or has only counted, on the same text."""
    losses = {
        "uniform": math.log(len(tokenizer)),
        "unigram": loss(ngrams.probabilities(val, 1)),
        "xz": compressed(tokenizer.decode(train), tokenizer.decode(val)) * math.log(2),
        f"{ngrams.order}-gram": loss(ngrams.probabilities(val)),
    }
    return [
        {"name": name, "loss": nats, "bits": bits(nats), "perplexity": perplexity(nats)}
        for name, nats in losses.items()
    ]


def perplexity(nats: float) -> float:
    """How many equally likely characters would make the next one as hard to guess."""
    return math.exp(nats) if nats < MOST_NATS else math.inf


def compressed(train: str, val: str) -> float:
    """What `val` adds to the size of `train` under xz -9 [bits a character of `val`].

    Its dictionary, 64 MiB, holds both.
    """
    data = [text.encode("utf-8", "surrogatepass") for text in (train, train + val)]
    short, long = (len(lzma.compress(part, preset=9)) for part in data)
    return (long - short) * 8 / len(val)


def against_counting(scores: Scores, ngrams: NGrams, val: Ids) -> dict[str, float | None]:
    """How much higher the model's loss is than that of the n-grams [nats a character].

    The standard error is that of the difference, character by character: what is hard for both
    counts for neither.
    """
    counted = -np.log(ngrams.probabilities(val)[1:])
    difference = scores.losses[: len(counted)] - counted
    return {"loss": float(difference.mean()), "standard_error": standard_error(difference)}


def written(model: GPT, ngrams: NGrams, val: Ids, tokenizer: CharTokenizer) -> dict[str, Ids]:
    """Texts of equal size, each (rows, T): the model's, the n-grams', held-out ones.

    Drawn at temperature 1, from what the model has learned and no sharper.
    """
    length = min(LENGTH, len(val))
    rows = min(TEXTS, len(val) // length)
    start = tokenizer.encode(start_of("", tokenizer))
    with evaluating(model):
        steps = generate(model, start, num_samples=rows, seed=SEED)
        own = np.stack(list(islice(steps, length)), axis=1)
    starts = np.linspace(0, len(val) - length, rows).astype(np.int64)
    held_out = val[starts[:, None] + np.arange(length)]
    counted = ngrams.sample(rows, length, SEED)
    return {"model": own, f"{ngrams.order}-gram": counted, "held-out": held_out}


def copies(texts: dict[str, Ids], train: Ids, tokenizer: CharTokenizer) -> Rows:
    """What each of `texts` has word for word from the training text."""
    rows = []
    for name, text in texts.items():
        found = Copies(text, train)
        run = found.longest()
        shares = {"longest": len(run), "share": found.share(COPY), "run": tokenizer.decode(run)}
        rows.append({"text": name, "characters": text.size, **shares})
    return rows


def verdict(difference: dict[str, float | None], found: Rows) -> str:
    """The judgement in words, by the rules at the top of this module."""
    by = difference["loss"] or 0
    unsure = SURE * (difference["standard_error"] or math.inf)
    if abs(by) <= unsure:
        beside = "no better than counting"
    else:
        beside = "better than counting" if by < 0 else "worse than counting"
    own, held_out = found[0], found[-1]
    share, usual = own["share"] or 0, held_out["share"] or 0
    if share >= max(MOSTLY, usual + MORE):
        heart = "by heart"
    elif share > usual + MORE or own["longest"] > LONGER * held_out["longest"]:
        heart = "partly by heart"
    else:
        heart = "not by heart"
    runs = f"longest copied run {own['longest']} characters"
    return f"{beside}; {heart}: {runs}, held-out text has {held_out['longest']}"
