"""The text that `sample.py` prints: prompt in, samples out, the first one as it is written."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TextIO

from gpt.command.process import ending_with_reader
from gpt.data.tokenizer import CharTokenizer, UnknownCharacter
from gpt.errors import Exit, Mistake
from gpt.generation.generate import Ids

FLUSH_SECONDS = 0.03  # often enough to look like typing, rarely enough to cost nothing
LONGEST_CUT = 200  # characters at most that are given up so that a sample ends at a line end
WIDEST_RULER = 80  # columns


class Sample:
    """The text of one sample: where it ends, and how much of it is sure while it grows.

    What is shown cannot be taken back. So a character is held back while it may belong to the
    stop text, or to a line that `limit` may leave unfinished.

    Args:
        limit: the most characters.
        stop: the sample ends before this text.
        end: what happens at `limit`. "length": the sample has `limit` characters. "line": it is
            cut at the last end of a line that is not empty, if that is among the last LONGEST_CUT
            characters and in the second half.

    Attributes:
        ended: what has ended the sample; None while it grows.
        visible: whether anything but white space is sure.
    """

    def __init__(self, limit: int, stop: str | None = None, end: str = "length"):
        self.limit, self.stop = limit, stop or ""
        self.ended: Literal["length", "line", "stop"] | None = None if limit else "length"
        self.visible = False
        self._may_cut_from = limit - min(LONGEST_CUT, limit // 2) if end == "line" else limit
        self._count, self._last = 0, ""
        self._held = ""
        self._cut: int | None = None  # where in _held the last whole line ends

    def add(self, character: str) -> str:
        """Take the next character that was generated; return the text that is sure now."""
        if self.ended:
            return ""
        if character == "\n" and self._last != "\n" and self._count >= self._may_cut_from:
            self._cut = len(self._held)
        self._held += character
        self._count, self._last = self._count + 1, character
        if self.stop and self._held.endswith(self.stop):
            self.ended = "stop"
            return self._release(len(self._held) - len(self.stop))
        whole_lines = len(self._held) if self._cut is None else self._cut
        if self._count == self.limit:
            self.ended = "length" if self._cut is None else "line"
            return self._release(whole_lines)
        maybe_stop = max(len(self.stop) - 1, 0)  # this many characters may be its beginning
        return self._release(max(0, min(whole_lines, len(self._held) - maybe_stop)))

    def _release(self, n: int) -> str:
        sure, self._held = self._held[:n], self._held[n:]
        self._cut = None if self._cut is None else self._cut - n
        self.visible = self.visible or bool(sure.strip())
        return sure


def write_text(
    steps: Iterator[Ids],
    tokenizer: CharTokenizer,
    samples: Sequence[Sample],
    prompt: str,
    out: TextIO,
    separator: str | None = None,
) -> None:
    """Write each sample to `out`, after the prompt: the first while it is generated, then the rest.

    Args:
        steps: the next character's ids (len(samples),), without end, as `generate` yields them.
        separator: a line between two samples; None: a ruler on a terminal, else an empty line.
    """
    later: list[list[str]] = [[] for _ in samples[1:]]

    def first() -> Iterator[str]:
        yield prompt
        for piece, *others in _grow(samples, steps, tokenizer):
            yield piece
            for pieces, other in zip(later, others, strict=True):
                pieces.append(other)

    _print(first(), out)
    for number, pieces in enumerate(later, 2):
        line = separator
        if line is None:
            line = _ruler(f"{number} of {len(samples)}") if out.isatty() else ""
        _print([line, "\n", prompt, *pieces], out)


def write_json(
    steps: Iterator[Ids],
    tokenizer: CharTokenizer,
    samples: Sequence[Sample],
    prompt: str,
    out: TextIO,
    about: dict[str, Any],
) -> None:
    """Write one JSON object a line for each sample, once all have ended.

    Args:
        steps: as for `write_text`.
        about: what each object holds beside sample (from 1), prompt, text and ended.
    """
    texts: list[list[str]] = [[] for _ in samples]
    for row in _grow(samples, steps, tokenizer):
        for pieces, piece in zip(texts, row, strict=True):
            pieces.append(piece)
    for number, (sample, pieces) in enumerate(zip(samples, texts, strict=True), 1):
        own = {"sample": number, "prompt": prompt, "text": "".join(pieces), "ended": sample.ended}
        line = json.dumps({**own, **about}, ensure_ascii=False)
        # U+2028 ends a line for some readers, U+009B begins a sequence for a terminal
        _print(["".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)], out)


def _grow(
    samples: Sequence[Sample], steps: Iterator[Ids], tokenizer: CharTokenizer
) -> Iterator[list[str]]:
    """Generate until each sample has ended; yield what each step made sure of each sample."""
    while not all(sample.ended for sample in samples):
        row = tokenizer.decode(next(steps))
        yield [sample.add(character) for sample, character in zip(samples, row, strict=True)]


def start_of(prompt: str, tokenizer: CharTokenizer) -> str:
    """What the model reads first: the prompt, or a line end where there is none."""
    return prompt or ("\n" if "\n" in tokenizer.alphabet else tokenizer.alphabet[0])


def known_prompt(prompt: str, tokenizer: CharTokenizer, unknown: str, source: str) -> str:
    """`prompt` in characters of the tokenizer.

    Args:
        unknown: what to do with others: "error", "skip" or "replace".
        source: see `require_known`.

    Raises:
        Mistake: with exit code 2, naming the first unknown one, if `unknown` is "error".
    """
    if unknown == "skip":
        return tokenizer.known(prompt)
    if unknown == "replace":
        substitute = next(c for c in "? " + tokenizer.alphabet if c in tokenizer.alphabet)
        return "".join(c if c in tokenizer.alphabet else substitute for c in prompt)
    require_known(prompt, source, tokenizer, "leave it out, or --unknown skip|replace")
    return prompt


def require_known(text: str, source: str, tokenizer: CharTokenizer, fix: str) -> None:
    r"""Refuse a text with a character that the model does not know.

    Args:
        source: where the text is from. If it is a flag and the character is the backslash of an
            escape such as \n, the fix is the spelling that the shell turns into a line end.

    Raises:
        Mistake: with exit code 2, naming the first unknown character.
    """
    try:
        tokenizer.encode(text)
    except UnknownCharacter as problem:
        if source.startswith("--") and text.startswith(("\\n", "\\t"), problem.position):
            escaped = text.replace("'", "\\'") if len(text) <= 60 else "..."
            fix = f"bash and zsh read escapes in $'...': {source} $'{escaped}'"
        else:
            fix = f"{fix}; known: {tokenizer.alphabet[:100]!r}"
        raise Mistake(Exit.USAGE, f"{source}: {problem}", fix) from None


def _print(pieces: Iterable[str], out: TextIO) -> None:
    """Write the pieces and a line end; flush while they come."""
    terminal = out.isatty()
    flushed = time.monotonic()
    with ending_with_reader(out):
        for piece in pieces:
            out.write(_visible(piece) if terminal else piece)
            if time.monotonic() - flushed > FLUSH_SECONDS:
                out.flush()
                flushed = time.monotonic()
        out.write("\n")
        out.flush()


def _ruler(title: str) -> str:
    width = min(shutil.get_terminal_size().columns, WIDEST_RULER)
    return f"── {title} ".ljust(width, "─")


def _visible(text: str) -> str:
    """Control characters as escapes: a model may write sequences that change a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
