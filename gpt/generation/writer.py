"""The text that `sample.py` prints: prompt in, samples out, the first one as it is written."""

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

from gpt.data.tokenizer import CharTokenizer, UnknownCharacter
from gpt.errors import Exit, Mistake
from gpt.generation.generate import Ids

FLUSH_SECONDS = 0.03  # often enough to look like typing, rarely enough to cost nothing


def write(
    steps: Iterator[Ids],
    tokenizer: CharTokenizer,
    prompt: str,
    out: TextIO,
    *,
    num_samples: int,
    max_new_chars: int,
    stop: str | None,
) -> None:
    """Write each sample to `out`, after the prompt: the first while it is generated, then the rest.

    Args:
        steps: the next character's ids (num_samples,), as `generate` yields them.
        max_new_chars: of each sample.
        stop: each sample ends before this text.
    """
    rows: list[str] = []  # of one character for each sample

    def first_sample() -> Iterator[str]:
        for ids in islice(steps, max_new_chars):
            rows.append(tokenizer.decode(ids))
            yield rows[-1][0]

    characters = first_sample()
    _stream(prompt, until(stop, characters), out)
    for i in range(1, num_samples):
        for _ in characters:  # the first may have met its stop; the others need all of theirs
            pass
        _stream("\n" + prompt, until(stop, [row[i] for row in rows]), out)


def start_of(prompt: str, tokenizer: CharTokenizer) -> str:
    """What the model reads first: the prompt, or a line end where there is none."""
    return prompt or ("\n" if "\n" in tokenizer.alphabet else tokenizer.alphabet[0])


def known_prompt(prompt: str, tokenizer: CharTokenizer, unknown: str) -> str:
    """`prompt` in characters of the tokenizer.

    Args:
        unknown: what to do with others: "error", "skip" or "replace".

    Raises:
        Mistake: with exit code 2, naming the first unknown one, if `unknown` is "error".
    """
    if unknown == "skip":
        return tokenizer.known(prompt)
    if unknown == "replace":
        substitute = next(c for c in "? " + tokenizer.alphabet if c in tokenizer.alphabet)
        return "".join(c if c in tokenizer.alphabet else substitute for c in prompt)
    try:
        tokenizer.encode(prompt)
    except UnknownCharacter as problem:
        fix = f"leave it out, or --unknown skip|replace; known: {tokenizer.alphabet[:100]!r}"
        raise Mistake(Exit.USAGE, f"the prompt: {problem}", fix) from None
    return prompt


def until(stop: str | None, characters: Iterable[str]) -> Iterator[str]:
    """Yield the characters before the first `stop`, each once it can no longer belong to it."""
    if not stop:
        yield from characters
        return
    held = ""
    for character in characters:
        held += character
        if held == stop:
            return
        if len(held) >= len(stop):
            yield held[0]
            held = held[1:]
    yield held


def _stream(prompt: str, characters: Iterable[str], out: TextIO) -> None:
    terminal = out.isatty()
    flushed = time.monotonic()
    try:
        out.write(_visible(prompt) if terminal else prompt)
        for piece in characters:
            out.write(_visible(piece) if terminal else piece)
            if time.monotonic() - flushed > FLUSH_SECONDS:
                out.flush()
                flushed = time.monotonic()
        out.write("\n")
        out.flush()
    except BrokenPipeError:  # the reader, such as `head -1`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise SystemExit(Exit.DONE) from None


def _visible(text: str) -> str:
    """Control characters as escapes: a model may write sequences that change a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
