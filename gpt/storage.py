"""All writes of state, through a handful of operations: a crash at any of them can be tried.

A file is either not there, or whole: it is written beside its place, synced, and renamed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt.errors import Exit, Mistake


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


def write_file(path: Path, data: bytes) -> None:
    """Create `path` with `data` and wait until the disk has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Move `source` to `target`, in place of what may be there, and wait until the disk knows."""
    source.replace(target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of `path`: a reader sees the old content or the new, whole."""
    beside = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        write_file(beside, data)
        rename(beside, path)


def publish_directory(target: Path, files: dict[str, bytes]) -> None:
    """Make directory `target` of `files`, whole or not at all; the last file is written last.

    Raises:
        Mistake: with exit code 5, when the disk is full, say; nothing of `target` is left then.
    """
    beside = target.with_name(f".{target.name}.tmp")
    with storage_errors(target):
        remove(beside)
        try:
            beside.mkdir(parents=True)
            for name, data in files.items():
                write_file(beside / name, data)
            sync_directory(beside)
            rename(beside, target)
        except OSError:
            remove(beside)
            raise


def remove(path: Path) -> None:
    """Delete a file or a directory, if it is there; a directory loses its name first."""
    if path.is_dir():
        if not path.name.startswith("."):
            hidden = path.with_name(f".{path.name}.old")
            shutil.rmtree(hidden, ignore_errors=True)
            path = path.rename(hidden)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
