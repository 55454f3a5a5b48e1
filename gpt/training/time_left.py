"""When a run is evaluated, and how long the rest of it takes."""

from collections import deque
from collections.abc import Callable

from gpt.config import Config
from gpt.data.corpus import Corpus

RECENT = 100  # steps whose mean is the speed: many enough to smooth, few enough to follow
TRAINING_COST = 3  # training on a character costs about as much as evaluating three


def is_due(step: int, config: Config, corpus: Corpus) -> bool:
    """Whether the exact loss is measured after `step`, a function of the arguments alone.

    Every `eval_every` steps, after the last, and where a text is read again before the first of
    these: after its 1st, 2nd, 4th, 8th, ... reading. The best model of a short text comes there.
    So at most log2(eval_every) + 2 evaluations are added, and none to a run whose first reading
    takes longer than `eval_every` steps.
    """
    regular = step % config.log.eval_every == 0 or step >= config.train.max_steps
    return regular or step in _ends_of_early_epochs(config, corpus)


def evaluations_left(step: int, config: Config, corpus: Corpus) -> int:
    """How many evaluations are due after `step` until the last one."""
    every, last = config.log.eval_every, config.train.max_steps
    regular = max(0, -(-last // every) - step // every) if step < last else 0
    early = _ends_of_early_epochs(config, corpus)
    return regular + sum(step < end < last for end in early)


def _ends_of_early_epochs(config: Config, corpus: Corpus) -> set[int]:
    """The steps below eval_every at which epochs 1, 2, 4, 8, ... end."""
    windows, rows = corpus.windows_per_epoch(config.model.block_size), config.train.batch_size
    ends, epochs = set[int](), 1
    while (end := -(-epochs * windows // rows)) < config.log.eval_every:
        ends.add(end)
        epochs *= 2
    return ends


class TimeLeft:
    """Measures what the steps and evaluations of a session take, and tells what the rest will.

    Args:
        config: the resolved config.
        step: steps done before this session.
        clock: the time in seconds.
    """

    def __init__(self, config: Config, corpus: Corpus, step: int, clock: Callable[[], float]):
        self.config, self.corpus, self.step, self.clock = config, corpus, step, clock
        self.began = self.mark = clock()  # the session, the step
        self.evaluation_began: float | None = None  # None: none is being made
        self.evaluation: float | None = None  # seconds of the last one
        self.ends = deque[float](maxlen=RECENT + 1)  # of the last steps, evaluations left out

    def stepped(self) -> None:
        """Note that a step has ended."""
        now, last = self.clock(), self.ends[-1] if self.ends else 0.0
        self.ends.append(last + now - self.mark)
        self.step, self.mark = self.step + 1, now

    def evaluating(self) -> None:
        """Note that an evaluation is being made."""
        if self.evaluation_began is None:
            self.evaluation_began = self.clock()

    def leave_out(self, seconds: float) -> None:
        """Let these seconds of the evaluation not count: the others do not take them."""
        if self.evaluation_began is not None:
            self.evaluation_began += seconds

    def evaluated(self) -> None:
        """Note that the evaluation has ended."""
        now = self.clock()
        if self.evaluation_began is not None:
            self.evaluation = now - self.evaluation_began
        self.evaluation_began, self.mark = None, now

    @property
    def step_seconds(self) -> float | None:
        """The mean of the last steps, without the session's first, which is slower."""
        if len(self.ends) < 2:
            return self.ends[0] if self.ends else None
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)

    @property
    def chars_per_second(self) -> float:
        return self._chars() / self.step_seconds if self.step_seconds else 0.0

    def seconds(self) -> float | None:
        """What the rest takes, should nothing end it before max_steps; None before step 1."""
        each, last = self.step_seconds, self.config.train.max_steps
        if each is None:
            return None
        evaluation = self.evaluation
        if evaluation is None:
            evaluation = len(self.corpus.val_ids) / TRAINING_COST / self._chars() * each
        due = evaluations_left(self.step, self.config, self.corpus)
        left = max(0, last - self.step) * each + due * evaluation
        if self.evaluation_began is not None:
            left += max(0.0, evaluation - (self.clock() - self.evaluation_began))
        return left

    def session_seconds(self) -> float:
        """What the whole session takes, about."""
        return self.clock() - self.began + (self.seconds() or 0.0)

    def _chars(self) -> int:
        """Characters that a step trains on."""
        return self.config.train.batch_size * self.config.model.block_size
