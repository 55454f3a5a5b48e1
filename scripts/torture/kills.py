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

from launch import free_port, told
from outcome import TEXT, differences, outcome

from gpt.command.process import run_command
from gpt.errors import Exit
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


Environment = dict[str, str]  # what torchrun adds for a process


def _forked(argv: Sequence[str], folder: Path, environment: Environment) -> int:
    """Start train.py's `main` in a child; its process id."""
    main = runpy.run_path(str(TRAIN))["main"]
    sys.argv = [str(TRAIN), *argv]

    def work() -> int:
        os.environ |= environment
        return run_command(main)

    return fork(work, folder / "output.txt")


def _real(argv: Sequence[str], folder: Path, environment: Environment) -> int:
    """Start `python train.py`; its process id."""
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, str(TRAIN), *argv]
        own = os.environ | environment
        return subprocess.Popen(command, stdout=output, stderr=output, env=own).pid


Start = Callable[[Sequence[str], Path, Environment], int]


def _session(start: Start, argv: Sequence[str], folder: Path, processes: int) -> list[int]:
    """Start the processes of one session; their ids."""
    if processes == 1:
        return [start(argv, folder, {})]
    port = free_port()
    return [start(argv, folder, told(rank, processes, port)) for rank in range(processes)]


def _end(children: list[int], killed: int | None) -> int:
    """What became of a session: 0, -SIGKILL where that landed, or what should not have been.

    As torchrun does, the others are told to end once one is dead; they end with exit code 8 where
    they notice that first.
    """
    codes = {}
    if killed is not None:
        codes[killed] = wait_for(killed)
        for other in (child for child in children if child != killed):
            os.kill(other, signal.SIGTERM)
    codes |= {child: wait_for(child) for child in children if child not in codes}
    landed = killed is not None and codes[killed] == -signal.SIGKILL
    fine = {0, -signal.SIGTERM, 128 + signal.SIGTERM, Exit.PEER} if landed else {0}
    others = [code for child, code in codes.items() if child != killed or not landed]
    wrong = [code for code in others if code not in fine]
    return wrong[0] if wrong else -signal.SIGKILL * landed


def warm_up(folder: Path) -> None:
    """Train once in this process, so that its children find loaded what torch loads late."""
    (folder / "text.txt").write_text(TEXT, "utf-8")
    (folder / "toy.yaml").write_text(CONFIG % (folder / "text.txt"), "utf-8")
    argv = ["--config", str(folder / "toy.yaml"), "--train.max_steps", "2"]
    with contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(str(TRAIN))["main"]([*argv, "--run.dir", str(folder / "warm")])


# --- the torture -------------------------------------------------------------------------------


def torture(
    kills: int, seed: int, real: bool, folder: Path, processes: int = 1
) -> tuple[int, int, list[str]]:
    """Kill sessions until `kills` kills have landed, over as many runs as it takes.

    A kill after the end of its session does not count. Of several `processes` any may be killed.

    Returns:
        The number of runs, the number of kills that landed, and all differences.
    """
    from gpt import paths

    paths.DATA = folder / "data"
    start: Start = _real if real else _forked
    chance = random.Random(seed)
    warm_up(folder)
    fresh = ["--config", str(folder / "toy.yaml"), "--run.dir"]
    run, length = folder / "run", float("inf")
    for _ in range(3):  # the shortest counts, or most kills would come too late
        shutil.rmtree(run, ignore_errors=True)
        began = time.perf_counter()
        code = _end(_session(start, [*fresh, str(run)], folder, processes), None)
        assert code == 0, (folder / "output.txt").read_text("utf-8")
        length = min(length, time.perf_counter() - began)
    undisturbed = outcome(run)
    landed, runs = 0, 0
    wrong: list[str] = []
    while landed < kills:
        shutil.rmtree(run)
        runs, code, argv = runs + 1, -1, [*fresh, str(run)]
        while code != 0:
            children = _session(start, argv, folder, processes)
            killed = None
            if landed < kills:
                time.sleep(chance.uniform(0, length))
                killed = chance.choice(children) if processes > 1 else children[0]
                os.kill(killed, signal.SIGKILL)
            code = _end(children, killed)
            landed += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                return runs, landed, [*wrong, f"run {runs}: exit {code}, see {folder}/output.txt"]
            if any((run / "checkpoints").glob("step-*")):
                argv = ["--resume", str(run), "--exact"]
        wrong += [f"run {runs}: {difference}" for difference in differences(run, undisturbed)]
    return runs, landed, wrong
