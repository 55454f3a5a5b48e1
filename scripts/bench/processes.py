"""Run a command to its end, and measure its time and memory."""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from timing import Numbers

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; of getrusage
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}  # a peer's checkout stays as it is


class Failure(Exception):
    """A contender cannot be measured; the message says why in a line."""


@dataclass(frozen=True)
class Ended:
    """A process that ended well.

    `numbers` holds `seconds`, `peak_mb` (the most resident memory) and `anonymous_mb` (the most
    RssAnon seen, 0 if it was not watched).
    """

    stdout: str
    numbers: Numbers


def run(command: list[str], cwd: Path, env: dict[str, str], watch: bool = False) -> Ended:
    """Run a command to its end.

    Args:
        watch: look at its RssAnon every 20 ms; its time is exact to as much.

    Raises:
        Failure: if it fails, with the last that it said.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began, most = time.perf_counter(), 0.0
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=err)
        try:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG if watch else 0)
            while not ended:
                most = max(most, _anonymous_mb(process.pid))
                time.sleep(0.02)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        except BaseException:  # a signal ends the benchmark: the process must end with it
            process.kill()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise Failure(_reason(err.read()) or f"exit code {process.returncode}")
        if watch and not most:
            raise Failure("this system does not tell RssAnon")
        peak = usage.ru_maxrss * RSS_UNIT / 1e6
        return Ended(out.read(), {"seconds": seconds, "peak_mb": peak, "anonymous_mb": most})


def _anonymous_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _reason(stderr: str) -> str:
    """The line "error: ..." of one of our commands, or the last line, as of a traceback."""
    lines = stderr.strip().splitlines()
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")
