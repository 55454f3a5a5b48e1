"""What one pass over the texts finds; preparation stores it, so no later start counts again."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt.data.shares import SEPARATOR, split_sizes
from gpt.data.text import read_chunks
from gpt.data.tokenizer import code_points
from gpt.errors import Exit, Mistake

MOST_CHARACTERS = 65_535  # distinct ones; ids fit in two bytes
NORMALISED = 1 << 22  # characters that are checked for NFC: the check is slow for some scripts


@dataclass(frozen=True)
class Survey:
    """Lengths, alphabet and counts of the texts."""

    lengths: list[int]  # characters of each file
    alphabet: str  # with the separator's, if there are several
    counts: list[int]  # how often the files hold each character of the alphabet
    composes: bool  # whether the first NORMALISED characters are not in Unicode's form NFC


def survey_text(texts: list[Path]) -> Survey:
    """Read the texts once.

    Raises:
        Mistake: with exit code 3 at the first byte that is not UTF-8.
    """
    counts = np.zeros(0x110000, dtype=np.int64)
    lengths = [0] * len(texts)
    composes = False
    for index, path in enumerate(texts):
        for text in read_chunks(path):
            found = np.bincount(code_points(text))
            counts[: len(found)] += found
            lengths[index] += len(text)
            if not composes and sum(lengths) < NORMALISED:
                composes = not unicodedata.is_normalized("NFC", text)
    occurring = counts > 0
    occurring[code_points(SEPARATOR)] |= len(texts) > 1
    alphabet = np.flatnonzero(occurring)
    return Survey(lengths, "".join(map(chr, alphabet)), counts[alphabet].tolist(), composes)


def require_fit(survey: Survey, name: str, val_fraction: float, block_size: int) -> None:
    """Refuse a text that cannot be trained on.

    Raises:
        Mistake: with exit code 3 if it has too many distinct characters, or one, or is too short
            for a window in each split.
    """
    distinct = len(survey.alphabet)
    if distinct > MOST_CHARACTERS:
        what = f"{name} has {distinct} distinct characters; {MOST_CHARACTERS} is the most"
        raise Mistake(Exit.CORPUS, what, "is it a text? fold its rarest characters into others")
    train, val = split_sizes(survey.lengths, val_fraction)
    short = min(train, val)
    if short <= block_size:
        what = (
            f"{name} is too short: {sum(survey.lengths)} characters give "
            f"{train} for training and {val} for validation, and "
            f"model.block_size {block_size} needs {block_size + 1} in each"
        )
        smaller = f", or --model.block_size {short - 1} or less" if short > 1 else ""
        raise Mistake(Exit.CORPUS, what, f"use a longer text{smaller}")
    if distinct < 2:
        what = f"{name} has one distinct character, {survey.alphabet!r}: there is nothing to learn"
        raise Mistake(Exit.CORPUS, what, "use another text")
