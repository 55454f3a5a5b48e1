"""The process around a command: its exit code, signals and age, its stdout and stderr."""

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

from gpt.errors import LESS_MEMORY, Exit, Mistake, cannot, say

LEAST_ADDRESSES = 3 * 2**28  # bytes; below it, torch and its libraries cannot even be loaded
OUT_OF_MEMORY = (  # said by torch, by the loader of libraries, by Python
    "OutOfMemory",
    "can't allocate",
    "annot allocate",
    "failed to map segment",
    "can't start new thread",
)
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def run_command(main: Callable[[list[str]], int]) -> int:
    """Run `main(argv)` and return its exit code; an exception becomes an error message."""
    argv = sys.argv[1:]
    _open_standard_files()
    _let_stdout_hold_any_text()
    if not isinstance(sys.stderr, _LossyStream):
        sys.stderr = cast(TextIO, _LossyStream(sys.stderr))
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            _require_place_and_memory()
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


def _require_place_and_memory() -> None:
    """Refuse what would make torch's libraries end the process themselves, without a word.

    Raises:
        Mistake: with exit code 2.
    """
    try:
        Path.cwd()
    except OSError:
        what = "the working directory is gone or may not be read"
        raise Mistake(Exit.USAGE, what, "change to another one: cd") from None
    with suppress(ImportError):  # not POSIX
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if 0 <= limit < LEAST_ADDRESSES:
            what = f"this process may use {limit >> 20} MiB of addresses, of which torch needs more"
            fix = f"raise the limit: ulimit -v {LEAST_ADDRESSES >> 10} or more"
            raise Mistake(Exit.USAGE, what, fix)


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
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")


def _let_stdout_hold_any_text() -> None:
    """UTF-8 with the line ends that a command writes, whatever locale and system prefer."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):  # by then it is done; the position in a terminal cannot be told
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")


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
        verb = "use" if problem.filename else "write"
        fix = "check the path, its rights and the free space"
        return cannot(verb, "the output", problem, Exit.STORAGE, fix)
    if isinstance(problem, ModuleNotFoundError):
        what = f"the package {problem.name} is not installed for {sys.executable}"
        fix = "activate the project's environment, or: pip install -r requirements.txt"
        return Mistake(Exit.USAGE, what, fix)
    what = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, MemoryError) or any(words in what for words in OUT_OF_MEMORY):
        return Mistake(Exit.USAGE, f"not enough memory: {problem}", LESS_MEMORY)
    fix = "this is a bug: please report it with the output of --debug"
    return Mistake(Exit.BUG, what, fix)


@contextmanager
def catch_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Pass the signals that stop a training to `handle` inside; those ignored (nohup) stay ignored.

    SIGINT and SIGTERM; SIGHUP where there is one; on Windows SIGBREAK, of Ctrl-Break.
    """
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
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
    try:  # Linux: psutil may be a second off, since it adds whole seconds of the boot's time
        started = float(Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        import psutil  # late: on Linux a --help does without it

        return time.time() - psutil.Process().create_time()
