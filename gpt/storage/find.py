"""Which checkpoint a command means: a path, a run's best or its last, or the newest run's best."""

from collections.abc import Callable
from pathlib import Path

from gpt.errors import Exit, Mistake
from gpt.storage.checkpoint import Checkpoint, load_checkpoint
from gpt.storage.manifest import is_checkpoint_name, step_of
from gpt.storage.run_directory import (
    checkpoints_by_loss,
    checkpoints_of,
    known_runs,
    newest_run,
    require_listable,
)


def find_checkpoint(name: str | None, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that `--run NAME` means: a checkpoint, a run's best, or the newest run's.

    Args:
        say: is called with a warning for each checkpoint that had to be passed over.

    Raises:
        Mistake: with exit code 4 if there is none, or the one that is named is damaged.
    """
    path = newest_run() if name is None else Path(name)
    if (path / "manifest.json").exists() or is_checkpoint_name(path.name):
        return load_checkpoint(path)
    if not path.is_dir():
        raise Mistake(Exit.CHECKPOINT, f"no run {path}", known_runs())
    return load_best(path, say)


def load_best(run: Path, say: Callable[[str], None]) -> Checkpoint:
    """The whole checkpoint with the lowest exact validation loss, else the newest.

    Raises:
        Mistake: with exit code 4 if none is whole.
    """
    checkpoint, damage = _first_whole(lambda: checkpoints_by_loss(run))
    for mistake in damage.values():
        say(f"warning: {mistake.what}; taking the next best")
    return checkpoint or load_last(run, say)


def load_last(run: Path, say: Callable[[str], None]) -> Checkpoint:
    """The newest whole checkpoint of a run; `say` is told which steps a damaged one costs.

    Raises:
        Mistake: with exit code 4 if none is whole; 5 if one cannot be read.
    """
    checkpoint, damage = _first_whole(lambda: checkpoints_of(run)[::-1])
    newest, mistake = next(iter(damage.items()), (run, None))
    if checkpoint and mistake:
        step = checkpoint.progress.step
        lost = f"steps {step + 1} to {step_of(newest)} are lost"
        lost = lost if step_of(newest) > step else "whose evaluation is made again"
        say(f"warning: {mistake.what}; going on from step {step}, {lost}")
    if checkpoint:
        return checkpoint
    if mistake:
        fix = "no checkpoint of this run is whole: train anew, in another directory"
        raise Mistake(Exit.CHECKPOINT, mistake.what, fix)
    require_listable(run)
    raise Mistake(Exit.CHECKPOINT, f"no checkpoint in {run}", f"train first: {known_runs()}")


def _first_whole(
    list_paths: Callable[[], list[Path]],
) -> tuple[Checkpoint | None, dict[Path, Mistake]]:
    """The first of the listed checkpoints that is whole, and the damage of those before it.

    A training may delete one while it is read: then the list is made anew.
    """
    damage: dict[Path, Mistake] = {}
    while found := [path for path in list_paths() if path not in damage]:
        try:
            return load_checkpoint(found[0]), damage
        except Mistake as mistake:
            if mistake.exit_code != Exit.CHECKPOINT:  # it may be whole: nothing is lost yet
                raise
            if found[0].exists() or found[0].is_symlink():
                damage[found[0]] = mistake
    return None, damage
