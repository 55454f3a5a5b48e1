"""Several files as one corpus: each keeps its own end for validation.

The training shares of all files come first, in order, then their validation shares, so that one
place still divides the two splits:

    a.txt, all but its end | SEPARATOR | b.txt, all but its end || end of a | SEPARATOR | end of b

Of one file this is the text itself. The shares depend on `val_fraction`, so it is a part of what
identifies the corpus of several files; that of one file is the SHA-256 of its text alone.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gpt.data.sources import abbreviated
from gpt.data.text import changed, read_chunks, text_sha256

SEPARATOR = "\n\n"  # ends a line, and is an empty line: what stands between paragraphs


@dataclass(frozen=True)
class Source:
    """The files of a corpus, in order, and the share of each that is kept for validation."""

    texts: list[Path]
    val_fraction: float

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of each file's text; reads them all."""
        return [text_sha256([text]) for text in self.texts]

    @cached_property
    def sha256(self) -> str:
        """What identifies the corpus."""
        if len(self.texts) == 1:
            return self.digests[0]
        return hashlib.sha256(json.dumps([self.val_fraction, self.digests]).encode()).hexdigest()

    def pieces(self, lengths: list[int]) -> Iterator[str]:
        """The corpus piece by piece; `lengths` are the characters of each file.

        Raises:
            Mistake: with exit code 3 if a file changed since its digest was taken.
        """
        if len(self.texts) == 1:  # the general way reads a file twice
            yield from self._share(0, 0, lengths[0])
            return
        cuts = [split_at(length, self.val_fraction) for length in lengths]
        for starts, stops in (([0] * len(cuts), cuts), (cuts, lengths)):
            follows = False
            for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
                if start < stop:
                    if follows:
                        yield SEPARATOR
                    follows = True
                    yield from self._share(index, start, stop)

    def _share(self, index: int, start: int, stop: int) -> Iterator[str]:
        """Characters `start` to `stop` of one file, which is read to its end."""
        read, place = hashlib.sha256(), 0
        for text in read_chunks(self.texts[index], tell=read.update):
            yield text[max(start - place, 0) : max(stop - place, 0)]
            place += len(text)
        if read.hexdigest() != self.digests[index]:
            raise changed([self.texts[index]])


def say_several(source: Source, say: Callable[[str], None]) -> None:
    """Say of several files their order, and which of them hold the same text."""
    if len(source.texts) == 1:
        return
    names = abbreviated([path.name for path in source.texts])
    say(
        f"{len(source.texts):,} files, in this order, an empty line between two, the end of each "
        f"kept for validation: {names}"
    )
    first: dict[str, Path] = {}
    for path, digest in zip(source.texts, source.digests, strict=True):
        if first.setdefault(digest, path) is not path:
            say(f"warning: {path} holds the same text as {first[digest]}")


def split_at(characters: int, val_fraction: float) -> int:
    """Where the validation split of one text begins; counted as nanoGPT and the lecture do."""
    return int(characters * (1 - val_fraction))


def split_sizes(lengths: list[int], val_fraction: float) -> tuple[int, int]:
    """Characters of the training and the validation split, separators included."""
    cuts = [split_at(length, val_fraction) for length in lengths]
    rests = [length - cut for length, cut in zip(lengths, cuts, strict=True)]
    return _joined(cuts), _joined(rests)


def _joined(shares: list[int]) -> int:
    present = sum(share > 0 for share in shares)
    return sum(shares) + len(SEPARATOR) * max(present - 1, 0)
