"""How a session ends: its last lines, and one JSON object for scripts."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

from gpt.attention.glyphs import on_one_line
from gpt.config import Config
from gpt.evaluate import bits
from gpt.storage.checkpoint import Progress
from gpt.storage.run_directory import for_shell
from gpt.training.meaning import Counted, Course

WAYS_ON = {"max_steps": "raise", "patience": "raise", "target_val_loss": "lower"}


def ended_by(config: Config, progress: Progress) -> str:
    """The setting in `train` that ended a run."""
    if progress.step >= config.train.max_steps:
        return "max_steps"
    return "patience" if 0 < config.train.patience <= progress.waiting else "target_val_loss"


def way_on(config: Config, progress: Progress) -> str:
    """Which setting ended a run that has finished, and where to move it."""
    setting = ended_by(config, progress)
    return f"{WAYS_ON[setting]} --train.{setting}"


def last_lines(
    run: Path, config: Config, progress: Progress, course: Course, counted: Counted | None
) -> Iterator[str]:
    """What is said of a run that has finished: what it writes, how good it is, how to go on."""
    shown = course.best if course.best and course.best.sample else course.last
    if shown and shown.sample:
        yield f"step {shown.step} writes:"
        for line in shown.sample.strip("\n").split("\n"):
            yield f"  | {on_one_line(line)}"
    yield f"best val loss {_verdict(progress, course, counted)}"
    place, parent = for_shell(run), for_shell(run.parent)
    yield f"run {place}; for more text, its attention and the full judgement:"
    yield f"  python sample.py --run {place}"
    page = f"python scripts/explore.py {place} --out attention.html"
    yield f"  {f'tensorboard --logdir {parent}' if config.log.tensorboard else page}"
    yield f"  python scripts/evaluate.py {place}"


def _verdict(progress: Progress, course: Course, counted: Counted | None) -> str:
    """The best val loss, beside counting and beside the last one, as far as these are known."""
    best = progress.best_val_loss
    if best is None:
        return "not measured"
    parts = [f"{best:.4f} nats = {bits(best):.4f} bits per character (step {progress.best_step})"]
    if counted:
        parts.append(counted.beside(best))
    if course.is_by_heart:
        parts.append("after it the model learned by heart")
    elif progress.step:
        parts.append("no sign of learning by heart")
    return "; ".join(parts)


def as_json(
    run: Path, config: Config, progress: Progress, parameters: int, stop_signal: int
) -> str:
    """One line: where the run is, how far it came, how good it is, and what ended the session.

    Args:
        parameters: of the model.
        stop_signal: that stopped the session; 0: none.
    """
    best = progress.best_val_loss
    found = {
        "run": str(run.absolute()),
        "step": progress.step,
        "val_loss": progress.val_loss,  # of this step, if measured [nats a character]
        "best_step": None if best is None else progress.best_step,
        "best_val_loss": best,
        "best_val_bits_per_char": None if best is None else bits(best),
        "seconds": round(progress.elapsed_seconds, 3),  # of all sessions
        "parameters": parameters,
        "ended_by": signal.Signals(stop_signal).name if stop_signal else ended_by(config, progress),
    }
    return json.dumps(found)
