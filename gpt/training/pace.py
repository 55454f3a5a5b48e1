"""Seconds: how long a training will take, and how many steps end it in time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gpt.attention.watch import MUTE_CHARS
from gpt.config import Config
from gpt.training.speed import Speed

LOOK_INSIDE, PICTURE = 0.3, 0.15  # seconds with TensorBoard: in all, and for each layer
RECOUNT_AT = 0.08  # of the steps: enough to be timed, and before the first evaluation
TOLERANCE = 0.02  # of the time: a schedule that ends nearer than that stays


def evaluation_seconds(config: Config, speed: Speed, characters: int) -> float:
    """Seconds of an evaluation of `characters`, with what TensorBoard shows of the model then."""
    seconds = characters * speed.evaluated
    if config.log.tensorboard:
        heads = config.model.n_layer * config.model.n_head
        muting = MUTE_CHARS * heads * speed.evaluated
        seconds += LOOK_INSIDE + PICTURE * config.model.n_layer + muting
    return seconds


def evaluations(config: Config, step: int = 0) -> int:
    """How many evaluations are made after `step`."""
    last, every = config.train.max_steps, config.log.eval_every
    return math.ceil(last / every) - step // every if last > step else 0


def training_seconds(config: Config, speed: Speed, characters: int, step: int = 0) -> float:
    """Seconds from `step` to the end, evaluations of `characters` each included."""
    steps = (config.train.max_steps - step) * speed.step(config)
    return steps + evaluations(config, step) * evaluation_seconds(config, speed, characters)


def in_words(seconds: float) -> str:
    """A duration as a person says it: 75 -> '1 min 15 s'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s" if minutes else f"{left} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def with_steps(config: Config, steps: int, plateau: int, evaluated: int) -> Config:
    """`config` with `steps` in all, of which the first `plateau` have the full learning rate.

    The rates of the plateau do not depend on the number of steps: it can be counted anew there,
    and a run of the new config is the same from its first step on.

    Args:
        evaluated: how many evaluations are made, about.
    """
    every = math.ceil(steps / evaluated)
    train = {"max_steps": steps, "decay_fraction": round(1 - plateau / steps, 9)}
    log = {"eval_every": every, "save_every": every}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "log": config.log.model_copy(update=log),
        }
    )


@dataclass(frozen=True)
class Pace:
    """Ends a training in time: once, early, its steps are counted anew by their true duration.

    Args:
        deadline: seconds after the start of the process at which it is to end.
        step: after which the steps are counted.
        evaluation: expected seconds of an evaluation.
        keep: is called with the new config, which is to be written before the next step.
    """

    deadline: float
    step: int
    evaluation: float
    keep: Callable[[Config], None]

    def recounted(self, config: Config, now: float, step_seconds: float) -> Config:
        """`config` with as many steps as the time allows; itself where it ends in time already.

        Args:
            now: seconds since the start of the process.
            step_seconds: of a step, as measured so far.
        """
        left, count = config.train.max_steps - self.step, evaluations(config, self.step)
        time_left = self.deadline - now - count * self.evaluation
        steps = max(1, math.floor(time_left / step_seconds))
        if abs(steps - left) * step_seconds <= TOLERANCE * self.deadline:
            return config
        new = with_steps(config, self.step + steps, self.step, count)
        self.keep(new)
        return new
