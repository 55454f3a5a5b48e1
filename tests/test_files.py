"""A file is not there, or whole. (What a full disk or a kill does to it is tried elsewhere.)"""

import contextlib
import errno
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from gpt import files
from gpt.errors import Exit, Mistake


def tree(folder: Path) -> dict[str, bytes]:
    """Content of each file under `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    for data in (b"first", b"", b"the third, longer"):
        files.replace_file(tmp_path / "name", data)
        assert tree(tmp_path) == {"name": data}


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "check the path and its rights"),
        (errno.EROFS, "check the path and its rights"),
    ],
)
def test_the_fix_fits_what_went_wrong(tmp_path: Path, number: int, fix: str) -> None:
    with pytest.raises(Mistake, match="cannot write") as caught, files.storage_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.exit_code == Exit.STORAGE
    assert caught.value.fix.startswith(fix)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """In a stranger's run it may lead to any file of yours, or nowhere."""
    (tmp_path / "mine").write_bytes(b"mine")
    for target in ("nowhere", "mine"):
        (tmp_path / ".name.tmp").symlink_to(target)
        files.replace_file(tmp_path / "name", b"new")
    assert tree(tmp_path) == {"mine": b"mine", "name": b"new"}
    assert not (tmp_path / "name").is_symlink()
    (tmp_path / "link").symlink_to("mine")
    with pytest.raises(FileExistsError):
        files.write_file(tmp_path / "link", b"new")


def test_a_directory_appears_with_all_its_files(tmp_path: Path) -> None:
    files.publish_directory(tmp_path / "x", {"a": b"1", "b": b"2"})
    assert tree(tmp_path) == {"x/a": b"1", "x/b": b"2"}


def test_a_parent_that_was_moved_away_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="No such file or directory") as caught:
        files.publish_directory(tmp_path / "moved" / "x", {"a": b"1"})
    assert caught.value.exit_code == Exit.STORAGE
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").mkdir()
    (tmp_path / ".x.tmp" / "torn").write_bytes(b"half")
    files.publish_directory(tmp_path / "x", {"a": b"1"})
    assert tree(tmp_path) == {"x/a": b"1"}


def test_files_are_written_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(files, "write_file", lambda path, *_: written.append(path.name))
    files.publish_directory(tmp_path / "x", {"b": b"", "a": b"", "manifest": b""})
    assert written == ["b", "a", "manifest"]


def test_remove_takes_files_and_directories_or_nothing(tmp_path: Path) -> None:
    files.publish_directory(tmp_path / "folder", {"a": b"1"})
    (tmp_path / "file").write_bytes(b"2")
    for name in ("folder", "file", "nothing"):
        files.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_systems_errors_are_the_contracts(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (
        lambda: files.replace_file(tmp_path / "file" / "below", b""),
        lambda: files.publish_directory(tmp_path / "file" / "below", {}),
    ):
        with pytest.raises(
            Mistake, match=r"cannot write .*: (Not a directory|File exists)"
        ) as caught:
            write()
        assert caught.value.exit_code == Exit.STORAGE
        assert caught.value.fix


# --- reading what others have made ---------------------------------------------------------------


def make_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "make", [os.mkfifo, make_directory, lambda path: path.symlink_to("/dev/zero")]
)
def test_nothing_but_a_plain_file_is_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """At once: a pipe without a writer would keep a reader waiting."""
    make(tmp_path / "odd")
    with pytest.raises(OSError, match="not a plain file"):
        files.open_plain(tmp_path / "odd")


def test_a_plain_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"a\r\nb")
    with files.open_plain(tmp_path / "plain") as file:
        assert file.read() == b"a\r\nb"


# --- what Windows does otherwise -----------------------------------------------------------------


class DeniedOnWindows(PermissionError):
    winerror = 32  # another process has the file open


@pytest.fixture
def open_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the next operations of files on names be denied, so many times."""

    def deny(times: int) -> None:
        for name in ("replace", "unlink"):
            real = getattr(os, name)

            def denied(*paths: Path, real: Callable[..., None] = real) -> None:
                nonlocal times
                times -= 1
                if times >= 0:
                    raise DeniedOnWindows(13, "open elsewhere")
                real(*paths)

            monkeypatch.setattr(os, name, denied)

    return deny


def test_a_name_that_is_open_elsewhere_is_waited_for(
    tmp_path: Path, open_elsewhere: Callable[[int], None]
) -> None:
    (tmp_path / "name").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    open_elsewhere(3)
    files.replace_file(tmp_path / "name", b"new")
    assert tree(tmp_path) == {"name": b"new"}
    open_elsewhere(3)
    files.remove(tmp_path / "folder")
    open_elsewhere(3)
    files.remove(tmp_path / "name")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_stays_open_elsewhere_is_a_mistake(
    tmp_path: Path, open_elsewhere: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.01)
    (tmp_path / "name").write_bytes(b"old")
    open_elsewhere(10**6)
    with pytest.raises(Mistake, match="open elsewhere") as caught:
        files.replace_file(tmp_path / "name", b"new")
    assert caught.value.exit_code == Exit.STORAGE
    assert (tmp_path / "name").read_bytes() == b"old"


def test_missing_rights_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", denied)
    monkeypatch.setattr(files.time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(Mistake, match="Permission denied"):
        files.replace_file(tmp_path / "name", b"new")


@pytest.mark.parametrize("problem", [errno.EINVAL, errno.EIO])
def test_a_directory_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    """Some file systems sync no directory; a sync that failed is another thing."""

    def sync(_: int) -> None:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(os, "fsync", sync)
    if problem == errno.EINVAL:
        files.sync_directory(tmp_path)
    else:
        with pytest.raises(OSError, match=os.strerror(problem)):
            files.sync_directory(tmp_path)


# --- locks -------------------------------------------------------------------------------------


def refused(path: Path) -> Mistake:
    """The mistake of a lock file that another descriptor, like another process, holds."""
    with pytest.raises(Mistake) as caught, files.lock(path):
        pass
    assert caught.value.exit_code == Exit.BUSY
    return caught.value


WHO = rf"\(pid {os.getpid()} on {re.escape(platform.node())} since \d{{4}}-\d\d-\d\d [\d:]{{8}}\)"


def test_who_holds_a_lock_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.with_name(".lock.holder").write_text("pid 1 on a-machine-that-held-it-before", "utf-8")
    with files.lock(path):
        mistake = refused(path)
    assert re.fullmatch(f"another process {WHO} works in {tmp_path}", mistake.what)
    assert mistake.fix == "wait for it to end or stop it"


def test_a_lock_that_was_released_names_nobody(tmp_path: Path) -> None:
    with files.lock(tmp_path / ".lock"):
        pass
    assert tree(tmp_path) == {".lock": b""}


def test_who_is_waited_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and then the lock is had as soon as its holder lets it go."""
    monkeypatch.setattr(files, "WAITS_IN_SILENCE", 0.01)
    said: list[str] = []
    holder = contextlib.ExitStack()
    holder.enter_context(files.lock(tmp_path / ".lock"))

    def say(line: str) -> None:
        said.append(line)
        threading.Thread(target=holder.close).start()

    def wait() -> None:
        with files.lock(tmp_path / ".lock", say):
            said.append("mine")

    waiting = threading.Thread(target=wait)  # filelock forbids a thread to wait for itself
    waiting.start()
    waiting.join(timeout=60)
    assert re.fullmatch(f"waiting: another process {WHO} works in {tmp_path}", said[0])
    assert said[1:] == ["mine"]


def test_a_lock_that_is_free_is_not_spoken_of(tmp_path: Path) -> None:
    with files.lock(tmp_path / ".lock", pytest.fail):
        pass


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A lock file that is held, and nothing beside it."""
    with FileLock(tmp_path / ".lock"):
        yield tmp_path / ".lock"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"pid 7", b"pid 7 on x since yesterday", b"0" * 10**6, b"pid 7\n" * 99],
)
def test_a_holder_that_says_anything_else_is_not_quoted(held: Path, content: bytes) -> None:
    held.with_name(".lock.holder").write_bytes(content)
    assert refused(held).what == f"another process works in {held.parent}"


def test_a_pipe_in_place_of_the_holder_is_not_waited_for(held: Path) -> None:
    os.mkfifo(held.with_name(".lock.holder"))
    assert refused(held).what == f"another process works in {held.parent}"


@pytest.mark.parametrize("problem", [errno.ENOSYS, errno.ENOLCK])
def test_where_no_lock_can_be_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    """Some network drives have none; filelock alone would make do with a file that is there."""

    def none(_: int) -> bool:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr("filelock._unix.lock_fd_nonblocking", none)
    with pytest.raises(Mistake, match=os.strerror(problem)) as caught, files.lock(tmp_path / "x"):
        pytest.fail("worked without a lock")
    assert caught.value.exit_code == Exit.STORAGE


def test_a_lock_never_writes_into_another_file(tmp_path: Path) -> None:
    """In a stranger's run lock and holder may be links to any file of yours."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "lock.holder").symlink_to("mine")
    os.link(tmp_path / "mine", tmp_path / "name")
    with pytest.raises(Mistake) as caught, files.lock(tmp_path / "link"):
        pass
    assert caught.value.exit_code == Exit.STORAGE
    for name in ("name", "lock"):
        with files.lock(tmp_path / name):
            pass
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_lock_is_held_where_its_holder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_file", full)
    with files.lock(tmp_path / ".lock"):
        assert refused(tmp_path / ".lock").what == f"another process works in {tmp_path}"


def test_a_directory_that_cannot_be_emptied_is_out_of_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "file").touch()
    monkeypatch.setattr(os, "unlink", refuse)
    files.remove(tmp_path / "name")
    assert not (tmp_path / "name").exists()


def test_who_waits_for_a_lock_gets_it_when_it_is_free(tmp_path: Path) -> None:
    began, got = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        with files.lock(tmp_path / "lock", say=lambda line: None):
            got.set()

    with files.lock(tmp_path / "lock"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert began.wait(10)
        assert not got.wait(0.2)  # however long: it must not happen
    assert got.wait(10)
    waiting.join()


def test_a_journal_is_appended_to_by_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"before\n")
    journal = files.Journal(tmp_path / "log")
    for n, line in enumerate([b"one", b"two"]):
        journal.write(line + b"\n")
        assert (tmp_path / "log").read_bytes() == b"before\n" + b"one\ntwo\n"[: 4 * n + 4]
    journal.close()
