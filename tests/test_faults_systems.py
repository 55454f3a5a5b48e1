"""Every command where POSIX is missing: as on Windows, as far as Linux can show it.

`tests/like_windows` says what is hidden and denied there.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import differences, outcome
from test_faults_signals import has_rows, until

from gpt.errors import Exit
from gpt.paths import PROJECT

TEXT = "Wär’ ich ein Vöglein,\nflög’ ich zu dir → ☃\n\n" * 20
CONFIG = b"""\
model: {block_size: 8, n_layer: 1, n_head: 1, n_embd: 8}
data: {text: lied.txt, val_fraction: 0.2}
train: {device: cpu, threads: 1, batch_size: 2, max_steps: 6}
log: {log_every: 1, eval_every: 300, save_every: 300}
"""
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that its data/ is the tests' own."""
    place = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("gpt", "configs", "scripts"):
        shutil.copytree(PROJECT / name, place / name, ignore=ignored)
    for name in ("train.py", "sample.py"):
        shutil.copy(PROJECT / name, place)
    return place


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Start:
    """Starts Python as on Windows with a file of the project, or `-c` and code."""
    (tmp_path / "lied.txt").write_bytes(TEXT.encode())
    (tmp_path / "lied.yaml").write_bytes(CONFIG)
    path = os.pathsep.join([str(PROJECT / "tests" / "like_windows"), str(project)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "0", "LC_ALL": "C"}

    def start(name: str, *argv: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, name if name == "-c" else str(project / name), *argv],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def end(process: subprocess.Popen[bytes], code: int = 0) -> tuple[bytes, str]:
    """What a command printed, once it has ended with `code`."""
    out, err = process.communicate(timeout=300)
    said = err.decode("cp1252", "replace")  # as Windows writes it, also an ö
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    return out, said


def until_it_trains(process: subprocess.Popen[bytes], run: Path) -> None:
    """Wait for rows in the metrics of a run, or fail with what its process said."""
    until(lambda: has_rows(run)() or process.poll() is not None)
    if process.poll() is not None:
        end(process)


HIDDEN = """
import os, signal
for name in ("fcntl", "resource", "termios", "pwd"):
    try: __import__(name)
    except ModuleNotFoundError: continue
    raise SystemExit(f"{name} is there")
for where, name in ((os, "sysconf"), (os, "fork"), (os, "O_DIRECTORY"), (signal, "SIGHUP")):
    assert not hasattr(where, name), name
for path in (".", ".lock"):
    try: os.open(path, os.O_RDONLY)
    except PermissionError: continue
    raise SystemExit(f"{path} can be opened")
with open("text", "w") as file: file.write("\\xf6\\n")
assert os.stat("text").st_size == 3, "no cp1252 with \\\\r\\\\n"
with open("text"):
    try: os.replace("text", "other")
    except PermissionError: pass
    else: raise SystemExit("an open file was replaced")
"""


def test_what_these_tests_hide_is_hidden(start: Start, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"")
    end(start("-c", HIDDEN))


@pytest.mark.slow
def test_a_run_without_posix(start: Start, tmp_path: Path) -> None:
    """Trained, stopped by Ctrl-C and resumed: the same bytes as without the stop."""
    train = ("train.py", "--config", "lied.yaml", "--train.max_steps", "1000")
    end(start(*train, "--run.dir", "runs/whole"))
    going = start(*train, "--run.dir", "runs/stopped")
    until_it_trains(going, tmp_path / "runs" / "stopped")
    going.send_signal(signal.SIGINT)
    _, said = end(going, Exit.SIGINT)
    assert "go on with: python train.py --resume runs/stopped" in said
    end(start("train.py", "--resume", "runs/stopped", "--exact"))
    differing = differences(tmp_path / "runs" / "stopped", outcome(tmp_path / "runs" / "whole"))
    assert [name for name in differing if "config" not in name] == []  # it holds run.dir


@pytest.mark.slow
def test_a_run_in_use_is_refused_and_its_holder_named(start: Start, tmp_path: Path) -> None:
    """From beside the lock: Windows lets nobody read a locked file."""
    forever = ("--train.max_steps", "1000000000", "--log.eval_every", "1000000000")
    going = start("train.py", "--config", "lied.yaml", "--run.dir", "run", *forever)
    until_it_trains(going, tmp_path / "run")
    _, said = end(start("train.py", "--resume", "run"), Exit.BUSY)
    assert said.startswith(f"error: another process (pid {going.pid} on ")
    going.kill()
    going.communicate()
    end(start("train.py", "--resume", "run", "--train.max_steps", "1"))


TAB = """
from types import SimpleNamespace
from werkzeug.test import Client
from gpt.explorer.plugin import AttentionPlugin
apps = AttentionPlugin(SimpleNamespace(logdir="runs")).get_plugin_apps()
(run,) = Client(apps["/runs"]).get().json
page = Client(apps["/page"]).get(
    query_string={"run": run["name"], "checkpoint": run["best"]}
)
assert page.status_code == 200, page.text
assert Client(apps["/index.js"]).get().status_code == 200
print(run["name"])
"""


@pytest.mark.slow
def test_what_reads_a_run_without_posix(start: Start, tmp_path: Path) -> None:
    end(start("train.py", "--config", "lied.yaml", "--run.dir", "runs/deep/lied"))
    options = ["--run", "runs/deep/lied", "--max-new-chars", "200", "--temperature", "2"]
    text, _ = end(start("sample.py", *options))
    assert set(text.decode()) <= set(TEXT), "UTF-8, and line ends as the model writes them"
    assert "\n" in text.decode()
    out, _ = end(start("scripts/evaluate.py", "runs/deep/lied", "--json"))
    assert json.loads(out)["characters"] > 0
    end(start("scripts/explore.py", "runs/deep/lied", "--out", "page.html"))
    page, _ = end(start("scripts/explore.py", "runs/deep/lied", "--out", "-"))
    assert (tmp_path / "page.html").read_bytes() == page
    assert end(start("-c", TAB))[0].split() == [b"deep/lied"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv",
    [
        *(("train.py", "--help"), ("sample.py", "--help"), ("train.py", "--print-config")),
        *(("scripts/evaluate.py", "--help"), ("scripts/explore.py", "--help")),
        *(("scripts/prepare_data.py", "lied.txt"), ("scripts/torture", "--help")),
    ],
)
def test_other_commands_without_posix(start: Start, argv: tuple[str, ...]) -> None:
    end(start(*argv))


@pytest.mark.slow
@pytest.mark.parametrize("argv", [("scripts/torture",), ("scripts/bench", "--smoke")])
def test_what_needs_posix_says_so(start: Start, argv: tuple[str, ...]) -> None:
    _, said = end(start(*argv), Exit.USAGE)
    assert said.splitlines()[-1] == "fix: run it on Linux or macOS"
