"""How a command reports what the user can fix: what is wrong and where, the fix, an exit code.

error: unknown key model.n_layers (my.yaml:4)
fix: did you mean model.n_layer?
"""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    PEER = 8
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


class BadValue(Mistake, ValueError):
    """A value that no setting can have. A ValueError, so that pydantic reports it with others."""

    def __init__(self, what: str, fix: str):
        super().__init__(Exit.USAGE, what, fix)


LESS_MEMORY = "do less at a time: lower train.batch_size or --num-samples, raise train.accumulate"
_FULL = (Exit.STORAGE, None, "free some space, then run the command again")
_MANY = (Exit.STORAGE, "too many open files", "raise the limit (ulimit -n), or end programs")
_SYSTEM = {  # what the system refuses whatever the file: the code, what is wrong, the fix
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _MANY,
    errno.ENFILE: _MANY,
    errno.ENOMEM: (Exit.USAGE, "not enough memory", LESS_MEMORY),
    errno.ENAMETOOLONG: (Exit.USAGE, "the name is too long", "give a shorter one"),
}


def cannot(verb: str, name: object, problem: OSError, exit_code: Exit, fix: str) -> Mistake:
    """The mistake of a file that the system does not let us `verb`.

    Args:
        name: of the file, where the system's error has none.
        exit_code, fix: of a fault of the file itself; a full disk, say, has its own in _SYSTEM.
    """
    place, reason = problem.filename or name, problem.strerror or str(problem)
    code, what, fix = _SYSTEM.get(problem.errno or 0, (exit_code, None, fix))
    return Mistake(code, f"{what}: {place}" if what else f"cannot {verb} {place}: {reason}", fix)


@contextmanager
def reading(name: object, exit_code: Exit, fix: str) -> Iterator[None]:
    """Inside, turn an OSError into the `Mistake` of a file that cannot be read."""
    try:
        yield
    except OSError as problem:
        raise cannot("read", name, problem, exit_code, fix) from problem


def not_utf8(name: object, offset: int, byte: int, exit_code: Exit, fix: str) -> Mistake:
    """The mistake of a text that is not UTF-8 from `offset` on, where `byte` is."""
    return Mistake(exit_code, f"{name} is not UTF-8: byte {offset} is 0x{byte:02x}", fix)


def decoded(data: bytes, name: object, exit_code: Exit, fix: str) -> str:
    """`data` as text, without a BOM.

    Raises:
        Mistake: at the first byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        at = len(data) - len(problem.object) + problem.start  # its object has no BOM
        raise not_utf8(name, at, data[at], exit_code, fix) from None


def say(line: str) -> None:
    """Print a line on stderr; stdout is for a command's product."""
    print(one_line(line), file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """`text` with line breaks and control characters escaped: it may quote a user's file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
