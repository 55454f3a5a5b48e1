"""How a command ends: exit code, message, Ctrl-C; and what it knows of its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

import sample
from gpt.command.process import as_mistake, catch_signals, process_seconds, run_command
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


@pytest.mark.parametrize("words", ["failed to map segment from shared object", "cannot allocate"])
def test_a_library_that_finds_no_memory_is_no_fault_of_ours(words: str) -> None:
    assert as_mistake(ImportError(f"libtorch_cpu.so: {words}")).exit_code == Exit.USAGE
    assert as_mistake(ImportError("cannot import name x")).exit_code == Exit.BUG


def child(command: str, prepare: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command `x = lambda argv: ...` run in a process of its own, after `prepare`."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(PROJECT)!r}); {prepare}\n"
        "from gpt.command.process import run_command\n"
        f"sys.exit(run_command(lambda argv: {command}))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip


def test_stdout_is_utf8_whatever_the_locale() -> None:
    ended = child("print('\\u2603')", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "\u2603\n", "")


def test_a_closed_stdin_is_an_empty_one() -> None:
    ended = child("print(sys.stdin.buffer.read())", "os.close(0); sys.stdin = None")
    assert (ended.returncode, ended.stdout) == (0, "b''\n")


def test_a_deleted_working_directory_is_said(tmp_path: Path) -> None:
    """torch's libraries would end the process with words of their own."""
    place = tmp_path / "gone"
    ended = child("0", f"os.mkdir({str(place)!r}); os.chdir({str(place)!r}); os.rmdir(os.getcwd())")
    assert ended.returncode == Exit.USAGE
    assert ended.stderr.startswith("error: the working directory is gone")


def test_too_few_addresses_for_torch_are_said() -> None:
    resource = pytest.importorskip("resource")
    limit = f"import resource; resource.setrlimit({resource.RLIMIT_AS}, (2**28, 2**28))"
    ended = child("0", limit)
    assert ended.returncode == Exit.USAGE
    assert "256 MiB" in ended.stderr
    assert "ulimit -v" in ended.stderr


@pytest.mark.parametrize(
    "name", ["explore.py", "evaluate.py", "prepare_data.py", "ladder.py", "why"]
)
def test_commands_work_without_docstrings(name: str) -> None:
    command = [sys.executable, "-OO", str(PROJECT / "scripts" / name), "--nonsense"]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == Exit.USAGE, ended.stderr
    assert "unknown argument --nonsense" in ended.stderr or "required" in ended.stderr


def test_elapsed_seconds_count_from_the_start_of_the_process() -> None:
    code = (
        "import time; time.sleep(0.5); "
        "from gpt.command.process import process_seconds as p; print(p())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 60
    assert process_seconds() > 0


def test_elapsed_seconds_are_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """By psutil, to a second on Linux."""
    exact = process_seconds()
    psutil.Process().create_time()  # it asks for the clock's ticks once, by sysconf
    monkeypatch.delattr(os, "sysconf")
    assert process_seconds() == pytest.approx(exact, abs=1.5)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"])
def test_a_signal_that_the_system_has_is_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """SIGBREAK is Windows' own: here another signal bears its name."""
    if not hasattr(signal, name):
        monkeypatch.setattr(signal, name, signal.SIGUSR1, raising=False)
    heard: list[int] = []
    with catch_signals(heard.append):
        signal.raise_signal(getattr(signal, name))
    assert heard == [getattr(signal, name)]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGBREAK"])
def test_a_signal_that_the_system_lacks_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(signal, name, raising=False)
    with catch_signals(pytest.fail):
        pass


def test_output_is_utf_8_with_plain_line_ends() -> None:
    """Whatever the locale, and where the system would write \\r\\n."""
    code = (
        "import sys; sys.stdout.reconfigure(encoding='cp1252', newline='\\r\\n')\n"
        "from gpt.command.process import run_command\n"
        "run_command(lambda _: print('\\u2603') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == "☃\n".encode()
