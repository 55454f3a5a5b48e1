"""Prepare a text in two passes; training memory-maps the ids that they write.

A prepared text is a folder data/prepared/<16 digits of its SHA-256>/ of two files: `ids.bin`, the
ids in the narrowest type, and `meta.json`, with the alphabet and the SHA-256 of text and ids. A
text may be larger than memory.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt import files
from gpt.data.text import changed, mode_of_copy, read_chunks
from gpt.data.tokenizer import CharTokenizer, UnknownCharacter, code_points


@dataclass(frozen=True)
class Survey:
    """What one pass over a text finds."""

    characters: int
    alphabet: str


def survey_text(texts: list[Path]) -> Survey:
    """Read the texts once: length and alphabet.

    Raises:
        Mistake: with exit code 3 at the first byte that is not UTF-8.
    """
    seen = np.zeros(0x110000, dtype=bool)
    characters = 0
    for text in read_chunks(texts):
        points = code_points(text)
        characters += len(points)
        if not seen.take(points).all():  # rarely true; reading is faster than writing
            seen[points] = True
    return Survey(characters, "".join(map(chr, np.flatnonzero(seen))))


def prepared_survey(folder: Path, sha256: str) -> Survey | None:
    """The survey of the text with this SHA-256 if `folder` holds it, prepared and undamaged."""
    try:
        with files.open_plain(folder / "meta.json") as file:
            meta = json.loads(file.read())
        survey = Survey(meta["characters"], meta["alphabet"])
        with files.open_plain(folder / "ids.bin") as file:
            ids_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        whole = meta == _meta(survey, sha256, ids_sha256)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing or damaged
        return None
    return survey if whole else None


def prepare(
    texts: list[Path], survey: Survey, sha256: str, folder: Path, say: Callable[[str], None]
) -> None:
    """Write `folder`, whole or not at all; another process may have done it meanwhile.

    Raises:
        Mistake: with exit code 3 if the text is no longer that of this SHA-256; 5 if the folder
            cannot be written.
    """
    with files.lock(folder.parent / ".lock", say):
        if prepared_survey(folder, sha256):
            return
        say(
            f"preparing {', '.join(path.name for path in texts)}: {survey.characters:,} "
            f"characters, {len(survey.alphabet)} distinct"
        )
        with files.storage_errors(folder):
            files.remove(folder)
            files.publish_directory(folder, _contents(texts, survey, sha256), mode_of_copy(texts))


def _contents(texts: list[Path], survey: Survey, sha256: str) -> dict[str, Iterator[bytes]]:
    """The two files, made while they are written; meta.json needs the digest of the ids."""
    tokenizer = CharTokenizer(survey.alphabet)
    read, written = hashlib.sha256(), hashlib.sha256()

    def ids() -> Iterator[bytes]:
        try:
            for text in read_chunks(texts, tell=read.update):
                data = tokenizer.encode(text).tobytes()
                written.update(data)
                yield data
        except UnknownCharacter:
            raise changed(texts) from None
        if read.hexdigest() != sha256:
            raise changed(texts)

    def meta() -> Iterator[bytes]:
        yield json.dumps(_meta(survey, sha256, written.hexdigest())).encode()

    return {"ids.bin": ids(), "meta.json": meta()}


def _meta(survey: Survey, sha256: str, ids_sha256: str) -> dict[str, Any]:
    """The content of meta.json, with a digest of itself, so that a damaged alphabet is noticed."""
    meta = {**asdict(survey), "sha256": sha256, "ids_sha256": ids_sha256}
    return {**meta, "meta_sha256": hashlib.sha256(json.dumps(meta).encode()).hexdigest()}
