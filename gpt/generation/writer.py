"""The text that `sample.py` prints: prompt in, samples out, the first one as it is written."""

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

from gpt.data.tokenizer import CharTokenizer, UnknownCharacter
from gpt.errors import Exit, Mistake
from gpt.generation.generate import generate
from gpt.model import GPT

FLUSH_SECONDS = 0.03  # often enough to look like typing, rarely enough to cost nothing


def write(
    model: GPT,
    tokenizer: CharTokenizer,
    prompt: str,
    out: TextIO,
    *,
    max_new_chars: int,
    stop: str | None,
    num_samples: int,
    seed: int,
    temperature: float,
    top_k: int,
    top_p: float,
) -> None:
    """Write `num_samples` continuations of `prompt` to `out`, each after the prompt.

    Args:
        model: in evaluation mode.
        prompt: in characters of the tokenizer; empty: a line end is the start, and not printed.
        max_new_chars: of each sample.
        stop: each sample ends before this text.
        seed, temperature, top_k, top_p: see `generate`.
    """
    start = prompt or ("\n" if "\n" in tokenizer.alphabet else tokenizer.alphabet[0])
    steps = generate(
        model,
        tokenizer.encode(start),
        num_samples=num_samples,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    samples: list[list[str]] = [[] for _ in range(num_samples)]

    def first_sample() -> Iterator[str]:
        for ids in islice(steps, max_new_chars):
            for sample, character in zip(samples, tokenizer.decode(ids), strict=True):
                sample.append(character)
            yield samples[0][-1]

    first = first_sample()
    _stream(prompt, until(stop, first), out)
    if num_samples > 1:
        for _ in first:  # it may have met its stop; the others need all their characters
            pass
    for sample in samples[1:]:
        _stream("\n" + prompt, until(stop, sample), out)


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
    """The characters before `stop`, each as soon as it cannot be a part of it."""
    if not stop:
        yield from characters
        return
    held = ""
    for character in characters:
        held += character
        if held.endswith(stop):
            yield held.removesuffix(stop)
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
