"""Seconds: how long a training will take, and how many steps end it in time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gpt.attention.watch import MUTE_CHARS
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.training.meaning import counting_seconds
from gpt.training.speed import Speed
from gpt.training.time_left import TimeLeft, evaluations_left

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


def training_seconds(
    config: Config, speed: Speed, corpus: Corpus, step: int = 0, owed: bool = False
) -> float:
    """Seconds from `step` to the end, with all evaluations.

    Args:
        owed: whether an evaluation of `step` is still to be made.
    """
    count = evaluations_left(step, config, corpus) + owed
    seconds = (config.train.max_steps - step) * speed.step(config)
    seconds += count * evaluation_seconds(config, speed, len(corpus.val_ids))
    return seconds + counting_seconds(corpus, seconds)


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
        evaluation: expected seconds of an evaluation, should none have been made by then.
        keep: is called with the new config, which is to be written before the next step.
    """

    deadline: float
    step: int
    evaluation: float
    keep: Callable[[Config], None]

    def recounted(self, config: Config, time_left: TimeLeft, now: float) -> Config:
        """`config` with as many steps as the time allows; itself where it ends in time already.

        Args:
            now: seconds since the start of the process.
        """
        count = evaluations_left(self.step, config, time_left.corpus)
        each, step_seconds = time_left.evaluation or self.evaluation, time_left.step_seconds
        seconds = self.deadline - now - count * each
        seconds -= counting_seconds(time_left.corpus, self.deadline)
        if not step_seconds:
            return config
        left, steps = config.train.max_steps - self.step, max(1, math.floor(seconds / step_seconds))
        if abs(steps - left) * step_seconds <= TOLERANCE * self.deadline:
            return config
        new = with_steps(config, self.step + steps, self.step, regular_evaluations(config))
        self.keep(new)
        return new


def regular_evaluations(config: Config) -> int:
    """How many evaluations come every `eval_every` steps, and after the last."""
    return math.ceil(config.train.max_steps / config.log.eval_every)
