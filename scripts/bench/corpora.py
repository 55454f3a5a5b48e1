"""What is measured of a text without a model, inside of a worker process."""

import hashlib
from pathlib import Path

import numpy as np
from timing import Numbers, seconds_of

from gpt.config import Config, DataConfig
from gpt.data.corpus import Corpus, load_corpus
from gpt.judge.ngram import NGrams, best_order, loss


def prepare(text: str) -> Numbers:
    """Make the corpus of the file `text` ready to train on, as train.py does first of all."""
    return _throughput(text, seconds_of(lambda: _load(text)))


def read(text: str) -> Numbers:
    """The limit of `prepare`: read the text and take its SHA-256, once."""
    with Path(text).open("rb") as file:
        return _throughput(text, seconds_of(lambda: hashlib.file_digest(file, "sha256")))


def count_ngrams(text: str, most_order: int) -> Numbers:
    """The n-gram model's loss in nats on the validation split, and its order, at most `most_order`.

    The order is chosen on the training split.
    """
    corpus = _load(text)
    train, val = (ids.astype(np.int64) for ids in (corpus.train_ids, corpus.val_ids))
    order = best_order(train, len(corpus.tokenizer), most_order)
    ngrams = NGrams(train, order, len(corpus.tokenizer))
    return {"val_loss": loss(ngrams.probabilities(val)), "order": order}


def _load(text: str) -> Corpus:
    return load_corpus(Config(data=DataConfig(text=text)), say=lambda line: None)


def _throughput(text: str, seconds: float) -> Numbers:
    megabytes = Path(text).stat().st_size / 1e6
    return {"megabytes_per_second": megabytes / seconds, "seconds": seconds, "megabytes": megabytes}
