"""Error messages: one line each, whatever they quote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.command.process import as_mistake
from gpt.errors import Exit, Mistake, not_utf8, one_line, say


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
