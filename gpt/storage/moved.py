"""Saving into a run whose directory may be renamed or removed while it is trained in."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpt.errors import Exit, Mistake
from gpt.storage.checkpoint import Checkpoint, save_checkpoint
from gpt.storage.run_directory import for_shell


@contextmanager
def saving(run: Path | None) -> Iterator[Callable[[Checkpoint], None]]:
    """Inside, a function that saves a checkpoint of `run`, wherever its directory is by then.

    None: it saves nothing, since another process does.

    The function raises a `Mistake` with exit code 5 if the directory was moved, which says where
    the checkpoint is saved; if it was removed; and if it cannot be written.
    """
    if run is None:
        yield lambda checkpoint: None
        return
    with followed(run) as where:
        yield lambda checkpoint: _save(run, where, checkpoint)


def _save(run: Path, where: Callable[[], Path | None], checkpoint: Checkpoint) -> None:
    step = checkpoint.progress.step
    place, saved = where(), False
    while place and not saved:
        try:
            save_checkpoint(place, checkpoint)
        except Mistake:
            if where() == place:
                raise
        place = where()  # it may have been moved while it was written to
        saved = place is not None and (place / "checkpoints" / checkpoint.name).exists()
    if not place:
        what = f"{run} was removed while training, or moved to another disk"
        raise Mistake(Exit.STORAGE, what, "resume it where it is now, or train anew")
    if place != run:
        fix = f"step {step} is saved there; go on with: python train.py --resume {for_shell(place)}"
        raise Mistake(Exit.STORAGE, f"{run} was moved to {place} while training", fix)


@contextmanager
def followed(path: Path) -> Iterator[Callable[[], Path | None]]:
    """Inside, a function that says where directory `path` is by then: there, or where it was moved
    to; None if it was removed, or moved to another disk.

    Windows, which has no fchdir, moves no directory in which a file is open.
    """
    if not hasattr(os, "fchdir"):
        yield lambda: path
        return
    descriptor = os.open(path, os.O_RDONLY)

    def where() -> Path | None:
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return path
        return _path_of(descriptor)

    try:
        yield where
    finally:
        os.close(descriptor)


def _path_of(directory: int) -> Path | None:
    """The path of an open directory, asked of the system by working there for a moment."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.fchdir(directory)
        return Path.cwd()
    except FileNotFoundError:
        return None
    finally:
        os.fchdir(before)
        os.close(before)
