"""The life of a run directory: created, locked, listed, tidied. No torch.

runs/<name>/checkpoints/step-*     see gpt/storage/checkpoint.py
runs/<name>/best, last             names of two checkpoints, for people; the listing is the truth
"""

import itertools
import math
import os
import shlex
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from gpt import files, paths
from gpt.config import Config
from gpt.errors import Exit, Mistake, cannot
from gpt.storage.manifest import (
    age_of,
    corpus_sha256_of,
    is_checkpoint_name,
    step_of,
    val_loss_of,
)


def create_run(config: Config, name: str) -> Path:
    """Make the directory of a new run: run.dir, or runs/<time stamp>-<name>.

    Raises:
        Mistake: with exit code 7 if something lies there already; 5 if it cannot be made.
    """
    default = paths.RUNS / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{name}"
    path = Path(paths.expanded(config.run.dir) if config.run.dir else default).absolute()
    first = path.name
    with files.storage_errors(path):
        files.make_directory(path.parent)
        for attempt in itertools.count(2):
            try:
                files.make_directory(path, exist_ok=False)
                break
            except FileExistsError:
                if config.run.dir:
                    _require_unused(path, config.run.dir)
                    break
                path = path.with_name(f"{first}-{attempt}")
    return path


def _require_unused(path: Path, given: str) -> None:
    """Refuse a directory that holds more than an interrupted start may leave."""
    if not path.is_dir():
        what = f"{given} is there, but it is no directory"
        raise Mistake(Exit.STORAGE, what, "give another --run.dir")
    left = {".lock", ".lock.holder", "checkpoints"}
    if {item.name for item in path.iterdir()} - left or checkpoints_of(path):
        what = f"{given} is not empty: a new run does not write over it"
        fix = f"go on with --resume {for_shell(path)}, or give another --run.dir"
        raise Mistake(Exit.BUSY, what, fix)


def locked(run: Path) -> AbstractContextManager[None]:
    """Hold a run directory: one writer at a time, until the process ends, however it ends.

    Raises:
        Mistake: with exit code 7 if another process holds it.
    """
    return files.lock(run / ".lock")


def require_no_links(run: Path) -> None:
    """Refuse a run with links: what training writes there would land elsewhere.

    Checkpoints are left out: they are only read, and never through a link.

    Raises:
        Mistake: with exit code 4, naming the link.
    """
    for folder, names, others in os.walk(run):
        if Path(folder) == run / "checkpoints":
            names.clear()
            continue
        for path in (Path(folder, name) for name in names + others):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                what = f"{path} is a link or no plain file: what is written there lands elsewhere"
                raise Mistake(Exit.CHECKPOINT, what, "replace it by a plain file or directory")


def require_listable(run: Path) -> None:
    """Refuse a run whose checkpoints may not be listed, which looks as if it had none.

    Raises:
        Mistake: with exit code 5.
    """
    try:
        next((run / "checkpoints").iterdir(), None)
    except PermissionError as problem:
        fix = "see to it that you may read it"
        raise cannot("read", run, problem, Exit.STORAGE, fix) from None
    except OSError:
        return  # it is not there


def checkpoints_of(run: Path) -> list[Path]:
    """All checkpoints of a run, the oldest first; they may be damaged."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if is_checkpoint_name(path.name)), key=age_of)


def checkpoints_by_loss(run: Path) -> list[Path]:
    """The checkpoints whose validation loss was measured, the best first.

    Where the text changed, a loss on the old one does not compete with those on the new one. That
    of step 0 competes once a later one was measured: who trains wants no untrained model.
    """
    return _by_loss(checkpoints_of(run))


def _by_loss(checkpoints: list[Path]) -> list[Path]:
    measured = _measured(checkpoints)
    return measured if any(map(step_of, measured)) else []


def _measured(checkpoints: list[Path]) -> list[Path]:
    corpora = {path: corpus_sha256_of(path) for path in checkpoints}
    latest = next((corpus for corpus in reversed(corpora.values()) if corpus), None)
    losses = {path: val_loss_of(path) for path in corpora if corpora[path] in (None, latest)}
    return sorted((path for path in losses if losses[path] < math.inf), key=losses.__getitem__)


def best_of(checkpoints: list[Path]) -> Path:
    """The one with the lowest validation loss, else the newest; they come oldest first."""
    return next(iter(_by_loss(checkpoints)), checkpoints[-1])


def tidy(run: Path, keep: int) -> None:
    """Delete all but the best and the `keep` newest (0: delete none), then name best and last.

    A checkpoint that a stop left before an evaluation goes as soon as the one after it is there.
    """
    found = checkpoints_of(run)
    if not found:  # someone has just moved or removed them
        return
    passed = [path for path, after in itertools.pairwise(found) if step_of(path) == step_of(after)]
    checkpoints = [path for path in found if path not in passed]
    best = best_of(checkpoints)
    kept = {best, *_measured(checkpoints)[:1]}  # step 0 may be the best in the end
    old = [path for path in checkpoints[:-keep] if path not in kept] if keep else []
    left = (run / "checkpoints").glob(".step-*")  # by crashes
    with files.storage_errors(run / "checkpoints"):
        for path in [*passed, *old, *left]:
            files.remove(path)
    files.replace_file(run / "best", best.name.encode() + b"\n")
    files.replace_file(run / "last", checkpoints[-1].name.encode() + b"\n")


def set_aside(run: Path, start: str) -> None:
    """Rename the damaged checkpoints newer than `start`: the run goes on there and saves them anew.

    Args:
        start: the name of a checkpoint.
    """
    for path in checkpoints_of(run):
        if age_of(path) > age_of(Path(start)):
            aside = path.with_name(f"damaged-{path.name}")
            with files.storage_errors(path):
                files.remove(aside)
                files.rename(path, aside)


def newest_run() -> Path:
    """The run in runs/ that saved last; runs that are still at step 0 come after all others.

    Raises:
        Mistake: with exit code 4 if there is none.
    """
    runs = _newest_first()
    if not runs:
        fix = "train one first: python train.py --config tiny.yaml"
        raise Mistake(Exit.CHECKPOINT, f"no run with a checkpoint in {paths.RUNS}", fix)
    return max(runs, key=lambda run: step_of(checkpoints_of(run)[-1]) > 0)  # the first such


def known_runs() -> str:
    """The fix for a missing run: the newest of the existing ones."""
    names = [path.name for path in _newest_first()]
    if not names:
        return "python train.py --config tiny.yaml trains one"
    return f"there are, in {paths.RUNS}, the newest first: {', '.join(names[:5])}"


def _newest_first() -> list[Path]:
    """The runs in runs/ that have a checkpoint, by the time of their last one."""
    runs = [path for path in paths.RUNS.glob("*") if checkpoints_of(path)]
    return sorted(runs, key=lambda run: (run / "checkpoints").stat().st_mtime, reverse=True)


def for_shell(path: Path) -> str:
    """`path` as one would type it in a shell, from the working directory."""
    place = path
    with suppress(OSError):  # the working directory may have been deleted
        here = Path.cwd()
        place = path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path
    text = place.as_posix()
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
