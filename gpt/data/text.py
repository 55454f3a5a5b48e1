"""Reading text files piece by piece: UTF-8, without a BOM, every line end as "\\n"."""

import codecs
import hashlib
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpt.errors import Exit, Mistake, not_utf8, reading
from gpt.files import open_plain

READABLE = "give a text that you may read"
CHUNK = 1 << 18  # bytes read at once; a piece and what is made of it stay in the processor's cache
BOMS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
HEAD = 1 << 13  # bytes at the start of a file that tell what it is
NULS_OF_UTF16 = 0.3  # of every second byte; a text that is mostly Latin has nearly all of them
NULS_OF_A_TEXT = 64  # in the head, at most: a stray NUL is odd, but no reason to refuse a text


def text_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the text of `paths` as UTF-8, line ends as "\\n"; nothing is decoded."""
    digest = hashlib.sha256()
    for path in paths:
        for piece in _pieces(path):
            digest.update(piece)
    return digest.hexdigest()


def read_chunks(path: Path, tell: Callable[[bytes], object] = lambda piece: None) -> Iterator[str]:
    """The text of `path`, decoded piece by piece.

    Args:
        tell: is called with the bytes of each piece; together they are those of `text_sha256`.

    Raises:
        Mistake: with exit code 3 at the first byte that is not UTF-8, naming its offset.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in _pieces(path):
            tell(piece)
            yield decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def has_bom(path: Path) -> bool:
    """Whether `path` begins with UTF-8's byte order mark."""
    return _head(path).startswith(codecs.BOM_UTF8)


def is_binary(path: Path) -> bool:
    """Whether `path` begins with more NUL bytes than a text, or with some and is not UTF-8.

    UTF-16 and UTF-32 are not binary.
    """
    return _is_binary(_head(path))


def _is_binary(head: bytes) -> bool:
    if b"\0" not in head or _wide_encoding(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return True
    return head.count(0) > NULS_OF_A_TEXT


def require_utf8_head(path: Path) -> None:
    """Refuse a file that begins as UTF-16, UTF-32 or binary data do.

    Raises:
        Mistake: with exit code 3 and the command that converts it.
    """
    head = _head(path)
    if encoding := _wide_encoding(head):
        name, made = shlex.quote(str(path)), shlex.quote(str(path.with_suffix(".utf8.txt")))
        fix = f"iconv -f {encoding} -t UTF-8 {name} > {made}, and give that file"
        raise Mistake(Exit.CORPUS, f"{path} is {encoding}, not UTF-8", fix)
    if _is_binary(head):
        what = f"{path} is binary: it holds NUL bytes"
        raise Mistake(Exit.CORPUS, what, "unpack it, or save its text as UTF-8")


def _head(path: Path) -> bytes:
    with reading(path, Exit.CORPUS, READABLE), open_plain(path) as file:
        return file.read(HEAD)


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, as iconv names it, if `head` has its BOM or its NUL bytes."""
    for bom, encoding in BOMS.items():
        if head.startswith(bom):
            return encoding
    enough = NULS_OF_UTF16 * len(head) / 2
    for encoding, low, high in (
        ("UTF-16LE", head[::2], head[1::2]),
        ("UTF-16BE", head[1::2], head[::2]),
    ):
        if high.count(0) > enough and not low.count(0):
            return encoding
    return None


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
    options: dict[str, Any] = {"desc": "reading", "unit": "B", "unit_scale": True, "leave": False}
    with (
        reading(path, Exit.CORPUS, READABLE),
        open_plain(path) as file,
        tqdm(total=path.stat().st_size, delay=1, disable=None, **options) as bar,
    ):
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
