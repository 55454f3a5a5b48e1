"""A run directory: made, locked, tidied; its checkpoints by step and by loss."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt import paths
from gpt.config import Config
from gpt.errors import Exit, Mistake
from gpt.paths import PROJECT
from gpt.storage import run_directory
from gpt.storage.manifest import checkpoint_name, with_manifest
from gpt.storage.run_directory import (
    checkpoints_by_loss,
    checkpoints_of,
    create_run,
    locked,
    set_aside,
    tidy,
)

# --- made and locked ---------------------------------------------------------------------------


def test_runs_named_in_the_same_second_differ(
    toy_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory.time, "strftime", lambda _: "2026-01-01-000000")
    for name in ("toy", "toy-1"):  # a name may end like a count
        names = [create_run(toy_config, name).name for _ in range(4)]
        stem = f"2026-01-01-000000-{name}"
        assert names == [stem, f"{stem}-2", f"{stem}-3", f"{stem}-4"]


def test_a_run_is_not_written_over(toy_config: Config, tmp_path: Path) -> None:
    def at_place(name: str) -> Config:
        run = toy_config.run.model_copy(update={"dir": str(tmp_path / name)})
        return toy_config.model_copy(update={"run": run})

    assert create_run(at_place("deep/new"), "x") == tmp_path / "deep" / "new"
    assert create_run(at_place("deep/new"), "x").is_dir()  # still empty
    (tmp_path / "file").write_text("mine")
    (tmp_path / "deep" / "new" / "notes.txt").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, code, what in (
        ("deep/new", Exit.BUSY, "deep/new is not empty"),
        ("file", Exit.STORAGE, "file is there, but it is no directory"),
        ("dangling", Exit.STORAGE, "dangling is there, but it is no directory"),
        ("file/new", Exit.STORAGE, "file: File exists"),
        ("dangling/new", Exit.STORAGE, "dangling: File exists"),
    ):
        with pytest.raises(Mistake, match=what) as caught:
            create_run(at_place(name), "x")
        assert caught.value.exit_code == code


@pytest.mark.parametrize(("given", "place"), [("new", "here/new"), ("~/new", "home/new")])
def test_a_run_lies_where_a_shell_would_look(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, place: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = toy_config.model_copy(update={"run": toy_config.run.model_copy(update={"dir": given})})
    assert create_run(config, "x") == tmp_path / place
    assert (tmp_path / place).is_dir()


def test_runs_that_is_a_dangling_link(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "dangling")
    with pytest.raises(Mistake, match="dangling: File exists"):
        create_run(toy_config, "x")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gpt.storage.run_directory import locked\n"
        "from gpt.command.process import run_command\n"
        "def main(argv):\n  with locked(Path(argv[0])): return 0\n"
        "sys.exit(run_command(main))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with locked(tmp_path):
        other = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert other.returncode == Exit.BUSY == 7
    assert other.stderr.startswith(f"error: another process (pid {os.getpid()} on ")
    with locked(tmp_path):
        pass  # it is free again


# --- its checkpoints ---------------------------------------------------------------------------


def save(
    run: Path, step: int, val_loss: float | None = None, note: str = "", stopped: bool = False
) -> Path:
    """A checkpoint with nothing in it but its manifest and a note."""
    path = run / "checkpoints" / checkpoint_name(step, stopped)
    path.mkdir(parents=True)
    for name, data in with_manifest({"note": note.encode()}, step, val_loss).items():
        (path / name).write_bytes(data)
    return path


def steps(paths: list[Path]) -> list[int]:
    return [int(path.name[5:]) for path in paths]


@pytest.mark.parametrize(
    ("losses", "best_first"),
    [
        ((2.0, 2.0, 3.0, 2.0, None), [1, 2, 4, 3]),
        ((3.0, 2.0, None, 2.0, 2.0), [2, 4, 5, 1]),
        ((None, 3.0, 2.0, 3.0, 2.0), [3, 5, 2, 4]),
    ],
)
def test_of_equal_losses_the_first_is_the_best(
    tmp_path: Path, losses: tuple[float | None, ...], best_first: list[int]
) -> None:
    for step, loss in enumerate(losses, 1):
        save(tmp_path, step, loss)
    assert steps(checkpoints_by_loss(tmp_path)) == best_first
    tidy(tmp_path, keep=1)
    assert (tmp_path / "best").read_text() == f"step-00000{best_first[0]}\n"
    assert (tmp_path / "last").read_text() == "step-000005\n"
    assert steps(checkpoints_of(tmp_path)) == [best_first[0], 5]


def test_step_0_competes_once_a_later_step_was_measured(tmp_path: Path) -> None:
    """Till then it is kept for that, but the newest is what one wants to look at."""
    for step, loss in enumerate((3.0, None, None)):
        save(tmp_path, step, loss)
        tidy(tmp_path, keep=1)
    assert (steps(checkpoints_of(tmp_path)), checkpoints_by_loss(tmp_path)) == ([0, 2], [])
    assert (tmp_path / "best").read_text() == "step-000002\n"
    save(tmp_path, 3, 3.5)
    tidy(tmp_path, keep=1)
    assert steps(checkpoints_of(tmp_path)) == steps(checkpoints_by_loss(tmp_path)) == [0, 3]
    save(tmp_path, 4, 2.5)
    tidy(tmp_path, keep=1)
    assert steps(checkpoints_of(tmp_path)) == [4]


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoints_of(run)]


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_checkpoint_before_an_evaluation_goes_when_the_one_after_it_is_there(
    tmp_path: Path, keep: int
) -> None:
    save(tmp_path, 1, 3.0)
    save(tmp_path, 2, stopped=True)
    tidy(tmp_path, keep)
    assert names(tmp_path) == ["step-000001", "step-000002-stopped"]
    assert (tmp_path / "last").read_text() == "step-000002-stopped\n"
    save(tmp_path, 2, 4.0)
    assert names(tmp_path)[1:] == ["step-000002-stopped", "step-000002"], "the oldest first"
    tidy(tmp_path, keep)
    assert names(tmp_path) == ["step-000001", "step-000002"]


def test_a_damaged_one_after_an_evaluation_is_set_aside_for_the_one_before_it(
    tmp_path: Path,
) -> None:
    for step, stopped in ((1, False), (2, True), (2, False), (3, True)):
        save(tmp_path, step, stopped=stopped)
    set_aside(tmp_path, "step-000002-stopped")
    assert names(tmp_path) == ["step-000001", "step-000002-stopped"]


def test_the_oldest_comes_first_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (1_000_000, 999_999, 5):
        save(tmp_path, step)
    assert steps(checkpoints_of(tmp_path)) == [5, 999_999, 1_000_000]


def test_without_a_loss_the_newest_is_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    tidy(tmp_path, keep=0)
    assert (tmp_path / "best").read_text() == "step-000003\n"
    assert steps(checkpoints_of(tmp_path)) == [1, 2, 3]


def test_what_is_set_aside_takes_the_place_of_what_was_before(tmp_path: Path) -> None:
    """The same step may be damaged twice."""
    save(tmp_path, 1)
    for note in ("damaged once", "damaged again"):
        for step in (2, 3):
            save(tmp_path, step, note=note)
        set_aside(tmp_path, "step-000001")
        assert steps(checkpoints_of(tmp_path)) == [1]
        for step in (2, 3):
            aside = tmp_path / "checkpoints" / f"damaged-step-00000{step}"
            assert (aside / "note").read_text() == note


@pytest.mark.parametrize(
    "change", [lambda run: set_aside(run, "step-000000"), lambda run: tidy(run, keep=1)]
)
def test_what_cannot_be_moved_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    for step, loss in ((1, 2.0), (2, 1.0)):
        save(tmp_path, step, loss)
    monkeypatch.setattr(run_directory.files.os, "replace", refuse)
    with pytest.raises(Mistake, match=r"cannot write .*step-000001") as caught:
        change(tmp_path)
    assert caught.value.exit_code == Exit.STORAGE
