"""The process around a command: its exit code, signals and age, its stdout and stderr."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

from gpt.errors import Exit, Mistake, say


def run_command(main: Callable[[list[str]], int]) -> int:
    """Run `main(argv)` and return its exit code; an exception becomes an error message."""
    argv = sys.argv[1:]
    _open_standard_files()
    if not isinstance(sys.stderr, _LossyStream):
        sys.stderr = cast(TextIO, _LossyStream(sys.stderr))
    # TensorBoard's writer thread passes its failure on to the main thread, which reports it
    threading.excepthook = lambda _: None
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
    """Handle Ctrl-C: raise KeyboardInterrupt, or end the process if an import is running.

    torch's compiled modules swallow an exception while they are imported, or abort.
    """
    if _is_importing(frame):
        write_stderr(b"stopped\n")
        os._exit(Exit.SIGINT)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class _LossyStream:
    """A text stream whose writes may fail unnoticed.

    A terminal may be closed, the reader of a pipe gone, a disk full: the message is lost then, but
    what the command does goes on.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def write_stderr(data: bytes) -> None:
    """Write from a signal handler: not by print, which the signal may have interrupted."""
    with suppress(OSError):
        os.write(2, data)


def _open_standard_files() -> None:
    """Open what the caller has closed of stdin, stdout and stderr.

    Else the next file that is opened gets its number, and messages are written into that file. A
    write to a closed stdout fails, as it should: what a command makes must not be lost unnoticed.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _flush_stdout() -> None:
    """Flush stdout; report a full disk, ignore a closed pipe."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python flushes again at exit and fails
        if not isinstance(problem, BrokenPipeError):
            raise


@contextmanager
def ending_with_reader(out: TextIO) -> Iterator[None]:
    """End the process as done if the reader of `out`, such as `head -1`, has closed the pipe."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # Python flushes again at exit
        raise SystemExit(Exit.DONE) from None


def as_mistake(problem: Exception) -> Mistake:
    """`problem` as an error message; an unexpected exception gets exit code 1."""
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
    fix = "this is a bug: please report it with the output of --debug"
    return Mistake(Exit.BUG, what, fix)


@contextmanager
def catch_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Pass SIGINT, SIGTERM and SIGHUP to `handle` inside; those ignored (nohup) stay ignored."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, lambda number, _: handle(number))
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def process_seconds() -> float:
    """Seconds since this process started, imports included."""
    try:
        started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):  # not Linux
        return time.perf_counter() - _IMPORTED


_IMPORTED = time.perf_counter()
