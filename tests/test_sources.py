"""What data.text names: files, folders, patterns, stdin; and what is no text."""

import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt import paths
from gpt.data.sources import abbreviated, own_texts, settled
from gpt.data.text import mode_of_copy
from gpt.errors import Exit, Mistake


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.txt, a/z.md, a/B.txt and what is no text: a hidden file, a hidden folder, an image."""
    place = tmp_path / "texts"
    for name in ("b.txt", "a/z.md", "a/B.txt", ".hidden", ".git/config"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "a" / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 9)
    return place


def names_of(folder: Path, *given: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in own_texts([*given])]


def test_below_a_folder_all_texts_are_read_by_name(folder: Path) -> None:
    said: list[str] = []
    found = own_texts(str(folder), say=said.append)
    assert [str(path.relative_to(folder)) for path in found] == ["a/B.txt", "a/z.md", "b.txt"]
    assert said == [f"left out, binary: {folder}/a/image.png"]


def test_the_order_is_that_of_the_arguments_and_then_of_the_names(folder: Path) -> None:
    assert names_of(folder, str(folder / "b.txt"), str(folder / "a")) == [
        "b.txt",
        "a/B.txt",
        "a/z.md",
    ]
    assert names_of(folder, str(folder / "*" / "*.txt")) == ["a/B.txt"]
    assert names_of(folder, str(folder / "**" / "*.*t")) == ["a/B.txt", "b.txt"]


def test_the_order_is_not_that_of_the_file_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, walk = names_of(folder, str(folder)), os.walk

    def backwards(place: Path, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for here, folders, names in walk(place, **options):
            folders.reverse()
            yield here, folders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert names_of(folder, str(folder)) == before


def test_a_file_with_the_signs_of_a_pattern_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("a")
    (tmp_path / "a1.txt").write_text("a")
    assert names_of(tmp_path, str(tmp_path / "a[1].txt")) == ["a[1].txt"]


def test_a_file_given_twice_is_read_once_and_said(folder: Path) -> None:
    said: list[str] = []
    (folder / "link.txt").symlink_to(folder / "b.txt")
    given = [str(folder / "b.txt"), str(folder / "a" / ".." / "b.txt"), str(folder / "link.txt")]
    assert own_texts(given, say=said.append) == [folder / "b.txt"]
    assert said == [f"{name} is given twice: it is read once" for name in given[1:]]


def refused(*given: str) -> Mistake:
    with pytest.raises(Mistake) as caught:
        own_texts([*given], fix="the fix")
    assert caught.value.exit_code == Exit.CORPUS
    return caught.value


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, what in (
        ("nowhere.txt", "is not there"),
        ("empty", "is a directory without a text"),
        ("pipe", "is no plain file"),
    ):
        mistake = refused(str(tmp_path / name))
        assert (mistake.what, mistake.fix) == (f"data.text: {tmp_path / name} {what}", "the fix")
    assert f"nothing matches {tmp_path}/*.md" in refused(str(tmp_path / "*.md")).what


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        *(("utf-16", "UTF-16"), ("utf-32", "UTF-32")),
        *(("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")),
    ],
)
def test_utf_16_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, codec: str, encoding: str
) -> None:
    path = tmp_path / "my text.txt"
    text = "Where the bee sucks, there suck I: Ω\n" * 9
    path.write_bytes(text.encode(codec))
    mistake = refused(str(path))
    assert mistake.what == f"{path} is {encoding}, not UTF-8"
    command, _, _ = mistake.fix.partition(", and give")
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert (tmp_path / "my text.utf8.txt").read_text("utf-8") == text
    folder_too = refused(str(tmp_path / "*ext.txt"))
    assert folder_too.what == mistake.what, "a text in another encoding is not left out unsaid"


def test_a_folder_that_may_not_be_listed_is_not_left_out_unsaid(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may list all: the system's refusal is put in by hand."""
    scan = os.scandir

    def scandir(place: Path | str) -> Any:
        if Path(place) == folder / "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    mistake = refused(str(folder))
    assert mistake.what == f"cannot read {folder / 'a'}: Permission denied"


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "archive").write_bytes(b"name.txt" + b"\0" * 500 + b"a text")
    for name in ("noise", "archive"):
        mistake = refused(str(tmp_path / name))
        assert mistake.what == f"{tmp_path / name} is binary: it holds NUL bytes"
    assert "a directory without a text" in refused(str(tmp_path)).what


def test_a_stray_nul_is_no_reason_to_refuse_a_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("naïve\0 " + "text " * 99, "utf-8")
    assert own_texts(str(tmp_path / "text.txt"))


def test_a_character_across_the_end_of_the_head_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a\0" + "é" * 9999, "utf-8")
    assert own_texts(str(tmp_path / "text.txt"))


# --- stdin -------------------------------------------------------------------------------------


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What stdin holds: more than one piece."""
    data = "Där är \U0001f600\r\n".encode() * 30_000
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    return data


def test_stdin_is_kept_byte_for_byte_where_it_is_said(piped: bytes) -> None:
    said: list[str] = []
    name = settled("-", said.append)
    assert isinstance(name, str)
    assert Path(name).read_bytes() == piped
    assert Path(name).parent == paths.DATA / "stdin"
    assert said == [f"stdin is kept as {name}, to resume from"]
    assert list((paths.DATA / "stdin").iterdir()) == [Path(name)]
    assert own_texts(name) == [Path(name)]


def test_stdin_beside_files_keeps_its_place(piped: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.DATA.parent)
    first, kept, last = settled(["a.txt", "-", "~/b*"], ignore)
    assert first == str(Path("a.txt").absolute())
    assert Path(kept).read_bytes() == piped
    assert last == str(Path("~/b*").expanduser())


def test_nothing_is_left_of_a_stdin_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
    with pytest.raises(Mistake) as caught:
        settled("-", ignore)
    assert caught.value.exit_code == Exit.CORPUS
    assert caught.value.what == "cannot read stdin: Input/output error"
    assert not list((paths.DATA / "stdin").iterdir())


def test_only_its_owner_may_read_what_was_piped_in(piped: bytes) -> None:
    """From its first byte on, and so its prepared copy too."""
    before = os.umask(0o022)
    try:
        kept = Path(str(settled("-", ignore)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.stat().st_mode) == mode_of_copy([kept]) == 0o600


def test_a_line_holds_no_thousand_names() -> None:
    assert abbreviated(["a", "b", "c", "d", "e"]) == "a, b, c, d, e"
    assert abbreviated(["a", "b", "c", "d", "e", "f"]) == "a, b, c, 2 more, f"
