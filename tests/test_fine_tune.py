"""Step 0 of a run with another run's model: whose rows a character gets, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.storage.checkpoint import Checkpoint
from gpt.training.fine_tune import LR_SCALE, fine_tuned, fine_tuning_config, fresh

BIGRAM: dict[str, Any] = {"n_embd": 0, "n_layer": 0, "positions": "none", "norm": "none"}
MANY = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))  # no look-alikes of a Latin letter


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


def corpus_of(text: str, config: Config, folder: Path) -> Corpus:
    path = folder / "text.txt"
    path.write_text(text, "utf-8")
    return load_corpus(overridden(config, {"data.text": str(path)}), ignore)


def model_of(alphabet: str, config: Config, folder: Path) -> Checkpoint:
    """A model that knows `alphabet`, with weights of its own at each place."""
    origin = fresh(overridden(config, {"train.seed": 1}), corpus_of(alphabet * 50, config, folder))
    torch.manual_seed(2)
    for name, tensor in origin.weights.items():  # zeros and equal rows would hide an exchange
        origin.weights[name] = torch.randn(tensor.shape)
    return origin


def tuned(origin: Checkpoint, text: str, config: Config, folder: Path) -> tuple[Checkpoint, str]:
    """Step 0 of fine-tuning `origin` on `text`, and what was said."""
    said: list[str] = []
    config = fine_tuning_config(origin, config, said.append)
    start = fine_tuned(origin, config, corpus_of(text, config, folder), said.append)
    return start, "\n".join(said)


def row(checkpoint: Checkpoint, name: str, character: str) -> list[float]:
    return checkpoint.weights[name][checkpoint.tokenizer.alphabet.index(character)].tolist()


ROWS = ["token_embedding.weight", "lm_head.weight", "lm_head.bias"]


# --- whose rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    ("old", "character", "like"),
    [
        ("abcdef", "c", "c"),  # itself
        ("abcdEe", "É", "E"),  # without its accent
        ("abcdeE", "é", "e"),
        ("abcdEé", "É", "E"),  # rather than in the other case
        ("abcdef", "E", "e"),  # in the other case
        ("ABCDEF", "e", "E"),
        ("abcdef", "É", "e"),  # both
        ("abcdeé", "É", "é"),  # the other case is nearer than both
        ("abcdef", "ặ", "a"),  # of two accents
    ],
)
def test_a_character_gets_the_rows_of_itself_or_its_look_alike(
    toy_config: Config, tmp_path: Path, old: str, character: str, like: str, name: str
) -> None:
    config = overridden(toy_config, {"model.bias": True})
    origin = model_of(old, config, tmp_path)
    start, _ = tuned(origin, f"{character}xyb" * 60, config, tmp_path)
    assert row(start, name, character) == row(origin, name, like)
    assert row(start, name, "b") == row(origin, name, "b" if "b" in old else "B")


@pytest.mark.parametrize("character", ["ß", "´", "½", "1"])
def test_what_only_resembles_others_has_no_look_alike(
    toy_config: Config, tmp_path: Path, character: str
) -> None:
    origin = model_of("sS ab2", toy_config, tmp_path)
    start, _ = tuned(origin, f"{character} ab" * 60, toy_config, tmp_path)
    for known in origin.tokenizer.alphabet:
        assert row(start, ROWS[0], character) != row(origin, ROWS[0], known)


@pytest.mark.parametrize("name", ROWS[:2])
def test_other_new_rows_have_the_mean_and_the_spread_of_the_old(
    toy_config: Config, tmp_path: Path, name: str
) -> None:
    origin = model_of("abcdefgh", toy_config, tmp_path)
    width = toy_config.model.n_embd
    shift, scale = torch.linspace(-3, 3, width), torch.linspace(0.1, 2, width)
    old = origin.weights[name] = origin.weights[name] * scale + shift
    start, _ = tuned(origin, MANY * 3, toy_config, tmp_path)
    drawn = start.weights[name]
    spread = old.std(0, correction=0)
    assert ((drawn.mean(0) - old.mean(0)).abs() < 4 * spread / len(MANY) ** 0.5).all()
    assert drawn.std(0).tolist() == pytest.approx(spread.tolist(), rel=0.2)


def test_a_bigram_table_is_fitted_in_rows_and_columns(toy_config: Config, tmp_path: Path) -> None:
    config = overridden(toy_config, {f"model.{key}": value for key, value in BIGRAM.items()})
    origin = model_of("abcE", config, tmp_path)
    start, _ = tuned(origin, "aÉx" * 60, config, tmp_path)
    (old,), (table,) = origin.weights.values(), start.weights.values()
    assert start.tokenizer.alphabet == "axÉ"
    assert table[[0, 2]][:, [0, 2]].tolist() == old[[1, 0]][:, [1, 0]].tolist()  # aÉ from aE
    assert old.min() - 3 < table.min() <= table.max() < old.max() + 3


def test_all_but_the_characters_rows_is_the_origins(toy_config: Config, tmp_path: Path) -> None:
    origin = model_of("abcdef", toy_config, tmp_path)
    before = {name: tensor.clone() for name, tensor in origin.weights.items()}
    start, _ = tuned(origin, "abxyz" * 60, toy_config, tmp_path)
    assert start.weights.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(origin.weights[name], tensor), f"{name} of the origin was changed"
        assert name in ROWS or torch.equal(start.weights[name], tensor), name


def test_the_seed_draws_the_rows(toy_config: Config, tmp_path: Path) -> None:
    origin = model_of("abcdef", toy_config, tmp_path)
    rows = [
        row(tuned(origin, "xyz" * 60, config, tmp_path)[0], ROWS[0], "x")
        for seed in (5, 5, 6)
        for config in [overridden(toy_config, {"train.seed": seed})]
    ]
    assert rows[0] == rows[1] != rows[2]


# --- the config --------------------------------------------------------------------------------


def test_the_share_of_the_character_before_is_the_origins(
    toy_config: Config, tmp_path: Path
) -> None:
    origin = model_of("abc", overridden(toy_config, {"model.token_shift": True}), tmp_path)
    start, _ = tuned(origin, "abcd" * 60, toy_config, tmp_path)
    assert torch.equal(start.weights["token_shift"], origin.weights["token_shift"])
    start.make_model()


def test_the_architecture_is_the_origins_but_for_the_dropout(
    toy_config: Config, toy_corpus: Corpus
) -> None:
    origin = fresh(toy_config, toy_corpus)
    keys = {"model.n_layer": 1, "model.dropout": 0.2, "train.seed": 3, "train.lr_scale": 0.7}
    other = overridden(toy_config, keys)
    said: list[str] = []
    config = fine_tuning_config(origin, other, said.append)
    assert config.model == overridden(toy_config, {"model.dropout": 0.2}).model
    assert config.train == other.train
    assert said == ["the model is the run's, not the config's: n_layer 2 instead of 1"]


@pytest.mark.parametrize(("given", "taken"), [(None, LR_SCALE), (1.0, 1.0), (0.02, 0.02)])
def test_the_rates_are_lower_unless_the_config_says_how_low(
    toy_config: Config, toy_corpus: Corpus, given: float | None, taken: float
) -> None:
    config = overridden(toy_config, {"train.lr_scale": given})
    found = fine_tuning_config(fresh(toy_config, toy_corpus), config, pytest.fail)
    assert found.train.lr_scale == taken


# --- what is said ------------------------------------------------------------------------------


def test_what_is_kept_dropped_and_new_is_named(toy_config: Config, tmp_path: Path) -> None:
    origin = model_of("abc \nE", toy_config, tmp_path)
    _, said = tuned(origin, "abcabcÉ." * 50, toy_config, tmp_path)
    assert said.splitlines() == [
        "fine-tuning a model of step 0: it keeps 3 of its 6 characters; "
        "the text lacks the line end, the space, E",
        "new to it: 2 characters, 25.0% of the text: ., É (begins as E)",
        f"both learning rates are times {LR_SCALE} (train.lr_scale): "
        "lower forgets less of what the model knew",
    ]


def test_names_are_few_however_many_characters_are_new(toy_config: Config, tmp_path: Path) -> None:
    origin = model_of(MANY, toy_config, tmp_path)
    _, said = tuned(origin, "".join(map(chr, range(0x400, 0x500))) * 5, toy_config, tmp_path)
    assert "new to it: 256 characters, 100.0% of the text" in said
    assert max(map(len, said.splitlines())) < 160


def test_the_same_alphabet_needs_no_names(toy_config: Config, tmp_path: Path) -> None:
    _, said = tuned(model_of("abc", toy_config, tmp_path), "cab" * 60, toy_config, tmp_path)
    first, second = said.splitlines()
    assert first == "fine-tuning a model of step 0: it keeps all 3 characters"
    assert second.startswith("both learning rates")


@pytest.mark.parametrize(
    ("text", "is_offered"), [("abcdxy", False), ("abxyz", True), ("abCÁBé", False)]
)
def test_training_from_scratch_is_offered_where_most_of_the_text_is_new(
    toy_config: Config, tmp_path: Path, text: str, is_offered: bool
) -> None:
    """By frequency: of the alphabet, most is new in each text. Look-alikes are not that new."""
    origin = model_of("abcde", toy_config, tmp_path)
    rare = "".join(map(chr, range(0x400, 0x420)))
    _, said = tuned(origin, text * 100 + rare, toy_config, tmp_path)
    assert ("leave out --init-from" in said) == is_offered
