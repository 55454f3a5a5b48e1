"""The one way this project reports a mistake: what and where, how to mend it, an exit code.

error: unknown key model.n_layers (my.yaml:4)
fix: did you mean model.n_layer?
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from enum import IntEnum
from types import FrameType


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
    WORKER = 8
    SIGINT = 130
    SIGTERM = 143


class Mistake(Exception):
    """Something the user can mend. `more` holds further mistakes found at the same time."""

    def __init__(self, exit_code: Exit, what: str, fix: str, more: Sequence["Mistake"] = ()):
        super().__init__(what)
        self.exit_code, self.what, self.fix, self.more = exit_code, what, fix, tuple(more)

    def lines(self) -> str:
        own = f"error: {one_line(self.what)}\nfix: {one_line(self.fix)}"
        return "\n".join([own, *(mistake.lines() for mistake in self.more)])


def say(line: str) -> None:
    """A line on stderr; stdout is for what a command makes."""
    print(one_line(line), file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """`text` with line breaks and control characters made visible: it may quote a user's file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def run_command(main: Callable[[list[str]], int]) -> int:
    """Run `main(argv)` and turn whatever it raises into the contract's lines and exit code."""
    argv = sys.argv[1:]
    threading.excepthook = lambda _: None  # a writer's thread hands its failure to the main one
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            return main(argv)
        finally:
            _flush_stdout()
    except (Exception, KeyboardInterrupt) as problem:
        if "--debug" in argv:
            traceback.print_exc()
        if isinstance(problem, KeyboardInterrupt):
            say("stopped")
            return Exit.SIGINT
        mistake = as_mistake(problem)
        print(mistake.lines(), file=sys.stderr)
        return mistake.exit_code


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Answer Ctrl-C: raise, but never into an import.

    The start of torch's compiled modules loses an exception, and the program goes on as if nobody
    had asked it to stop, or aborts over it.
    """
    if _is_importing(frame):
        os.write(2, b"stopped\n")  # a print may be what was interrupted
        os._exit(Exit.SIGINT)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _flush_stdout() -> None:
    """See that stdout takes the last of its text: a disk may be full, a reader gone."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries again, and complains
        if not isinstance(problem, BrokenPipeError):
            raise


def as_mistake(problem: Exception) -> Mistake:
    if isinstance(problem, Mistake):
        return problem
    if isinstance(problem, OSError):
        what = f"{problem.filename or 'cannot write the output'}: {problem.strerror or problem}"
        return Mistake(Exit.STORAGE, what, "check the path, its rights and the free space")
    if isinstance(problem, ModuleNotFoundError):
        what = f"the package {problem.name} is not installed for {sys.executable}"
        fix = "activate the project's environment, or: pip install -r requirements.txt"
        return Mistake(Exit.USAGE, what, fix)
    what = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, MemoryError) or "OutOfMemory" in what or "can't allocate" in what:
        fix = "do less at a time: lower train.batch_size or --num-samples, raise train.accumulate"
        return Mistake(Exit.USAGE, f"not enough memory: {problem}", fix)
    return Mistake(
        Exit.BUG, what, "this is a fault of ours: please report it with --debug's output"
    )
