"""A file is not there, or whole. (What a full disk or a kill does to it is tried elsewhere.)"""

import errno
import fcntl
import os
import platform
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    target = tmp_path / "not" / "yet" / "there"
    files.publish_directory(target, {"a": b"1", "b": b"2"})
    assert tree(tmp_path) == {"not/yet/there/a": b"1", "not/yet/there/b": b"2"}


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").mkdir()
    (tmp_path / ".x.tmp" / "torn").write_bytes(b"half")
    files.publish_directory(tmp_path / "x", {"a": b"1"})
    assert tree(tmp_path) == {"x/a": b"1"}


def test_files_are_written_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(files, "write_file", lambda path, data: written.append(path.name))
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


# --- locks -------------------------------------------------------------------------------------


def refused(path: Path) -> Mistake:
    """The mistake of a lock file that another descriptor, like another process, holds."""
    with pytest.raises(Mistake) as caught, files.lock(path, wait=False):
        pass
    assert caught.value.exit_code == Exit.BUSY
    return caught.value


def test_who_holds_a_lock_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("pid 1 on a-machine-that-held-it-before since " + "9" * 99)
    with files.lock(path, wait=False):
        mistake = refused(path)
    who = rf"pid {os.getpid()} on {re.escape(platform.node())} since \d{{4}}-\d\d-\d\d [\d:]{{8}}"
    assert re.fullmatch(rf"another process \({who}\) works in {tmp_path}", mistake.what)
    assert mistake.fix == "wait for it to end or stop it"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A lock file that is held, and says nothing."""
    with (tmp_path / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield tmp_path / ".lock"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"pid 7", b"pid 7 on x since yesterday", b"0" * 10**6, b"pid 7\n" * 99],
)
def test_a_lock_file_that_says_anything_else_is_not_quoted(held: Path, content: bytes) -> None:
    held.write_bytes(content)
    assert refused(held).what == f"another process works in {held.parent}"


def test_a_lock_file_never_writes_into_another_file(tmp_path: Path) -> None:
    """In a stranger's run it may be a link to any file of yours."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("mine")
    os.link(tmp_path / "mine", tmp_path / "name")
    with pytest.raises(Mistake) as caught, files.lock(tmp_path / "link", wait=False):
        pass
    assert caught.value.exit_code == Exit.STORAGE
    with files.lock(tmp_path / "name", wait=False):
        pass
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_lock_is_held_where_its_holder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with files.lock(tmp_path / ".lock", wait=False):
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
        with files.lock(tmp_path / "lock", wait=True):
            got.set()

    with files.lock(tmp_path / "lock", wait=False):
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
        journal.write(line)
        assert (tmp_path / "log").read_bytes() == b"before\n" + b"one\ntwo\n"[: 4 * n + 4]
    journal.close()
