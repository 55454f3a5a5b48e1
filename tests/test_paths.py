"""What a path from a user must be."""

import os
from pathlib import Path

import pytest

from gpt.errors import BadValue, Exit
from gpt.paths import expanded, require_path

BAD = {
    "empty": ("", "is empty"),
    "NUL": ("a\0b", "holds a NUL"),
    "not UTF-8": (os.fsdecode(b"caf\xe9"), "is not UTF-8"),
    "a long name": (f"a/{'n' * 256}/b", "is 256 bytes long"),
    "a long name in two-byte letters": ("é" * 128, "is 256 bytes long"),
}


@pytest.mark.parametrize(("text", "what"), BAD.values(), ids=BAD.keys())
def test_what_no_file_can_be_called_is_refused(text: str, what: str) -> None:
    with pytest.raises(BadValue, match=what) as caught:
        require_path(text)
    assert caught.value.exit_code == Exit.USAGE
    caught.value.lines().encode()  # can be printed anywhere


@pytest.mark.parametrize("text", ["a", "./-x", "/", "é" * 127, "n" * 255, "~", "a b", "..", "-"])
def test_what_a_file_can_be_called_is_left_as_it_is(text: str) -> None:
    assert require_path(text) == text


def test_a_tilde_is_a_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == str(tmp_path / "a")
    assert expanded("./~a") == "./~a"  # nor does another path change: ./- is not stdin
    with pytest.raises(BadValue, match="no home directory ~no-such-user"):
        expanded("~no-such-user/a")
