"""Step 0 of a run with another run's model: which rows are copied, which are fresh."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.storage.checkpoint import Checkpoint
from gpt.training.fine_tune import fine_tuned, fresh, with_model_of

BIGRAM: dict[str, Any] = {"n_embd": 0, "n_layer": 0, "positions": "none", "norm": "none"}


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


def learned_from(text: str, path: Path, config: Config, seed: int) -> Checkpoint:
    """Fresh weights of this seed for a model of `text`."""
    path.write_text(text)
    config = overridden(config, {"data.text": str(path), "train.seed": seed})
    return fresh(config, load_corpus(config, ignore))


@pytest.mark.parametrize(
    ("old", "new", "unknown"),
    [
        ("abcdef", "abcdef", 0),
        ("abcdef", "zyxabé", 4),
        ("abcdefgh", "xab", 1),
        ("ab", "abcdefg", 5),
        ("abc", "xyz", 3),
    ],
)
@pytest.mark.parametrize("keys", [{}, BIGRAM], ids=["GPT", "bigram"])
def test_rows_of_known_characters_are_copied_those_of_new_ones_are_fresh(
    toy_config: Config, tmp_path: Path, keys: dict[str, Any], old: str, new: str, unknown: int
) -> None:
    config = overridden(toy_config, {f"model.{key}": value for key, value in keys.items()})
    origin = learned_from(old * 50, tmp_path / "old.txt", config, seed=1)
    drawn = learned_from(new * 50, tmp_path / "new.txt", config, seed=2)
    corpus = load_corpus(drawn.config, ignore)
    said: list[str] = []
    weights = fine_tuned(origin, drawn.config, corpus, said.append).weights
    (line,) = said
    assert line == f"fine-tuning a model of step 0; {unknown} characters are new to it"
    rows, columns = sorted(set(new)), sorted(set(old))
    for name, tensor in weights.items():
        if not keys and not name.startswith(("token_embedding", "lm_head")):
            assert torch.equal(tensor, origin.weights[name]), name
            continue
        for i, character in enumerate(rows):
            expected = drawn.weights[name][i].clone()
            if character in old and keys:  # its row has a number for each character that follows
                for j, follower in enumerate(rows):
                    if follower in old:
                        known = columns.index(character), columns.index(follower)
                        expected[j] = origin.weights[name][known]
            elif character in old:
                expected = origin.weights[name][columns.index(character)]
            assert torch.equal(tensor[i], expected), f"{name}: row of {character!r}"


def test_the_share_of_the_character_before_is_the_origins(
    toy_config: Config, tmp_path: Path
) -> None:
    config = overridden(toy_config, {"model.token_shift": True})
    origin = learned_from("abc" * 50, tmp_path / "old.txt", config, seed=1)
    origin.weights["token_shift"] += torch.arange(16) / 16
    other = learned_from("abcd" * 50, tmp_path / "new.txt", toy_config, seed=2).config
    corpus = load_corpus(other, ignore)
    tuned = fine_tuned(origin, with_model_of(origin, other), corpus, ignore)
    assert torch.equal(tuned.weights["token_shift"], origin.weights["token_shift"])
    tuned.make_model()


def test_the_architecture_is_the_origins_but_for_the_dropout(
    toy_config: Config, toy_corpus: Corpus
) -> None:
    origin = fresh(toy_config, toy_corpus)
    other = overridden(toy_config, {"model.n_layer": 1, "model.dropout": 0.2, "train.seed": 3})
    config = with_model_of(origin, other)
    assert config.model == overridden(toy_config, {"model.dropout": 0.2}).model
    assert config.train == other.train
