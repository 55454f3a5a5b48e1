"""How a command ends: exit code, message, Ctrl-C; and what it knows of its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sample
from gpt.command.process import as_mistake, process_seconds, run_command
from gpt.errors import Exit, Mistake
from gpt.paths import PROJECT


def leaving(main: object, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["x.py", *argv])
    return run_command(main)  # type: ignore[arg-type]


def raising(problem: BaseException) -> object:
    def main(_: list[str]) -> int:
        raise problem

    return main


def test_all_mistakes_are_printed_in_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = Mistake(Exit.USAGE, "two\nlines", "tab\there")
    first = Mistake(Exit.CORPUS, "one", "so", [second])
    assert leaving(raising(first), [], monkeypatch) == Exit.CORPUS == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: one\nfix: so\nerror: two\\nlines\nfix: tab\\there\n"


@pytest.mark.parametrize(
    ("problem", "code"),
    [(ValueError("x"), 1), (OSError(28, "No space left"), 5), (KeyboardInterrupt(), 130)],
)
def test_exit_codes(
    problem: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert leaving(raising(problem), [], monkeypatch) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leaving(raising(ValueError("x")), ["--debug"], monkeypatch) == Exit.BUG
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("lost_by", ["BaseException", "()"])
def test_ctrl_c_is_heard_where_an_import_loses_exceptions(tmp_path: Path, lost_by: str) -> None:
    module = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept {}: pass\n"
    (tmp_path / "stop.py").write_text(module.format(lost_by))
    command = (
        "from gpt.command.process import run_command as run; "
        "print(run(lambda _: __import__('stop')))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}
    ended = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "stopped\n")


def test_a_missing_package_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)  # as if it were not installed
    for name in ("cli", "config_file", "yaml12"):
        monkeypatch.delitem(sys.modules, f"gpt.command.{name}", raising=False)
    assert leaving(sample.main, [], monkeypatch) == Exit.USAGE
    assert "the package yaml is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError("Unable to allocate 8 TiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TiB"),
    ],
)
def test_too_little_memory_is_no_fault_of_ours(problem: Exception) -> None:
    mistake = as_mistake(problem)
    assert mistake.exit_code == Exit.USAGE
    assert "8 TiB" in mistake.what
    assert "train.batch_size" in mistake.fix


def test_elapsed_seconds_count_from_the_start_of_the_process() -> None:
    code = (
        "import time; time.sleep(0.5); "
        "from gpt.command.process import process_seconds as p; print(p())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 60
    assert process_seconds() > 0
