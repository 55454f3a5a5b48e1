"""Kill a small training at random instants, resume it each time, and compare the end.

The sessions are forked from a process that has loaded torch. So each takes a tenth of a second, and
a kill falls anywhere in it: while it starts, loads, trains or saves. With `real` each session is a
fresh `python train.py`. SIGKILL cannot be caught, so both die alike.
"""

import contextlib
import io
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outcome import TEXT, differences, outcome

from gpt.command.process import run_command
from gpt.paths import PROJECT

TRAIN = PROJECT / "train.py"
CONFIG = """\
model: {block_size: 8, n_layer: 1, n_head: 2, n_embd: 8, dropout: 0.1}
data: {text: %s}
train: {device: cpu, threads: 1, batch_size: 4, max_steps: 40, optimizer: muon}
log: {log_every: 1, eval_every: 5, save_every: 3, keep: 2, tensorboard: false}
"""


# --- sessions ----------------------------------------------------------------------------------


def fork(work: Callable[[], int], output: Path) -> int:
    """Do `work` in a child whose stdout and stderr go to `output`; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code: Any = 1
    try:
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())  # forks share its own lock, and may die while they hold it
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
        code = work()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 1)


def wait_for(child: int) -> int:
    """The child's exit code, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _forked(argv: Sequence[str], folder: Path) -> int:
    """Start train.py's `main` in a child; its process id."""
    main = runpy.run_path(str(TRAIN))["main"]
    sys.argv = [str(TRAIN), *argv]
    return fork(lambda: run_command(main), folder / "output.txt")


def _real(argv: Sequence[str], folder: Path) -> int:
    """Start `python train.py`; its process id."""
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, str(TRAIN), *argv]
        return subprocess.Popen(command, stdout=output, stderr=output).pid


def warm_up(folder: Path) -> None:
    """Train once in this process, so that its children find loaded what torch loads late."""
    (folder / "text.txt").write_text(TEXT, "utf-8")
    (folder / "toy.yaml").write_text(CONFIG % (folder / "text.txt"), "utf-8")
    argv = ["--config", str(folder / "toy.yaml"), "--train.max_steps", "2"]
    with contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(str(TRAIN))["main"]([*argv, "--run.dir", str(folder / "warm")])


# --- the torture -------------------------------------------------------------------------------


def torture(kills: int, seed: int, real: bool, folder: Path) -> tuple[int, int, list[str]]:
    """Kill sessions until `kills` kills have landed, over as many runs as it takes.

    A kill after the end of its session does not count.

    Returns:
        The number of runs, the number of kills that landed, and all differences.
    """
    from gpt import paths

    paths.DATA = folder / "data"
    start, chance = (_real if real else _forked), random.Random(seed)
    warm_up(folder)
    fresh = ["--config", str(folder / "toy.yaml"), "--run.dir"]
    run, length = folder / "run", float("inf")
    for _ in range(3):  # the shortest counts, or most kills would come too late
        shutil.rmtree(run, ignore_errors=True)
        began = time.perf_counter()
        code = wait_for(start([*fresh, str(run)], folder))
        assert code == 0, (folder / "output.txt").read_text("utf-8")
        length = min(length, time.perf_counter() - began)
    undisturbed = outcome(run)
    landed, runs = 0, 0
    wrong: list[str] = []
    while landed < kills:
        shutil.rmtree(run)
        runs, code, argv = runs + 1, -1, [*fresh, str(run)]
        while code != 0:
            child = start(argv, folder)
            if landed < kills:
                time.sleep(chance.uniform(0, length))
                os.kill(child, signal.SIGKILL)
            code = wait_for(child)
            landed += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                return runs, landed, [*wrong, f"run {runs}: exit {code}, see {folder}/output.txt"]
            if any((run / "checkpoints").glob("step-*")):
                argv = ["--resume", str(run), "--exact"]
        wrong += [f"run {runs}: {difference}" for difference in differences(run, undisturbed)]
    return runs, landed, wrong
