"""What a training is expected to bring, for each of its kinds."""

import pytest

from gpt.config import Config
from gpt.training.outlook import outlook


def said(characters: int, parameters: int, steps: int, weight_decay: float = 0.0) -> str:
    train = {"max_steps": steps, "batch_size": 10, "weight_decay": weight_decay}
    config = Config.model_validate({"model": {"block_size": 100}, "train": train})
    return outlook(config, characters, parameters)


@pytest.mark.parametrize(
    ("characters", "parameters", "steps", "expected"),
    [
        (1_000_000, 800_000, 1400, "read 1.4 times: too seldom to learn them by heart"),
        (1_000_000, 800_000, 9000, "read 9.0 times: the model, of fewer parameters than that"),
        (200_000, 800_000, 1600, "read 8.0 times: it begins to learn them by heart"),
        (100_000, 800_000, 9000, "read 90 times: it learns them by heart, and the best model"),
        (2_700, 800_000, 900, "read 333 times: soon learned by heart; expect the text"),
        (2_700, 800_000, 0, "read less than 0.1 times: too seldom"),
    ],
)
def test_the_outlook_names_the_readings_and_what_comes_of_them(
    characters: int, parameters: int, steps: int, expected: str
) -> None:
    line = said(characters, parameters, steps)
    assert f"the {characters:,} characters for training are {expected}" in line


def test_the_remedy_is_named_where_it_helps_and_is_not_taken_yet() -> None:
    assert said(200_000, 800_000, 1600).endswith("; --train.weight_decay 1 helps")
    assert said(100_000, 800_000, 9000).endswith("; --train.weight_decay 1 helps")
    assert "weight_decay" not in said(200_000, 800_000, 1600, weight_decay=1.0)
    assert "weight_decay" not in said(1_000_000, 800_000, 1400)
