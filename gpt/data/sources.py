"""Which files `data.text` names: files, folders, patterns, and `-` for what is piped in."""

import glob
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from gpt import files, paths
from gpt.data.text import CHUNK, is_binary, require_utf8_head
from gpt.errors import Exit, Mistake, reading

NAMES_SHOWN = 3  # of several files; the last one is named too


def settled(given: str | list[str], say: Callable[[str], None]) -> str | list[str]:
    """`given` with absolute paths, from any directory the same; `-` is read and kept in data/.

    Raises:
        Mistake: with exit code 3 if what is piped in cannot be read; 5 if it cannot be kept.
    """
    names = [given] if isinstance(given, str) else given
    made = [_kept_stdin(say) if name == "-" else _absolute(name) for name in names]
    return made[0] if isinstance(given, str) else made


def own_texts(
    given: str | list[str],
    fix: str = "give the path of a text file",
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """The user's text files, in the order given; below a folder, and for a pattern, by name.

    Below a folder all plain files are texts but the hidden ones (a name that starts with a dot)
    and the binary ones (see `is_binary`). A file that comes twice is taken once.

    Args:
        say: is called with what the user may not expect: files left out, a file given twice.

    Raises:
        Mistake: with exit code 3 and `fix` if one is not there, is no plain file, may not be looked
            at, or is no UTF-8 text.
    """
    names = [given] if isinstance(given, str) else given
    texts: dict[tuple[int, int], Path] = {}
    left_out: list[Path] = []
    with reading("data.text", Exit.CORPUS, fix):
        for path in (path for name in names for path in _named(name, fix)):
            found = _below(path, left_out, fix) if path.is_dir() else [path]
            for text in found:
                status = text.stat()
                if texts.setdefault((status.st_dev, status.st_ino), text) is not text:
                    say(f"{text} is given twice: it is read once")
    if left_out:
        say(f"left out, binary: {abbreviated([str(path) for path in left_out])}")
    for path in texts.values():
        require_utf8_head(path)
    return list(texts.values())


def abbreviated(names: list[str]) -> str:
    """The first names, how many are between, and the last: a line holds no thousand of them."""
    if len(names) <= NAMES_SHOWN + 2:  # "1 more" is no shorter than its name
        return ", ".join(names)
    between = len(names) - NAMES_SHOWN - 1
    return f"{', '.join(names[:NAMES_SHOWN])}, {between:,} more, {names[-1]}"


def _absolute(name: str) -> str:
    return Path(paths.expanded(name)).absolute().as_posix()


def _named(name: str, fix: str) -> list[Path]:
    """The files and folders that one name means: itself, or what matches it as a pattern."""
    path = Path(paths.expanded(name))
    if _is_plain(path):
        return [path]
    if os.path.lexists(path):
        raise Mistake(Exit.CORPUS, f"data.text: {path} is no plain file", fix)
    if glob.has_magic(name):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207  Path.glob takes no absolute one
        matches = [match for match in _in_order(map(Path, found)) if _is_plain(match)]
        if matches:
            return matches
        raise Mistake(Exit.CORPUS, f"data.text: nothing matches {path}", fix)
    raise Mistake(Exit.CORPUS, f"data.text: {path} is not there", fix)


def _is_plain(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def _below(folder: Path, left_out: list[Path], fix: str) -> list[Path]:
    """The texts below `folder`, by name; the binary files are added to `left_out`."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    texts: list[Path] = []
    for path in _in_order(found):
        if path.is_file():
            (left_out if is_binary(path) else texts).append(path)
    if not texts:
        raise Mistake(Exit.CORPUS, f"data.text: {folder} is a directory without a text", fix)
    return texts


def _refuse(problem: OSError) -> None:
    """A folder that cannot be listed: to leave it out unsaid would be another text."""
    raise problem


def _in_order(found: Iterable[Path]) -> list[Path]:
    return sorted(found, key=lambda path: path.parts)


def _kept_stdin(say: Callable[[str], None]) -> str:
    """Store what is piped in, as it comes, under its SHA-256, and return the path.

    Only its owner may read it: nobody said that others may.
    """
    folder = paths.DATA / "stdin"
    digest = hashlib.sha256()
    files.make_directory(folder)
    beside = folder / f".{os.getpid()}.tmp"
    with files.storage_errors(folder):
        files.remove(beside)
        try:
            files.write_file(beside, _read(sys.stdin.buffer, digest.update), mode=0o600)
            path = folder / f"{digest.hexdigest()[:16]}.txt"
            files.rename(beside, path)
        except BaseException:
            files.remove(beside)
            raise
    say(f"stdin is kept as {path}, to resume from")
    return path.as_posix()


def _read(source: BinaryIO, tell: Callable[[bytes], object]) -> Iterator[bytes]:
    with reading("stdin", Exit.CORPUS, "pipe a text in, or give its path"):
        while data := source.read(CHUNK):
            tell(data)
            yield data
