"""Write the ids of a text, which may be larger than memory, to disk; training memory-maps them.

A prepared text is a folder data/prepared/<16 digits of its SHA-256>/ of three files: `ids.bin`, the
ids in the narrowest type, `passages.bin`, what `gpt/data/passages.py` found, and `meta.json`, with
the survey and the SHA-256 of text and files. Several files are
arranged as `gpt/data/shares.py` says.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt import files
from gpt.data.passages import Passages, Places, mark_of
from gpt.data.shares import Source
from gpt.data.sources import abbreviated
from gpt.data.survey import Survey
from gpt.data.text import changed, mode_of_copy
from gpt.data.tokenizer import CharTokenizer, UnknownCharacter


def prepared_survey(folder: Path, sha256: str) -> Survey | None:
    """The survey of the text with this SHA-256 if `folder` holds it, prepared and undamaged."""
    try:
        with files.open_plain(folder / "meta.json") as file:
            meta = json.loads(file.read())
        survey = Survey(**{field.name: meta[field.name] for field in fields(Survey)})
        digests = [_sha256(folder / name) for name in ("ids.bin", "passages.bin")]
        whole = meta == _meta(survey, sha256, *digests)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing or damaged
        return None
    return survey if whole else None


def _sha256(path: Path) -> str:
    with files.open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(source: Source, survey: Survey, folder: Path, say: Callable[[str], None]) -> None:
    """Write `folder`, whole or not at all; another process may have done it meanwhile.

    Raises:
        Mistake: with exit code 3 if the text is no longer that of the source's SHA-256; 5 if the
            folder cannot be written.
    """
    with files.lock(folder.parent / ".lock", say):
        if prepared_survey(folder, source.sha256):
            return
        names = abbreviated([path.name for path in source.texts])
        size = f"{sum(survey.lengths):,} characters, {len(survey.alphabet)} distinct"
        say(f"preparing {names}: {size}")
        with files.storage_errors(folder):
            files.remove(folder)
            mode = mode_of_copy(source.texts)
            files.publish_directory(folder, _contents(source, survey), mode)


def prepared_passages(folder: Path) -> Places:
    """What `Passages.found` gave of the text that `folder` holds, prepared."""
    with files.open_plain(folder / "passages.bin") as file:
        return np.frombuffer(file.read(), dtype=np.int64).reshape(-1, 2)


def _contents(source: Source, survey: Survey) -> dict[str, Iterator[bytes]]:
    """The files, made while they are written; meta.json, the last, has the others' digests."""
    tokenizer = CharTokenizer(survey.alphabet)
    passages = Passages(mark_of(survey.alphabet, survey.counts))
    digests = [hashlib.sha256(), hashlib.sha256()]

    def ids() -> Iterator[npt.NDArray[np.unsignedinteger]]:
        try:
            for text in source.pieces(survey.lengths):
                yield tokenizer.encode(text)
        except UnknownCharacter:
            raise changed(source.texts) from None

    def ids_bin() -> Iterator[bytes]:
        for piece in passages.watched(ids()):
            data = piece.tobytes()
            digests[0].update(data)
            yield data

    def passages_bin() -> Iterator[bytes]:
        data = passages.found().tobytes()
        digests[1].update(data)
        yield data

    def meta() -> Iterator[bytes]:
        hexes = (digest.hexdigest() for digest in digests)
        yield json.dumps(_meta(survey, source.sha256, *hexes)).encode()

    return {"ids.bin": ids_bin(), "passages.bin": passages_bin(), "meta.json": meta()}


def _meta(survey: Survey, sha256: str, ids_sha256: str, passages_sha256: str) -> dict[str, Any]:
    """The content of meta.json, with a digest of itself, so that a damaged alphabet is noticed."""
    meta = {**asdict(survey), "sha256": sha256, "ids_sha256": ids_sha256}
    meta["passages_sha256"] = passages_sha256
    return {**meta, "meta_sha256": hashlib.sha256(json.dumps(meta).encode()).hexdigest()}
