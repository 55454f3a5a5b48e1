"""How a command reports what the user can fix: what is wrong and where, the fix, an exit code.

error: unknown key model.n_layers (my.yaml:4)
fix: did you mean model.n_layer?
"""

import sys
from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    BUG = 1
    USAGE = 2
    CORPUS = 3
    CHECKPOINT = 4
    STORAGE = 5
    NUMERIC = 6
    BUSY = 7
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143
    SIGBREAK = 149  # Windows: Ctrl-Break


class Mistake(Exception):
    """An error that the user can fix. `more` holds others found at the same time."""

    def __init__(self, exit_code: Exit, what: str, fix: str, more: Sequence["Mistake"] = ()):
        super().__init__(what)
        self.exit_code, self.what, self.fix, self.more = exit_code, what, fix, tuple(more)

    def lines(self) -> str:
        own = f"error: {one_line(self.what)}\nfix: {one_line(self.fix)}"
        return "\n".join([own, *(mistake.lines() for mistake in self.more)])


def not_utf8(name: object, offset: int, byte: int, exit_code: Exit, fix: str) -> Mistake:
    """The mistake of a text that is not UTF-8 from `offset` on, where `byte` is."""
    return Mistake(exit_code, f"{name} is not UTF-8: byte {offset} is 0x{byte:02x}", fix)


def say(line: str) -> None:
    """Print a line on stderr; stdout is for a command's product."""
    print(one_line(line), file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """`text` with line breaks and control characters escaped: it may quote a user's file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
