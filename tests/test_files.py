"""A file is not there, or whole. (What a full disk or a kill does to it is tried elsewhere.)"""

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


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """In a stranger's run it may lead to any file of yours."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".name.tmp").symlink_to("mine")
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
