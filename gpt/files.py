"""All writes to disk, through a handful of operations, so that tests can crash at each of them.

A file is whole or not there: it is written under another name, synced, and renamed. The system is
called through `os` and `shutil` alone, which tests replace.
"""

import fcntl
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gpt.errors import Exit, Mistake, cannot

Content = bytes | Iterable[bytes]


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Inside, turn an OSError into a `Mistake` that names the path, mostly with exit code 5."""
    try:
        yield
    except OSError as problem:
        fix = "check the path and its rights"
        raise cannot("write", path, problem, Exit.STORAGE, fix) from problem


# --- the operations ----------------------------------------------------------------------------


def write_file(path: Path, content: Content, mode: int = 0o666) -> None:
    """Create `path`, which must not exist, with `content`, and sync it; umask narrows `mode`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        for piece in [content] if isinstance(content, bytes) else content:
            write_all(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """os.write until all is written: one call may write less."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def rename(source: Path, target: Path) -> None:
    """Rename `source` to `target`, replacing it if it exists, and sync their directory."""
    os.replace(source, target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Sync a directory, so that new and renamed files in it survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, exist_ok: bool = True) -> None:
    """Create `path` and its missing parents, and sync the names."""
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
    """Delete a file or directory if it exists; a directory is renamed first, so it goes at once."""
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
    """Write `data` to `path`: a reader sees the whole old content or the whole new one.

    Raises:
        Mistake: with exit code 5; the old content is whole then, and nothing lies beside it.
    """
    require_replaceable(path)
    beside = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        remove(beside)  # left by a crash; in a foreign run it may be a link
        try:
            write_file(beside, data)
            rename(beside, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                remove(beside)
            raise


def require_replaceable(path: Path) -> None:
    """Refuse a place that holds anything but a plain file: renaming over a device, a pipe or a
    link would put a file where others expect what was there.

    Raises:
        Mistake: with exit code 5, saying what is there.
    """
    with storage_errors(path):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISREG(mode):
        kind = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link"}.get(stat.S_IFMT(mode))
        what = f"cannot write {path}: it is {kind or 'a device, a pipe or a socket'}"
        raise Mistake(Exit.STORAGE, what, "give a plain file, or a name that is not taken yet")


def publish_directory(target: Path, files: Mapping[str, Content], mode: int = 0o666) -> None:
    """Create directory `target` with `files`, whole or not at all, written in their order.

    Args:
        mode: of the files, from their first byte on; the umask narrows it.

    Raises:
        Mistake: with exit code 5; nothing of `target` is left then.
    """
    beside = target.with_name(f".{target.name}.tmp")
    with storage_errors(target):
        remove(beside)
        make_directory(target.parent)
        try:
            os.mkdir(beside)
            for name, content in files.items():
                write_file(beside / name, content, mode)
            sync_directory(beside)
            rename(beside, target)
        except BaseException:
            remove(beside)
            raise


class Journal:
    """A file that is appended to by whole lines; a crash may cut the last one short."""

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
    """Hold the lock file `path` inside; the system releases it when the process dies.

    Raises:
        Mistake: with exit code 7, naming the holder, if another process holds it and `wait` is
            false.
    """
    with storage_errors(path):
        make_directory(path.parent)
        # in a foreign run it may be a link
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            what = f"another process{_holder(descriptor)} works in {path.parent}"
            fix = "wait for it to end or stop it"
            raise Mistake(Exit.BUSY, what, fix) from None
        _name_holder(descriptor)
        yield
    finally:
        os.close(descriptor)


HOLDER = "pid {} on {} since {}"  # what a held lock file says


def _name_holder(descriptor: int) -> None:
    """Write into a lock file who holds it: a help for people, so no failure of it matters."""
    with suppress(OSError):
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # not another name's content
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, HOLDER.format(os.getpid(), platform.node(), now).encode(), 0)


def _holder(descriptor: int) -> str:
    """` (pid ... on ... since ...)` as a lock file says; empty if it says anything else."""
    try:
        said = os.pread(descriptor, 200, 0).decode()
    except (OSError, UnicodeDecodeError):
        return ""
    form = HOLDER.format(r"\d{1,10}", r"[\w.-]{1,100}", r"[\d-]{10} [\d:]{8}")
    return f" ({said})" if re.fullmatch(form, said) else ""
