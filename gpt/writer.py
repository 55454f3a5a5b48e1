"""What `sample.py` does: a prompt in, text out, as it is written."""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

from gpt.checkpoint import Checkpoint
from gpt.device import find_device
from gpt.errors import Exit, Mistake
from gpt.generate import generate
from gpt.tokenizer import CharTokenizer, UnknownCharacter

FLUSH_SECONDS = 0.03  # often enough to look like typing, seldom enough to cost nothing


def write(checkpoint: Checkpoint, prompt: str, args: argparse.Namespace, out: TextIO) -> None:
    """Stream `args.num_samples` continuations of `prompt` to `out`, the first as it is written."""
    tokenizer = checkpoint.tokenizer
    prompt = readable(prompt, tokenizer, args.unknown)
    start = prompt or ("\n" if "\n" in tokenizer.alphabet else tokenizer.alphabet[0])
    model = checkpoint.make_model().to(find_device(args.device))
    steps = generate(
        model,
        tokenizer.encode(start),
        num_samples=args.num_samples,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
    )
    rows: list[list[str]] = [[] for _ in range(args.num_samples)]

    def first_row() -> Iterator[str]:
        for ids in islice(steps, args.max_new_chars):
            for row, character in zip(rows, tokenizer.decode(ids), strict=True):
                row.append(character)
            yield rows[0][-1]

    _stream(prompt, until(args.stop, first_row()), out)
    for row in rows[1:]:
        for _ in islice(first_row(), args.max_new_chars - len(row)):
            pass  # the first sample met its stop; the others may go on
        _stream("\n" + prompt, until(args.stop, row), out)


def readable(prompt: str, tokenizer: CharTokenizer, unknown: str) -> str:
    """`prompt` in characters that the model knows.

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
    shown = time.monotonic()
    try:
        out.write(_visible(prompt) if terminal else prompt)
        for piece in characters:
            out.write(_visible(piece) if terminal else piece)
            if time.monotonic() - shown > FLUSH_SECONDS:
                out.flush()
                shown = time.monotonic()
        out.write("\n")
        out.flush()
    except BrokenPipeError:  # `| head -1` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise SystemExit(Exit.DONE) from None


def _visible(text: str) -> str:
    """Control characters as escapes: a model may have learned to repaint a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
