"""Error messages: one line each, whatever they quote."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.command.process import as_mistake
from gpt.errors import BadValue, Exit, Mistake, cannot, not_utf8, one_line, reading, say


@given(st.text(st.characters()))
def test_one_line_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert line == text or not text.isprintable()
    assert as_mistake(ValueError(text)).lines().count("\n") == 1


def test_lines_name_each_mistake_and_its_fix() -> None:
    other = Mistake(Exit.CORPUS, "two", "so\nand so")
    assert Mistake(Exit.USAGE, "one", "thus", [other]).lines() == (
        "error: one\nfix: thus\nerror: two\nfix: so\\nand so"
    )


def test_a_text_that_is_not_utf8_is_named_with_its_byte() -> None:
    mistake = not_utf8("a.txt", 7, 0x0A, Exit.CORPUS, "save it")
    assert mistake.lines() == "error: a.txt is not UTF-8: byte 7 is 0x0a\nfix: save it"
    assert mistake.exit_code == Exit.CORPUS


def test_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2Jb")
    assert tuple(capsys.readouterr()) == ("", "a\\x1b[2Jb\n")


@pytest.mark.parametrize(
    ("number", "code", "what"),
    [
        (errno.EACCES, Exit.CORPUS, "cannot read a.txt: Permission denied"),
        (errno.ENOSPC, Exit.STORAGE, "cannot read a.txt: No space left on device"),
        (errno.EMFILE, Exit.STORAGE, "too many open files: a.txt"),
        (errno.ENFILE, Exit.STORAGE, "too many open files: a.txt"),
        (errno.ENAMETOOLONG, Exit.USAGE, "the name is too long: a.txt"),
        (errno.ENOMEM, Exit.USAGE, "not enough memory: a.txt"),
    ],
)
def test_what_the_system_refuses_has_its_own_words(number: int, code: Exit, what: str) -> None:
    with pytest.raises(Mistake) as caught, reading("a.txt", Exit.CORPUS, "the fix of its own"):
        raise OSError(number, os.strerror(number))
    assert (caught.value.exit_code, caught.value.what) == (code, what)
    own = number == errno.EACCES
    assert (caught.value.fix == "the fix of its own") is own


def test_the_file_that_the_system_names_is_named() -> None:
    problem = OSError(errno.EACCES, "Permission denied", "b.txt")
    assert cannot("write", "a", problem, Exit.STORAGE, "so").what.startswith("cannot write b.txt: ")


def test_a_bad_value_is_a_mistake_of_usage_and_a_value_error() -> None:
    assert isinstance(BadValue("a", "b"), ValueError)
    assert as_mistake(BadValue("a", "b")).lines() == "error: a\nfix: b"
    assert BadValue("a", "b").exit_code == Exit.USAGE
