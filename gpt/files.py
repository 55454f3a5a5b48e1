"""All writes of state, through a handful of operations: a crash at any of them can be tried.

A file is either not there, or whole: it is written beside its place, synced, and renamed. The
system is called through `os` and `shutil` alone, so that a test can put itself in between.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gpt.errors import Exit, Mistake

Content = bytes | Iterable[bytes]


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors while writing `path` into the contract's (exit code 5)."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = (
            "free some space, then run the command again"
            if full
            else "check the path and its rights"
        )
        what = f"cannot write {problem.filename or path}: {problem.strerror or problem}"
        raise Mistake(Exit.STORAGE, what, fix) from problem


# --- the operations ----------------------------------------------------------------------------


def write_file(path: Path, content: Content) -> None:
    """Create `path`, which must not be there, with `content`, and wait until the disk has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for piece in [content] if isinstance(content, bytes) else content:
            write_all(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def rename(source: Path, target: Path) -> None:
    """Move `source` to `target`, in place of what may be there, and wait until the disk knows."""
    os.replace(source, target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, exist_ok: bool = True) -> None:
    """Create `path` and what is missing above it, and wait until the disk knows."""
    if exist_ok and path.is_dir():
        return
    make_directory(path.parent)
    try:
        os.mkdir(path)
        sync_directory(path.parent)
    except FileExistsError:
        if not (exist_ok and path.is_dir()):
            raise


def remove(path: Path) -> None:
    """Delete a file or a directory, if it is there; a directory loses its name first."""
    if path.is_dir() and not path.is_symlink():
        if not path.name.startswith("."):
            hidden = path.with_name(f".{path.name}.old")
            shutil.rmtree(hidden, ignore_errors=True)
            os.replace(path, hidden)
            path = hidden
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_symlink() or path.exists():
        os.unlink(path)


# --- made of them ------------------------------------------------------------------------------


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of `path`: a reader sees the old content or the new, whole."""
    beside = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        remove(beside)  # a crash may have left it; in a stranger's run it may be a link
        write_file(beside, data)
        rename(beside, path)


def publish_directory(target: Path, files: Mapping[str, Content]) -> None:
    """Make directory `target` of `files`, whole or not at all; the last file is written last.

    Raises:
        Mistake: with exit code 5, when the disk is full, say; nothing of `target` is left then.
    """
    beside = target.with_name(f".{target.name}.tmp")
    with storage_errors(target):
        remove(beside)
        make_directory(target.parent)
        try:
            os.mkdir(beside)
            for name, content in files.items():
                write_file(beside / name, content)
            sync_directory(beside)
            rename(beside, target)
        except BaseException:
            remove(beside)
            raise


class Journal:
    """A file that grows by whole lines; a crash may cut the last one short."""

    def __init__(self, path: Path):
        self.path, self.descriptor = path, os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, line: bytes) -> None:
        with storage_errors(self.path):
            write_all(self.descriptor, line + b"\n")

    def sync(self) -> None:
        with storage_errors(self.path):
            os.fsync(self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)


@contextmanager
def lock(path: Path, wait: bool) -> Iterator[None]:
    """Hold the lock file `path` until the context or the process ends, however it ends.

    Raises:
        Mistake: with exit code 7 if another process holds it and `wait` is false.
    """
    with storage_errors(path):
        make_directory(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            fix = "wait for it to end, or give another directory"
            raise Mistake(Exit.BUSY, f"another process works in {path.parent}", fix) from None
        yield
    finally:
        os.close(descriptor)
