"""Reading text files piece by piece: UTF-8, without a BOM, every line end as "\\n"."""

import codecs
import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from gpt.errors import Exit, Mistake, not_utf8, reading
from gpt.files import open_plain

READABLE = "give a text that you may read"
CHUNK = 1 << 18  # bytes read at once; a piece and what is made of it stay in the processor's cache


def text_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the text of `paths` as UTF-8, line ends as "\\n"; nothing is decoded."""
    digest = hashlib.sha256()
    for path in paths:
        for piece in _pieces(path):
            digest.update(piece)
    return digest.hexdigest()


def read_chunks(
    paths: Iterable[Path], tell: Callable[[bytes], object] = lambda piece: None
) -> Iterator[str]:
    """The text of `paths` in order, decoded piece by piece.

    Args:
        tell: is called with the bytes of each piece; together they are those of `text_sha256`.

    Raises:
        Mistake: with exit code 3 at the first byte that is not UTF-8, naming its offset.
    """
    for path in paths:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for piece in _pieces(path):
                tell(piece)
                yield decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(path) from None


def mode_of_copy(paths: Iterable[Path]) -> int:
    """The rights of a copy of these texts: its owner's alone, unless all may read each text.

    Those of a group are not copied: the copy may belong to another one.
    """
    public = all(path.stat().st_mode & stat.S_IROTH for path in paths)
    return 0o644 if public else 0o600


def changed(paths: Iterable[Path]) -> Mistake:
    """The mistake of a text that changed between two readings."""
    what = f"{', '.join(map(str, paths))}: changed while it was read"
    return Mistake(Exit.CORPUS, what, "run the command again once nothing writes there")


def _pieces(path: Path) -> Iterator[bytes]:
    """The bytes of `path` piece by piece, without a BOM, every line end as "\\n"."""
    bar = tqdm(
        total=0, desc="reading", unit="B", unit_scale=True, leave=False, delay=1, disable=None
    )
    with bar, reading(path, Exit.CORPUS, READABLE), open_plain(path) as file:
        bar.total = path.stat().st_size
        file.seek(3 if file.read(3) == codecs.BOM_UTF8 else 0)
        after_cr = False
        while data := file.read(CHUNK):
            bar.update(len(data))
            piece = data.removeprefix(b"\n") if after_cr else data  # \r\n across two pieces
            after_cr = data.endswith(b"\r")
            yield piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece


def _not_utf8(path: Path) -> Mistake:
    """The mistake of `path`, which could not be decoded: a second pass finds the offset."""
    decoder, end = codecs.getincrementaldecoder("utf-8")(), 0
    with reading(path, Exit.CORPUS, READABLE), open_plain(path) as file:
        try:
            while data := file.read(CHUNK):
                end += len(data)
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as problem:  # its object is the last bytes before `end`
            offset, byte = end - len(problem.object) + problem.start, problem.object[problem.start]
            fix = "save the text as UTF-8 (iconv -f latin1 -t utf-8, say)"
            return not_utf8(path, offset, byte, Exit.CORPUS, fix)
    return changed([path])
