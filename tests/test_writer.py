"""The text that is printed: the first sample at once, each up to its stop."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.generation.writer import known_prompt, start_of, until, write


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=4))
def test_until_is_the_text_before_the_stop(text: str, stop: str) -> None:
    assert "".join(until(stop, text)) == text.partition(stop)[0]
    assert "".join(until(None, text)) == text


def test_what_is_known_is_not_held_back() -> None:
    shown = until("stop", iter("st. and more"))
    assert next(shown) == "s"
    source: Iterator[str] = iter("abcdefg")
    assert [*zip(until("xy", source), range(3), strict=False)][-1][0] == "c"
    assert len([*source]) >= 2  # and no more is read than is needed


def test_a_terminal_shows_escapes_and_a_pipe_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt.generation import writer

    for terminal, expected in ((True, "a\\x1b[2J\\'é\t\n"), (False, "a\x1b[2J\\'é\t\n")):
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda terminal=terminal: terminal)
        writer._stream("a\x1b[2J", iter("\\'é\t"), out)
        assert out.getvalue() == expected


def written(prompt: str = "", samples: tuple[str, ...] = ("abcd",), **options: Any) -> str:
    """What `write` prints where the model is sure of `samples`, character by character."""
    tokenizer = CharTokenizer("abcdxy\n")
    steps = (tokenizer.encode("".join(row)).astype(np.int64) for row in zip(*samples, strict=True))
    out = io.StringIO()
    options = {"num_samples": len(samples), "max_new_chars": 4, "stop": None, **options}
    write(steps, tokenizer, prompt, out, **options)
    return out.getvalue()


def test_each_sample_follows_the_prompt_and_ends_with_a_line_end() -> None:
    assert written() == "abcd\n"
    assert written("xy", max_new_chars=2) == "xyab\n"
    assert written("x", samples=("abcd", "dcba")) == "xabcd\n\nxdcba\n"
    assert written("x", samples=("abcd", "dcba"), max_new_chars=0) == "x\n\nx\n"


def test_a_stop_ends_each_sample_by_itself() -> None:
    assert written(samples=("abcd", "xbya", "aaaa"), stop="b") == "a\n\nx\n\naaaa\n"


def test_the_first_sample_is_printed_while_it_is_generated() -> None:
    shown: list[str] = []

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            shown.append(text)
            return len(text)

    def steps() -> Iterator[Any]:
        for n, character in enumerate("ab"):
            assert "".join(shown) == "ab"[:n]
            yield CharTokenizer("ab").encode(character).astype(np.int64)

    write(steps(), CharTokenizer("ab"), "", Out(), num_samples=1, max_new_chars=9, stop=None)
    assert "".join(shown) == "ab\n"


def test_without_a_prompt_the_model_reads_a_line_end_first() -> None:
    assert start_of("a", CharTokenizer("ab\n")) == "a"
    assert start_of("", CharTokenizer("ab\n")) == "\n"
    assert start_of("", CharTokenizer("ba")) == "a"


def test_what_becomes_of_an_unknown_character() -> None:
    tokenizer = CharTokenizer("ab ?")
    assert known_prompt("ab", tokenizer, "error") == "ab"
    assert known_prompt("aéb", tokenizer, "skip") == "ab"
    assert known_prompt("aéb", tokenizer, "replace") == "a?b"
    assert known_prompt("aéb", CharTokenizer("ba"), "replace") == "aab"
    with pytest.raises(Mistake, match=r"'é' \(U\+00E9\), character 2") as caught:
        known_prompt("aéb", tokenizer, "error")
    assert caught.value.exit_code == Exit.USAGE
