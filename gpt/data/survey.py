"""What one pass over the texts finds; preparation stores it, so no later start counts again."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt.data.shares import SEPARATOR
from gpt.data.text import read_chunks
from gpt.data.tokenizer import code_points

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
