"""A question: the models that answer it, what is measured of them, and the words of its answer.

An answer is a sentence made of the numbers: it says what they show, and no more.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from changes import Change, unchanged
from matplotlib.figure import Figure
from measures import Numbers, Subject

from gpt import paths
from gpt.command.config_file import load_config
from gpt.config import Config

Table = dict[str, dict[str, list[float]]]  # name of a variant -> number -> its value for each seed


@dataclass(frozen=True)
class Variant:
    """A model: a rung of configs/ladder/ with `keys` of its config, and a change."""

    name: str  # of its row in the table and its folder
    change: Change = unchanged
    keys: dict[str, Any] = field(default_factory=dict)
    rung: str = "6-norm"


@dataclass(frozen=True)
class Found:
    """What was found of a variant."""

    numbers: dict[str, list[float]]  # each with a value for each seed
    subject: Subject  # of the last seed, trained
    losses: list[float]  # of its training steps [nats a character]


@dataclass(frozen=True)
class Question:
    """What is asked, which models answer it, and how.

    Args:
        keys: of the config, for all variants.
        at_start, at_end: measure a model before and after training.
        columns: number -> its heading in the table, and its format.
        writes: whether a text of each model is shown.
    """

    asks: str
    keys: dict[str, Any]
    variants: Sequence[Variant]
    at_start: Callable[[Subject], Numbers]
    at_end: Callable[[Subject], Numbers]
    columns: dict[str, tuple[str, str]]
    answer: Callable[[Table], str]
    draw: Callable[[Figure, dict[str, Found]], None]
    writes: bool = False

    def config(self, variant: Variant, overrides: dict[str, Any], seed: int = 0) -> Config:
        """The config of a variant; its seed is that of configs/ladder/, plus `seed`."""
        path = paths.CONFIGS / "ladder" / f"{variant.rung}.yaml"
        keys = self.keys | variant.keys | overrides
        return load_config(path, keys | {"train.seed": load_config(path).train.seed + seed})


LOSSES = {"train_loss": ("train loss", ".3f"), "val_loss": ("val loss", ".3f")}
SIZE = {
    "model.block_size": 32,
    "train.batch_size": 16,
    "model.n_embd": 64,
    "model.n_layer": 2,
}


def differ(some: list[float], others: list[float]) -> bool:
    """Whether the seeds show a difference: their ranges do not overlap."""
    return max(some) < min(others) or max(others) < min(some)


def effect(before: list[float], after: list[float]) -> str:
    """By how much a change moves a loss, and whether the seeds show that."""
    moved = f"{mean(after) - mean(before):+z.3f}"
    return moved if differ(before, after) else f"{moved} (within the seeds' spread)"


def listed(parts: Iterable[object]) -> str:
    *most, last = map(str, parts)
    return f"{', '.join(most)} and {last}" if most else last
