"""The text that is printed: the first sample at once, each up to its end."""

import io
import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.generation import writer
from gpt.generation.writer import Sample, known_prompt, require_known, start_of

# --- where a sample ends ------------------------------------------------------------------------


def shown(sample: Sample, text: str) -> list[str]:
    """What is shown of the sample after each character of `text`."""
    return [*accumulate(sample.add(character) for character in text)]


def ending(text: str, stop: str | None, end: str) -> tuple[str, str]:
    """What a sample of all of `text` is, and how it ends, told by looking at the whole of it."""
    if stop and stop in text:
        return text.partition(stop)[0], "stop"
    may_cut_from = len(text) - min(writer.LONGEST_CUT, len(text) // 2)
    line_ends = [i for i in range(1, len(text)) if text[i] == "\n" != text[i - 1]]
    if end == "line" and line_ends and line_ends[-1] >= may_cut_from:
        return text[: line_ends[-1]], "line"
    return text, "length"


@given(
    st.text("ab\n", min_size=1, max_size=12),
    st.none() | st.text("ab\n", min_size=1, max_size=4),
    st.sampled_from(["line", "length"]),
    st.sampled_from([200, 3]),
)
def test_a_sample_shows_what_it_is_and_takes_nothing_back(
    text: str, stop: str | None, end: str, longest_cut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "LONGEST_CUT", longest_cut)
        sample = Sample(len(text), stop, end)
        expected = ending(text, stop, end)
        assert (shown(sample, text)[-1], sample.ended) == expected
        assert sample.visible == bool(expected[0].strip())


def test_a_sample_is_cut_by_few_characters_whatever_its_lines_are() -> None:
    line, word = "x" * 299 + "\n", "x" * 1000
    for text, size in ((line * 2 + word, 600), (line + word, 500), ("a\n" + word, 4), (word, 500)):
        assert len(shown(Sample(size, end="line"), text)[-1]) in (size, 599)
    assert Sample(0, end="line").ended == "length"


def test_only_what_may_be_cut_is_held_back() -> None:
    assert shown(Sample(99, "stop"), "st. s") == ["", "", "", "s", "st"]
    assert shown(Sample(99, "xy"), "abc") == ["", "a", "ab"]
    text = "ab\ncde\nf"  # may be cut from the fifth character on
    length = [text[: i + 1] for i in range(8)]
    assert shown(Sample(8), text) == length
    assert shown(Sample(8, end="line"), text) == [*length[:6], "ab\ncde", "ab\ncde"]
    lines = shown(Sample(400, end="line"), "x" * 200 + "\nab\ncd")[200:]
    assert [text.lstrip("x") for text in lines] == ["", "", "", "\nab", "\nab", "\nab"]


# --- what is printed ----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sure_of(*samples: str) -> tuple[Iterator[Any], CharTokenizer]:
    """What `generate` yields where the model is sure of `samples`, and its tokenizer."""
    tokenizer = CharTokenizer("".join(samples))
    rows = zip(*samples, strict=True)
    return (tokenizer.encode("".join(row)).astype(np.int64) for row in rows), tokenizer


def written(
    *texts: str, prompt: str = "", out: io.StringIO | None = None, limit: int = 4, **options: Any
) -> str:
    """What `write_text` prints where the model is sure of `texts`."""
    out = out or io.StringIO()
    separator, stop = options.get("separator"), options.get("stop")
    samples = [Sample(limit, stop) for _ in texts]
    writer.write_text(*sure_of(*texts), samples, prompt, out, separator)
    return out.getvalue()


def test_each_sample_follows_the_prompt_and_ends_with_a_line_end() -> None:
    assert written("abcd") == "abcd\n"
    assert written("abcd", prompt="xy", limit=2) == "xyab\n"
    assert written("abcd", "dcba", prompt="x") == "xabcd\n\nxdcba\n"
    assert written("abcd", "dcba", prompt="x", limit=0) == "x\n\nx\n"


def test_a_stop_ends_each_sample_by_itself() -> None:
    assert written("abcd", "xbya", "aaaa", stop="b") == "a\n\nx\n\naaaa\n"


def test_nothing_is_generated_once_all_samples_have_ended() -> None:
    steps, tokenizer = sure_of("abxx", "bxxx")
    samples = [Sample(4, "b"), Sample(4, "b")]
    writer.write_text(steps, tokenizer, samples, "", io.StringIO())
    assert len([*steps]) == 2


def test_the_first_sample_is_printed_while_it_is_generated() -> None:
    out = io.StringIO()

    def steps() -> Iterator[Any]:
        for n, character in enumerate("ab"):
            assert out.getvalue() == "ab"[:n]
            yield CharTokenizer("ab").encode(character).astype(np.int64)

    writer.write_text(steps(), CharTokenizer("ab"), [Sample(2)], "", out)
    assert out.getvalue() == "ab\n"


def test_a_terminal_shows_escapes_and_a_pipe_the_text() -> None:
    text = {"prompt": "\x1b[2J", "separator": "\x07"}
    escaped = "\\x1b[2Ja\\x9b\t\n\\x07\n\\x1b[2Jabc\n"
    assert written("a\x9b\t", "abc", limit=3, out=Terminal(), **text) == escaped
    assert written("a\x9b\t", "abc", limit=3, **text) == ("\x1b[2Ja\x9b\t\n\x07\n\x1b[2Jabc\n")


def test_samples_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "16")
    texts = ("abcd", "dcba", "aaaa")
    ruled = "abcd\n── 2 of 3 ──────\ndcba\n── 3 of 3 ──────\naaaa\n"
    assert written(*texts, out=Terminal()) == ruled
    assert written(*texts, out=Terminal(), separator="--") == "abcd\n--\ndcba\n--\naaaa\n"
    assert written(*texts, separator="--") == "abcd\n--\ndcba\n--\naaaa\n"
    assert written(*texts, separator="") == written(*texts) == "abcd\n\ndcba\n\naaaa\n"
    monkeypatch.setenv("COLUMNS", "1000")
    assert max(map(len, written(*texts, out=Terminal()).splitlines())) == writer.WIDEST_RULER


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()], ids=["pipe", "terminal"])
def test_each_json_line_is_one_sample_and_safe_on_a_terminal(out: io.StringIO) -> None:
    texts = ('é"\n\u2028x', "a\\b\x9b𝄞")
    samples = [Sample(5, "x", "line"), Sample(5, "x", "line")]
    writer.write_json(*sure_of(*texts), samples, "A:\n", out, {"seed": 3})
    lines = out.getvalue().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"sample": 1, "prompt": "A:\n", "text": texts[0][:4], "ended": "stop", "seed": 3},
        {"sample": 2, "prompt": "A:\n", "text": texts[1], "ended": "length", "seed": 3},
    ]
    assert "é" in lines[0]
    assert "𝄞" in lines[1]
    assert "".join(lines).isprintable()


def test_json_without_a_character() -> None:
    out = io.StringIO()
    writer.write_json(*sure_of("a", "a"), [Sample(0), Sample(0)], "", out, {})
    assert [json.loads(line)["text"] for line in out.getvalue().splitlines()] == ["", ""]


# --- what the model knows -----------------------------------------------------------------------


def test_without_a_prompt_the_model_reads_a_line_end_first() -> None:
    assert start_of("a", CharTokenizer("ab\n")) == "a"
    assert start_of("", CharTokenizer("ab\n")) == "\n"
    assert start_of("", CharTokenizer("ba")) == "a"


def test_what_becomes_of_an_unknown_character() -> None:
    tokenizer = CharTokenizer("ab ?")
    assert known_prompt("ab", tokenizer, "error", "the prompt") == "ab"
    assert known_prompt("aéb", tokenizer, "skip", "the prompt") == "ab"
    assert known_prompt("aéb", tokenizer, "replace", "the prompt") == "a?b"
    assert known_prompt("aéb", CharTokenizer("ba"), "replace", "the prompt") == "aab"
    with pytest.raises(Mistake, match=r"'é' \(U\+00E9\), character 2") as caught:
        known_prompt("aéb", tokenizer, "error", "the prompt")
    assert caught.value.exit_code == Exit.USAGE
    assert "--unknown skip|replace; known: ' ?ab'" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "source", "alphabet", "fix"),
    [
        (r"\n\n", "--stop", "ab\n", r"--stop $'\n\n'"),
        (r"a\tb", "--prompt", "ab\t", r"--prompt $'a\tb'"),
        (r"b'\na", "--prompt", "ab\n'", r"--prompt $'b\'\na'"),
        (r"\n" + "a" * 99, "--prompt", "ab\n", "--prompt $'...'"),
        (r"a\b", "--stop", "ab", "leave it out; known: 'ab'"),  # is no escape for white space
        (r"a\n", "the prompt", "an", "leave it out; known: 'an'"),  # no shell has read it
        (r"é\n", "--stop", "n", "leave it out; known: 'n'"),
        (r"\n", "--stop", "\\n", None),
    ],
)
def test_the_fix_of_an_unknown_backslash_is_what_the_shell_reads(
    text: str, source: str, alphabet: str, fix: str | None
) -> None:
    if fix is None:
        require_known(text, source, CharTokenizer(alphabet), "leave it out")
        return
    with pytest.raises(Mistake, match="the model does not know") as caught:
        require_known(text, source, CharTokenizer(alphabet), "leave it out")
    assert caught.value.exit_code == Exit.USAGE
    assert caught.value.fix.endswith(fix)
