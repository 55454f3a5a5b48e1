"""What a model of some size reaches: the rule behind `--minutes`, fitted to runs of ours.

`configs/SCALING.md` has the runs, the fit and what it is worth.
"""

import math
from typing import NamedTuple


class Shape(NamedTuple):
    """The sizes of a model that the rule chooses from, heads of 32."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int


SHAPES = [
    Shape(2, 2, 64, 128),
    Shape(3, 3, 96, 128),
    Shape(4, 4, 128, 128),
    Shape(4, 5, 160, 128),
    Shape(5, 6, 192, 128),
    Shape(6, 8, 256, 128),
    Shape(7, 10, 320, 256),
    Shape(8, 12, 384, 256),
]

SETTINGS = {"model.token_shift": True, "train.muon_learning_rate": 0.02}
"""What is the same for all shapes, beside tiny.yaml's settings."""


def expected_loss(parameters: int, characters: float, text: int) -> float:
    """Validation loss of English [nats a character], as Hoffmann et al. 2022 put it, equation 10.

    Args:
        parameters: of the model.
        characters: that it is trained on, repetitions counted.
        text: characters of the training split; what is read again is worth less each time
            (Muennighoff et al. 2023, equation 5).
    """
    again = max(characters / text - 1, 0)
    worth = min(characters, text) + text * WORTH * (1 - math.exp(-again / WORTH))
    return LEAST + SIZE / parameters**SIZE_POWER + READ / worth**READ_POWER


LEAST, SIZE, SIZE_POWER, READ, READ_POWER = 1.253, 19.74, 0.3944, 53.59, 0.399  # study.py fit
WORTH = 15.4  # new readings that all repetitions together are worth, at most (Muennighoff)


def batch_characters(characters: float) -> float:
    """Characters in a batch, by those that are read in all: tiny.yaml's, and more for more."""
    return 1536 * (characters / 2e6) ** 0.65


def weight_decay(times: float) -> float:
    """By how often the text is read: after two times 0.2 cost 0.016 nats, after six 0 cost 0.08."""
    return 0.0 if times < 3 else 0.5
