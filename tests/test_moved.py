"""A run's directory may move while it is trained in: each checkpoint lands in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import System

from gpt import files
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.errors import Exit, Mistake
from gpt.storage.checkpoint import load_checkpoint, save_checkpoint
from gpt.storage.moved import followed, saving
from gpt.storage.run_directory import checkpoints_of
from gpt.training.fine_tune import fresh


def rename(run: Path) -> Path:
    return run.rename(run.with_name("renamed"))


def rename_parent(run: Path) -> Path:
    return run.parent.rename(run.parent.with_name("elsewhere")) / run.name


def put_another_in_its_place(run: Path) -> Path:
    moved = rename(run)
    run.mkdir()
    return moved


def remove(run: Path) -> None:
    run.rmdir()


def remove_and_make_anew(run: Path) -> None:
    """The system would give it the same number, were the old one not open."""
    run.rmdir()
    run.mkdir()


@pytest.mark.parametrize(
    "move",
    [rename, rename_parent, put_another_in_its_place, remove, remove_and_make_anew],
)
@pytest.mark.parametrize("here", [True, False], ids=["relative", "absolute"])
def test_a_directory_is_followed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    move: Callable[[Path], Path | None],
    here: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    given = run.relative_to(tmp_path) if here else run
    with followed(given) as where:
        assert where() == given
        assert where() == given
        moved = move(run)
        assert where() == moved
    assert Path.cwd() == tmp_path


@dataclass
class Moving(System):
    """A system on which someone else moves a run just before operation `at`."""

    run: Path = Path()

    def _turn(self, *operation: Any) -> bool:
        if self.count == self.at:
            self.run.rename(self.run.with_name("moved"))
        return super()._turn(*operation)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_is_moved_while_it_is_saved_has_it_saved(
    tmp_path: Path,
    toy_config: Config,
    toy_corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    """At any operation of the save; nothing is left at the old place."""
    checkpoint = fresh(toy_config, toy_corpus)

    def save_while_moving(run: Path, at: int) -> System:
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", System())  # spares the time to sync
            checkpoint.progress.step = 0
            save_checkpoint(run, checkpoint)
            checkpoint.progress.step = 1
            system = Moving(at=at, run=run)
            patch.setattr(files, "os", system)
            patch.setattr(files, "shutil", system)
            with saving(run) as save:
                save(checkpoint)
        return system

    operations = save_while_moving(tmp_path / "still", at=-1).log
    for at, operation in list(enumerate(operations))[::every]:
        run, moved = tmp_path / str(at) / "run", tmp_path / str(at) / "moved"
        with pytest.raises(Mistake) as caught:
            save_while_moving(run, at)
        assert caught.value.exit_code == Exit.STORAGE
        assert caught.value.what == f"{run} was moved to {moved} while training"
        assert caught.value.fix.endswith(f"go on with: python train.py --resume {moved}")
        assert not run.exists(), operation
        steps = [load_checkpoint(path).progress.step for path in checkpoints_of(moved)]
        assert steps == [0, 1], operation
