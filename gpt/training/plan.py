"""`--minutes M`: the model, the batch and the schedule for M minutes on this machine."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gpt.command.config_file import overridden
from gpt.command.process import process_seconds
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.errors import Exit, Mistake
from gpt.memory import machine_memory, step_memory
from gpt.training import scaling
from gpt.training.meaning import counting_seconds
from gpt.training.pace import (
    RECOUNT_AT,
    Pace,
    evaluation_seconds,
    in_words,
    regular_evaluations,
    with_steps,
)
from gpt.training.speed import Speed, measured
from gpt.training.time_left import evaluations_left

SHAPE = ("model.n_layer", "model.n_head", "model.n_embd", "model.block_size")
EVALUATED = 0.06  # of the time is spent on evaluations, at most
EVALUATIONS = 10
LEAST_KEPT = 20_000  # characters for validation, however short the time
ENDING = 1.0  # seconds from the last evaluation to the end of the process: checkpoint, projector


@dataclass(frozen=True)
class Plan:
    """What was chosen.

    Args:
        config: the whole of it.
        reasons: why, by the keys that were chosen.
        speed: of this machine with its model.
        deadline: seconds after the start of the process at which the training is to end.
    """

    config: Config
    reasons: dict[str, str]
    speed: Speed
    deadline: float

    def lines(self) -> Iterator[str]:
        """Each chosen key as the flag that gives it, and the reason."""
        yield "chosen for this text and this machine:"
        flags = [f"--{key} {_value(self.config, key)}" for key in self.reasons]
        width = max(map(len, flags), default=0)
        for flag, reason in zip(flags, self.reasons.values(), strict=True):
            yield f"  {flag:<{width}}  # {reason}"

    def pace(self, corpus: Corpus, keep: Callable[[Config], None]) -> Pace:
        """Keeps the training in time; see `Pace`."""
        train = self.config.train
        plateau = train.max_steps - round(train.decay_fraction * train.max_steps)
        each = evaluation_seconds(self.config, self.speed, len(corpus.val_ids))
        return Pace(self.deadline - ENDING, plateau, each, keep)


def plan(base: Config, corpus: Corpus, given: set[str], minutes: float) -> Plan:
    """Choose what is expected to have the lowest validation loss after `minutes`.

    Args:
        base: gives everything that is not chosen.
        given: keys that the user gave: they stay as they are; a key of SHAPE keeps the shape.
        minutes: from the start of the process to its end.

    Raises:
        Mistake: with exit code 2 if they do not suffice for a step and an evaluation.
    """
    planner = _Planner(base, corpus, given, 60 * minutes)
    tried: list[_Candidate] = []
    for config in planner.shapes():
        tried.append(planner.candidate(config))
        if tried[1:] and tried[-1].loss > tried[-2].loss:  # larger ones read too little
            break
    return planner.scheduled(tried)


@dataclass(frozen=True)
class _Candidate:
    """A shape, and what it reads and reaches in the time."""

    config: Config
    characters: float
    loss: float


@dataclass(frozen=True)
class _Planner:
    base: Config
    corpus: Corpus
    given: set[str]
    deadline: float

    def shapes(self) -> Iterator[Config]:
        """`base` in each shape of the rule that fits text and memory, the smallest first."""
        base = self._unless_given(self.base, dict(scaling.SETTINGS))
        if self.given & set(SHAPE):
            yield base
            return
        longest = min(self.corpus.train_length, len(self.corpus.val_ids)) - 1
        for shape in scaling.SHAPES:
            sizes = dict(zip(SHAPE, shape, strict=True))
            sizes["model.block_size"] = min(shape.block_size, longest)
            config = overridden(base, sizes)
            _, memory = step_memory(config, len(self.corpus.tokenizer))
            if shape == scaling.SHAPES[0] or memory < machine_memory() / 2:
                yield config

    def candidate(self, config: Config) -> _Candidate:
        """What a model of this shape reads and reaches."""
        speed = measured(config, self.corpus)
        parameters, _ = step_memory(config, len(self.corpus.tokenizer))
        seconds = self.deadline - self._needed(config, speed)
        if seconds <= 0:
            return _Candidate(config, 0, math.inf)
        characters = seconds / speed.character
        for _ in range(10):  # the batch depends on what is read, and the speed on the batch
            batch = self._rows(config, characters) * config.model.block_size
            characters = seconds / (speed.character + speed.update / batch)
        loss = scaling.expected_loss(parameters, characters, self.corpus.train_length)
        return _Candidate(config, characters, loss)

    def scheduled(self, tried: list[_Candidate]) -> Plan:
        """The config of the best candidate, with its steps, and the reason for each choice.

        Raises:
            Mistake: with exit code 2 if there is no time for a step.
        """
        found = min(tried, key=lambda candidate: candidate.loss)
        decay = scaling.weight_decay(found.characters / self.corpus.train_length)
        config = self._unless_given(
            found.config,
            {
                "train.batch_size": self._rows(found.config, found.characters),
                "train.weight_decay": decay,
            },
        )
        speed = measured(config, self.corpus)
        needed = self._needed(config, speed)
        if found.loss == math.inf or needed >= self.deadline:
            what = f"{in_words(self.deadline)} are too short: start, evaluation and end alone take "
            fix = f"--minutes {needed / 60 * 2:.2g} or more"
            raise Mistake(Exit.USAGE, what + in_words(needed), fix)
        kept = self._kept(config, speed)
        if kept < len(self.corpus.val_ids):
            config = overridden(config, {"data.val_fraction": kept / len(self.corpus.ids)})
        each = evaluation_seconds(config, speed, kept)
        config = self._with_steps(config, speed, self.deadline - needed, each)
        reasons = _reasons(config, speed, tried, each)
        if kept == len(self.corpus.val_ids):
            del reasons["data.val_fraction"]
        mine = {key: why for key, why in reasons.items() if key not in self.given}
        return Plan(config, mine, speed, self.deadline)

    def _with_steps(self, config: Config, speed: Speed, seconds: float, each: float) -> Config:
        """`config` with as many steps as `seconds` allow; an evaluation takes `each`."""
        early = 0  # evaluations at the ends of epochs; they depend on the steps
        for _ in range(3):
            steps = max(1, int((seconds - early * each) / speed.step(config)))
            plateau = max(1, round(RECOUNT_AT * steps))
            config = with_steps(config, steps, plateau, self._evaluations(each))
            early = evaluations_left(0, config, self.corpus) - regular_evaluations(config)
        return config

    def _unless_given(self, config: Config, chosen: dict[str, Any]) -> Config:
        return overridden(config, {k: v for k, v in chosen.items() if k not in self.given})

    def _rows(self, config: Config, characters: float) -> int:
        """Rows of a batch in a training that reads `characters`."""
        if "train.batch_size" in self.given:
            return config.train.batch_size
        rows = scaling.batch_characters(characters) / config.model.block_size
        return max(1, round(rows / config.train.accumulate)) * config.train.accumulate

    def _needed(self, config: Config, speed: Speed) -> float:
        """Seconds for start, evaluations and end; the others are for training steps."""
        each = evaluation_seconds(config, speed, self._kept(config, speed))
        evaluated = (self._evaluations(each) + 1) * each  # one is made before step 1
        counted = counting_seconds(self.corpus, self.deadline)
        return process_seconds() + evaluated + counted + ENDING

    def _evaluations(self, each: float) -> int:
        """How many evaluations of `each` seconds are made; at least the last."""
        return max(1, min(EVALUATIONS, int(EVALUATED * self.deadline / each)))

    def _kept(self, config: Config, speed: Speed) -> int:
        """Characters kept for validation: no more than can be evaluated in a part of the time."""
        there = len(self.corpus.val_ids)
        can_be = int(EVALUATED * self.deadline / speed.evaluated)
        return there if "data.val_fraction" in self.given else min(there, max(can_be, LEAST_KEPT))


def _reasons(
    config: Config, speed: Speed, tried: list[_Candidate], evaluation: float
) -> dict[str, str]:
    """Why each chosen key has its value."""
    model, train = config.model, config.train
    losses = ", ".join(f"{c.config.model.n_embd} wide {c.loss:.3f}" for c in tried)
    return {
        "model.n_embd": f"losses that the rule expects of English: {losses}",
        "model.n_layer": "deeper as it gets wider",
        "model.n_head": f"heads of {model.head_size}",
        "model.block_size": "characters of context",
        "model.token_shift": "worth 0.04 nats on tinyshakespeare",
        "data.val_fraction": "so that an evaluation takes a small part of the time",
        "train.batch_size": f"{train.batch_size * model.block_size:,} characters a step",
        "train.max_steps": f"of {1000 * speed.step(config):.0f} ms",
        "train.decay_fraction": "before the rates fall, the steps are counted anew",
        "train.muon_learning_rate": "the same for all sizes",
        "train.weight_decay": "against learning by heart what is read three times or more",
        "log.eval_every": f"an evaluation takes {evaluation:.1f} s",
        "log.save_every": "with each evaluation",
    }


def _value(config: Config, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)
