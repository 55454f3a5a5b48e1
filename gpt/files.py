"""All writes to disk, through a handful of operations, so that tests can crash at each of them.

A file is whole or not there: it is written under another name, synced, and renamed. The system is
called through `os` and `shutil` alone, which tests replace; locks are those of `filelock`. What
Windows does otherwise is in SECURITY.md, "What each system promises".
"""

import errno
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from filelock import FileLock, Timeout

from gpt.errors import Exit, Mistake, cannot

Content = bytes | Iterable[bytes]

BINARY = getattr(os, "O_BINARY", 0)  # Windows: line ends are written as they are
AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # POSIX: opening a pipe does not wait for its writer
DENIED_WHILE_OPEN = (5, 32)  # Windows: errors of renaming or deleting what another process reads
PATIENCE = 5.0  # seconds to try again
WAITS_IN_SILENCE = 1.0  # seconds, for a lock


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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, mode)
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
    _once_closed(lambda: os.replace(source, target))
    sync_directory(target.parent)


def _once_closed(operation: Callable[[], None]) -> None:
    """Do `operation`; where Windows denies it since a file is open, try again for a while."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return operation()
        except PermissionError as problem:
            denied = getattr(problem, "winerror", None) in DENIED_WHILE_OPEN
            if not denied or time.monotonic() > end:
                raise
        time.sleep(0.02)


def sync_directory(path: Path) -> None:
    """Sync a directory, so that new and renamed files in it survive a power loss.

    Windows opens no directory, and some network file systems sync none: nothing is done there.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # POSIX: such a descriptor cannot be synced
            raise
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
            _once_closed(lambda: os.replace(path, hidden))
            shutil.rmtree(hidden, ignore_errors=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
    elif path.is_symlink() or path.exists():
        _once_closed(lambda: os.unlink(path))


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file to read. A pipe would wait for its writer, a device may never end.

    Raises:
        OSError: if it cannot be opened, or is anything but a plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | AT_ONCE | BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


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

    Its parent must be there: one that was moved away is not made anew.

    Args:
        mode: of the files, from their first byte on; the umask narrows it.

    Raises:
        Mistake: with exit code 5; nothing of `target` is left then.
    """
    beside = target.with_name(f".{target.name}.tmp")
    with storage_errors(target):
        remove(beside)
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
    """A file that is appended to; a crash may cut the last piece short."""

    def __init__(self, path: Path):
        self.path, self.descriptor = path, os.open(path, os.O_WRONLY | os.O_APPEND | BINARY)

    def write(self, data: bytes) -> None:
        with storage_errors(self.path):
            write_all(self.descriptor, data)

    def sync(self) -> None:
        with storage_errors(self.path):
            os.fsync(self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)


@contextmanager
def lock(path: Path, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` inside; the system releases it when the process dies.

    Who holds it is said beside it, in `<path>.holder`: Windows lets nobody read a locked file.

    Args:
        say: is told who holds it, once the wait exceeds a second; None: do not wait.

    Raises:
        Mistake: with exit code 7, naming the holder, if another process holds it and there is no
            `say`; 5 if there can be no lock.
    """
    with storage_errors(path):
        make_directory(path.parent)
        held = FileLock(path, preserve_lock_file=True, fallback_to_soft=False)
        try:
            held.acquire(timeout=WAITS_IN_SILENCE if say else 0)
        except Timeout:
            busy = f"another process{_holder(path)} works in {path.parent}"
            if not say:
                raise Mistake(Exit.BUSY, busy, "wait for it to end or stop it") from None
            say(f"waiting: {busy}")
            held.acquire()
    try:
        _name_holder(path)
        yield
    finally:
        with suppress(OSError):
            remove(_beside(path))
        held.release()


HOLDER = "pid {} on {} since {}"  # what the file beside a held lock says


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _name_holder(path: Path) -> None:
    """Write beside a lock who holds it: a help for people, so no failure of it matters."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):
        remove(_beside(path))  # left by a crash; in a foreign run it may be a link
        write_file(_beside(path), HOLDER.format(os.getpid(), platform.node(), now).encode())


def _holder(path: Path) -> str:
    """` (pid ... on ... since ...)` as it is said beside a lock; empty if anything else is."""
    try:
        with open_plain(_beside(path)) as file:
            said = file.read(200).decode()
    except (OSError, UnicodeDecodeError):
        return ""
    form = HOLDER.format(r"\d{1,10}", r"[\w.-]{1,100}", r"[\d-]{10} [\d:]{8}")
    return f" ({said})" if re.fullmatch(form, said) else ""
