"""What is measured of this program inside of a worker process: training steps and sampling."""

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sizes import Shape
from timing import Numbers, sampling_speed, training_speed
from torch import Tensor

from gpt.command.config_file import find_config, load_config
from gpt.config import Config
from gpt.data.corpus import load_corpus
from gpt.generation.generate import generate
from gpt.model import GPT
from gpt.training.fine_tune import fresh
from gpt.training.trainer import Trainer

NEVER = 10**12  # steps


class _Enough(Exception):
    """All steps are timed."""


class _Clock:
    """Stands in for the trainer's monitor; ends the training after `steps` steps."""

    def __init__(self, steps: int):
        self.steps, self.times = steps, [time.perf_counter()]

    def say(self, line: str) -> None:
        raise RuntimeError(line)  # a setting had no effect

    def advance(self, loss: Tensor) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) > self.steps:
            raise _Enough


def train(
    shape: Shape, text: str, warmup: int, steps: int, precision: str, compiled: bool = False
) -> Numbers:
    """Steps of the trainer's own loop on tiny.yaml's model, with the peers' optimizer, AdamW."""
    overrides: dict[str, Any] = {"data.text": text, "train.device": "cpu"}
    overrides |= {"train.optimizer": "adamw", "train.max_steps": NEVER}
    overrides |= {"train.precision": precision, "train.compile": compiled}
    overrides |= {f"log.{event}_every": NEVER for event in ("log", "eval", "save")}
    config = _config(shape, overrides)
    corpus = load_corpus(config, say=lambda line: None)
    clock: Any = _Clock(warmup + steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, corpus, Path(folder), fresh(config, corpus), clock)
        try:
            trainer.train()
        except _Enough:
            seconds = np.diff(clock.times)[warmup:].tolist()
            return training_speed(shape, seconds)
    raise AssertionError("the training ended before its time")


def sample(shape: Shape, vocab: int, chars: int, num_samples: int, least: float) -> Numbers:
    """`generate` on tiny.yaml's model with its initial weights, from a single character on."""
    torch.manual_seed(1)
    model = GPT(_config(shape, {}).model, vocab).eval()

    def write() -> None:
        written = generate(model, np.zeros(1, np.int64), num_samples=num_samples, seed=1)
        for _ in islice(written, chars):
            pass

    return sampling_speed(write, chars * num_samples, least)


def _config(shape: Shape, overrides: dict[str, Any]) -> Config:
    """tiny.yaml at another shape, with `overrides` (dotted key -> value) laid over it."""
    sizes = {f"model.{name}": size for name, size in shape._asdict().items()}
    sizes["train.batch_size"] = sizes.pop("model.batch_size")
    return load_config(find_config("tiny.yaml"), sizes | overrides)
