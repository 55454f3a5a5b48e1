"""The models of a question, trained, and logged for TensorBoard."""

import re
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from changes import changed_model
from measures import Subject
from question import Found, Question, Variant

from gpt import files
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.optim import lr_factor, make_optimizers, set_lr
from gpt.training.event_file import SessionWriter

LOG_EVERY = 25  # steps


def find(
    question: Question, variant: Variant, corpus: Corpus, configs: Iterable[Config], folder: Path
) -> Found:
    """Train a variant with each of `configs`; log the loss and every number for TensorBoard."""
    numbers: dict[str, list[float]] = {}
    for config in configs:
        model = changed_model(config, len(corpus.tokenizer), variant.change)
        subject, steps = Subject(model, corpus, config), config.train.max_steps
        place = folder / f"{re.sub('[^a-z0-9]+', '-', variant.name.lower())}-{config.train.seed}"
        files.make_directory(place)
        writer = SessionWriter(place, purge_step=0)  # what an earlier command logged is not shown
        start = question.at_start(subject)
        losses = train(subject, writer)
        end = {"train_loss": mean(losses[-100:]), **question.at_end(subject)}
        for step, measured in ((0, start), (steps, end)):
            for name, value in measured.items():
                writer.add_scalar(f"why/{name}", value, step)
                numbers.setdefault(name, []).append(value)
        writer.events.close()
    return Found(numbers, subject, losses)


def train(subject: Subject, writer: SessionWriter) -> list[float]:
    """Train with the project's optimizer and schedule; the loss of each step."""
    config = subject.config.train
    optimizers = make_optimizers(subject.model, config)
    losses: list[float] = []
    for step in range(config.max_steps):
        set_lr(optimizers, lr_factor(step, config))
        loss = subject.loss(step)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if len(losses) % LOG_EVERY == 0:
            writer.add_scalar("why/training", mean(losses[-LOG_EVERY:]), len(losses))
    return losses
