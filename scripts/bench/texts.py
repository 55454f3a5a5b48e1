"""Made-up texts."""

import random
import shutil
from pathlib import Path

from processes import Failure


def made_up(size: int, accents: bool = False) -> str:
    """A text of `size` characters, the same each time: random words, with some not ASCII."""
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgkjqxz", k=7)) for _ in range(2000)]
    if accents:
        words[::10] = [word[:-1] + chance.choice("éü’—") for word in words[::10]]
    return " ".join(chance.choices(words, k=size // 8 + 1))[:size]


def write_text(path: Path, megabytes: float, accents: bool) -> None:
    """Write a made-up text of `megabytes` MB (10^6 bytes).

    Raises:
        Failure: if the disk has no room for the text and the corpus prepared from it.
    """
    free = shutil.disk_usage(path.parent).free / 1e6
    if free < 2.5 * megabytes:
        raise Failure(f"{path.parent} has {free:,.0f} MB free, {2.5 * megabytes:,.0f} are needed")
    piece = made_up(min(10**6, int(megabytes * 1e6)), accents).encode()
    with path.open("wb") as file:
        for _ in range(round(megabytes * 1e6 / len(piece))):
            file.write(piece)
