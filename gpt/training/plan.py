"""`--minutes M`: the model, the batch and the schedule for M minutes on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpt.command.config_file import overridden
from gpt.command.process import process_seconds
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.errors import Exit, Mistake
from gpt.memory import machine_memory, step_memory
from gpt.training import pace, scaling
from gpt.training.pace import Pace, evaluation_seconds, in_words, with_steps
from gpt.training.speed import Speed, measured

SHAPE = ("model.n_layer", "model.n_head", "model.n_embd", "model.block_size")
EVALUATED_SHARE = 0.06  # of the time, at most, where there are several evaluations
EVALUATIONS = 10
ENDING = 1.0  # seconds from the last evaluation to the end of the process: checkpoint, projector


@dataclass(frozen=True)
class Plan:
    """What was chosen.

    Args:
        config: the whole of it.
        reasons: why, by the keys that were chosen.
        speed: of this machine with its model.
        deadline: seconds after the start of the process.
    """

    config: Config
    reasons: dict[str, str]
    speed: Speed
    deadline: float

    def lines(self) -> Iterator[str]:
        """Each chosen key as the flag that gives it, and the reason."""
        values = {key: _value(self.config, key) for key in self.reasons}
        widths = max(map(len, values)), max(len(f"{value}") for value in values.values())
        for key, value in values.items():
            yield f"  --{key:<{widths[0]}} {value!s:<{widths[1]}}  # {self.reasons[key]}"

    def pace(self, keep: Any, characters: int) -> Pace:
        """Keeps a training by this plan in time; see `Pace`."""
        train = self.config.train
        plateau = train.max_steps - round(train.decay_fraction * train.max_steps)
        seconds = evaluation_seconds(self.config, self.speed, characters)
        return Pace(self.deadline, plateau, seconds, keep)


@dataclass(frozen=True)
class _Candidate:
    """A shape, its speed here, and what it reads and reaches in the time."""

    config: Config
    speed: Speed
    characters: float
    loss: float


def plan(base: Config, corpus: Corpus, given: set[str], minutes: float) -> Plan:
    """Choose what is expected to have the lowest validation loss after `minutes`.

    Args:
        base: gives everything that the rule does not choose.
        given: keys that the user gave: they stay as they are. A key of SHAPE keeps the shape.

    Raises:
        Mistake: with exit code 2 if the time does not suffice for a step and an evaluation.
    """
    deadline = 60 * minutes
    tried: list[_Candidate] = []
    for shape in _shapes(base, given, corpus):
        tried.append(_candidate(shape, given, corpus, deadline))
        if tried[1:] and tried[-1].loss > tried[-2].loss:  # larger ones read too little
            break
    return _scheduled(tried, given, corpus, deadline)


def _shapes(base: Config, given: set[str], corpus: Corpus) -> Iterator[Config]:
    """`base` in each shape of the rule that fits the text and the memory, the smallest first."""
    if given & set(SHAPE):
        yield base
        return
    most = min(corpus.train_length, len(corpus.val_ids)) - 1
    for number, shape in enumerate(scaling.SHAPES):
        sizes = dict(zip(SHAPE, shape, strict=True))
        sizes["model.block_size"] = min(shape.block_size, most)
        config = overridden(base, sizes)
        _, memory = step_memory(config, len(corpus.tokenizer))
        if number and memory > machine_memory() / 2:
            return
        yield config


def _candidate(config: Config, given: set[str], corpus: Corpus, deadline: float) -> _Candidate:
    speed = measured(config, corpus)
    parameters, _ = step_memory(config, len(corpus.tokenizer))
    seconds = _left(config, speed, corpus, deadline)
    characters = seconds / speed.character
    for _ in range(10):  # the batch depends on what is read, and the speed on the batch
        batch = _batch(config, given, characters)
        characters = seconds / (speed.character + speed.update / batch)
    loss = scaling.expected_loss(parameters, characters, corpus.train_length)
    return _Candidate(config, speed, characters, loss)


def _left(config: Config, speed: Speed, corpus: Corpus, deadline: float) -> float:
    """Seconds for training steps: what the start, the evaluations and the end leave of the time.

    Raises:
        Mistake: with exit code 2 if nothing is left.
    """
    each = evaluation_seconds(config, speed, len(corpus.val_ids))
    left = deadline - process_seconds() - ENDING - each * _evaluations(each, deadline)
    if left <= 0:
        least = (deadline - left) / 60
        what = f"{in_words(deadline)} are too short: the start and one evaluation of "
        what += f"{len(corpus.val_ids):,} characters take {in_words(deadline - left)}"
        fix = f"--minutes {2 * least:.2g}, or keep less for validation: --data.val_fraction"
        raise Mistake(Exit.USAGE, what, fix)
    return left


def _evaluations(each: float, deadline: float) -> int:
    """How many evaluations of `each` seconds are made until the deadline; at least the last."""
    return max(1, min(EVALUATIONS, int(EVALUATED_SHARE * deadline / each)))


def _batch(config: Config, given: set[str], characters: float) -> int:
    """Characters in a batch, whole rows, of a training that reads `characters`."""
    if "train.batch_size" in given:
        rows = config.train.batch_size
    else:
        rows = max(1, round(scaling.batch_characters(characters) / config.model.block_size))
    return rows * config.model.block_size


def _scheduled(tried: list[_Candidate], given: set[str], corpus: Corpus, deadline: float) -> Plan:
    """The config of the best candidate, with its steps and the reason for each choice."""
    found = min(tried, key=lambda candidate: candidate.loss)
    config, times = found.config, found.characters / corpus.train_length
    chosen: dict[str, Any] = {
        "train.batch_size": _batch(config, given, found.characters) // config.model.block_size,
        "train.weight_decay": scaling.weight_decay(times),
    }
    config = overridden(config, {key: chosen[key] for key in chosen if key not in given})
    speed = measured(config, corpus)
    steps = max(1, int(_left(config, speed, corpus, deadline) / speed.step(config)))
    each = evaluation_seconds(config, speed, len(corpus.val_ids))
    plateau = max(1, round(pace.RECOUNT_AT * steps))
    config = with_steps(config, steps, plateau, _evaluations(each, deadline))
    reasons = _reasons(config, speed, tried, times, each)
    mine = {key: why for key, why in reasons.items() if key not in given}
    return Plan(config, mine, speed, deadline)


def _reasons(
    config: Config, speed: Speed, tried: list[_Candidate], times: float, evaluation: float
) -> dict[str, str]:
    """Why each chosen key has its value."""
    model, train = config.model, config.train
    losses = ", ".join(f"{c.config.model.n_embd} wide {c.loss:.3f}" for c in tried)
    return {
        "model.n_embd": f"losses that the rule expects of English: {losses}",
        "model.n_layer": f"a layer for each {model.n_embd / model.n_layer:.0f} of the width",
        "model.n_head": f"heads of {model.head_size}",
        "model.block_size": "characters of context",
        "train.batch_size": f"{train.batch_size * model.block_size:,} characters a step",
        "train.max_steps": f"of {1000 * speed.step(config):.0f} ms; the text is read "
        f"{times:.1f} times",
        "train.decay_fraction": "before the rates fall, the steps are counted anew",
        "train.weight_decay": "heavier the more often the text is read",
        "log.eval_every": f"an evaluation takes {evaluation:.1f} s",
        "log.save_every": "with each evaluation",
    }


def _value(config: Config, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)
