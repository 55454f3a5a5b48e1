"""Each change changes one thing; the numbers are those logged, and the answers follow them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from changes import (
    Change,
    changed_model,
    identity_value,
    no_mask,
    no_scale,
    query_is_key,
    unchanged,
    uniform,
)
from heads import FOUR, ONE, PLACES, answer_heads, looking_back
from mask import MASK, NO_MASK, answer_mask, cheating
from measures import Subject, by_distance, parameters, write
from question import differ
from scale import SIZES, answer_scale, divided, saturation, undivided
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from training import train
from value import WHOLE, answer_value
from why import QUESTIONS, main

from gpt import paths
from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.errors import Exit, Mistake
from gpt.evaluate import exact_loss
from gpt.explorer.listing import runs_in
from gpt.model import GPT
from gpt.storage.run_directory import newest_run
from gpt.training.event_file import SessionWriter
from gpt.training.run import train_new

V = 11


@pytest.fixture
def heads() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v and x (2, 3, 6, 4)."""
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 3, 6, 4, generator=draw) for _ in range(4))  # type: ignore[return-value]


def subject(config: Config, corpus: Corpus, change: Change = unchanged) -> Subject:
    return Subject(changed_model(config, len(corpus.tokenizer), change), corpus, config)


# --- one thing is changed ----------------------------------------------------------------------


def test_unchanged_is_the_models_own_attention(toy_config: Config) -> None:
    torch.manual_seed(toy_config.train.seed)
    ordinary, tokens = GPT(toy_config.model, V), torch.arange(16).view(2, 8) % V
    model = changed_model(toy_config, V, unchanged)
    torch.testing.assert_close(model(tokens), ordinary(tokens))


def test_without_the_division_scores_are_larger_by_the_root(heads: Any) -> None:
    ordinary, larger = (change(*heads)[1].log() for change in (unchanged, no_scale))
    spread, theirs = (log[..., 1:, :2].diff().squeeze(-1) for log in (ordinary, larger))
    torch.testing.assert_close(theirs, 2 * spread)  # a difference of two scores; the root of 4


@pytest.mark.parametrize(("change", "sees"), [(unchanged, False), (no_mask, True)])
def test_only_without_the_mask_the_next_character_matters(
    toy_config: Config, change: Change, sees: bool
) -> None:
    model = changed_model(toy_config, V, change)
    tokens = torch.zeros(1, 8, dtype=torch.long)
    other = tokens.clone()
    other[0, 5] = 3
    changed = (model(tokens) != model(other)).any(-1)[0]
    assert changed[4] == sees
    assert changed[5]


def test_without_the_mask_all_else_is_the_same(heads: Any) -> None:
    q, k, v, x = heads
    _, weights = no_mask(q, k, v, x)
    past = weights.tril()
    torch.testing.assert_close(past / past.sum(-1, keepdim=True), unchanged(q, k, v, x)[1])


def test_the_identity_as_value_mixes_x_itself(heads: Any) -> None:
    out, weights = identity_value(*heads)
    assert torch.equal(weights, unchanged(*heads)[1])
    torch.testing.assert_close(out, weights @ heads[3])


def test_query_is_key_makes_the_scores_symmetric(heads: Any) -> None:
    q, k, v, x = heads
    out, weights = query_is_key(q, k, v, x)
    torch.testing.assert_close(weights, unchanged(k, k, v, x)[1])
    torch.testing.assert_close(out, weights @ v)


def test_uniform_weights_are_a_mean_of_the_past(heads: Any) -> None:
    out, weights = uniform(*heads)
    torch.testing.assert_close(weights[0, 0], torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None])
    torch.testing.assert_close(out, weights @ heads[2])


@pytest.mark.parametrize("name", QUESTIONS)
def test_variants_start_alike_and_read_the_same_text(name: str) -> None:
    question = QUESTIONS[name]
    starts: dict[str, list[Tensor]] = {}
    for variant in question.variants:
        config = question.config(variant, {})
        start = [config.train, config.data, config.model.model_copy(update={"n_head": 1})]
        starts.setdefault(variant.rung, start)
        assert starts[variant.rung] == start
    assert question.config(question.variants[0], {}, 2).train.seed == 1339


# --- the training and the measures -------------------------------------------------------------


def test_training_is_that_of_train_py(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path
) -> None:
    toy_config = overridden(toy_config, {"train.grad_clip": 0.0})  # as in configs/ladder/
    train_new(overridden(toy_config, {"run.dir": str(tmp_path / "run")}), "toy")
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    writer = SessionWriter(tmp_path, purge_step=0)
    losses = train(subject(toy_config, toy_corpus), writer)
    writer.events.close()
    assert losses == pytest.approx([row["train_loss"] for row in rows if row["step"]], abs=1e-5)


def test_uniform_attention_has_all_of_its_entropy(toy_config: Config, toy_corpus: Corpus) -> None:
    assert saturation(subject(toy_config, toy_corpus, uniform))["entropy"] == pytest.approx(1)
    some = saturation(subject(toy_config, toy_corpus))
    assert 0 < some["entropy"] < 1
    assert some["gradient"] > 0


def test_parameters_in_use_are_those_with_a_gradient(
    toy_config: Config, toy_corpus: Corpus
) -> None:
    counts = [
        parameters(subject(toy_config, toy_corpus, change))["parameters"]
        for change in (unchanged, identity_value, query_is_key, uniform)
    ]
    matrices = toy_config.model.n_layer * toy_config.model.n_embd**2
    assert [counts[0] - count for count in counts] == [0, matrices, matrices, 2 * matrices]


def test_with_a_mask_the_future_is_worth_nothing(toy_config: Config, toy_corpus: Corpus) -> None:
    one = subject(toy_config, toy_corpus)
    found, size = cheating(one), toy_config.model.block_size
    whole = toy_corpus.val_ids[: (len(toy_corpus.val_ids) - 1) // size * size + 1]
    assert found["writing_loss"] == pytest.approx(exact_loss(one.model, whole), abs=1e-5)
    assert found["next"] == 0
    seeing = cheating(subject(toy_config, toy_corpus, no_mask))
    assert seeing["writing_loss"] != pytest.approx(seeing["val_loss"], abs=1e-5)
    assert 0 < seeing["next"] < 1


def test_uniform_attention_looks_back_half_of_the_text(
    toy_config: Config, toy_corpus: Corpus
) -> None:
    one = subject(toy_config, toy_corpus, uniform)
    found = looking_back(one)
    assert found["nearest"] == pytest.approx(np.mean([t / 2 for t in range(8)]))
    assert found["nearest"] == pytest.approx(found["farthest"])
    assert by_distance(one)[7].tolist() == pytest.approx([1 / 8, 1 / 8])


def test_a_text_is_written_by_the_changed_model(toy_config: Config, toy_corpus: Corpus) -> None:
    """The first character has no past and no future; from the second on the change matters."""
    config = overridden(toy_config, {"model.init_std": 1.0})
    ordinary, changed = (
        write(subject(config, toy_corpus, change), 40) for change in (unchanged, uniform)
    )
    assert 30 < len(ordinary) <= 41
    assert ordinary != changed


# --- the answers -------------------------------------------------------------------------------


def scale(sharp: list[float], gradient: float, cost: float) -> str:
    rows: dict[str, dict[str, list[float]]] = {}
    for size, sharpness in zip(SIZES, sharp, strict=True):
        for name, entropy, growth, loss in (
            (divided, 0.97, 1.0, 2.0),
            (undivided, sharpness, gradient, 2.0 + cost),
        ):
            seeds = {"entropy": [entropy, entropy + 0.01], "val_loss": [loss, loss + 0.01]}
            rows[name(size)] = {**seeds, "gradient": [growth]}
    return answer_scale(rows)


def test_the_answer_on_the_scale_follows_the_numbers() -> None:
    found = scale(sharp=[0.3, 0.4, 0.3], gradient=8.0, cost=0.2)
    assert "the softmax starts saturated: at head_size 8, 32 and 128" in found
    assert "8.0 times as large, less than the 11.3" in found
    assert "changes by +0.200, +0.200 and +0.200 nats" in found
    rising = scale(sharp=[0.9, 0.6, 0.3], gradient=8.0, cost=0.2)
    assert "starts saturated, the more the larger the head: " in rising
    assert "have 90%, 60% and 30% of" in rising
    other = scale(sharp=[0.99, 0.98, 0.97], gradient=12.0, cost=0.005)
    assert "the softmax does not start saturated" in other
    assert "12.0 times as large, not less than" in other
    assert "+0.005 (within the seeds' spread)" in other


def test_the_answer_on_the_mask_follows_the_numbers() -> None:
    honest = {"val_loss": [2.1, 2.2], "writing_loss": [2.1, 2.2], "next": [0.0]}

    def answer(seeing: float, writing: float) -> str:
        row = {"val_loss": [seeing], "writing_loss": [writing], "next": [0.7]}
        return answer_mask({MASK: honest, NO_MASK: row})

    cheats = answer(0.1, 5.0)
    assert cheats.startswith("Without the mask the model cheats: 70% of layer 1's attention")
    assert "0.10 nats instead of 2.15" in cheats
    assert "5.00 instead of 2.15 when it writes" in cheats
    for seeing, writing in ((2.15, 5.0), (0.1, 2.0)):
        assert answer(seeing, writing).startswith("These runs do not show that the model cheats")


def test_the_answer_on_the_value_follows_the_numbers() -> None:
    def answer(identity: float, uniform: float) -> str:
        rows = {WHOLE: 2.0, "V as the identity": identity, "uniform weights": uniform}
        return answer_value({k: {"val_loss": [x, x + 0.01]} for k, x in rows.items()})

    assert "the dearest is uniform weights" in answer(2.1, 2.3)
    assert "the dearest is V as the identity" in answer(2.3, 2.1)
    assert "+0.100 with V as the identity and +0.300 with uniform weights" in answer(2.1, 2.3)
    for close in (answer(2.3, 2.295), answer(1.9, 1.8)):
        assert "none is shown to be the dearest" in close


def test_the_answer_on_the_heads_follows_the_numbers() -> None:
    def row(loss: float) -> dict[str, list[float]]:
        return {"val_loss": [loss, loss + 0.01], "nearest": [1.0], "farthest": [4.0]}

    one, three = PLACES
    losses = {
        (one, ONE): 2.4,
        (one, FOUR): 2.3,
        (three, ONE): 2.2,
        (three, FOUR): 2.205,
    }
    answer = answer_heads({f"{a}, {b}": row(loss) for (a, b), loss in losses.items()})
    assert f"-0.100 in {one} and +0.005 (within the seeds' spread) in {three}" in answer
    assert "1.0 characters on average, the four 1.0 to 4.0" in answer


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_table_shows_what_is_logged(
    name: str, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [name, "--steps", "2", "--seeds", "1", "--data.text", str(text_file)]
    assert main(argv) == Exit.DONE
    shown = capsys.readouterr()
    folder, question = paths.RUNS / "why" / name, QUESTIONS[name]
    rows = [line.split("|")[1:-1] for line in shown.out.splitlines() if line.startswith("| ")][2:]
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    assert len(folders) == len(rows) == len(question.variants)
    for variant, row in zip(question.variants, rows, strict=True):
        slug = re.sub("[^a-z0-9]+", "-", variant.name.lower())
        events = EventAccumulator(str(folder / f"{slug}-1337"))
        events.Reload()
        assert row[0].strip() == variant.name
        for cell, (key, (_, form)) in zip(row[1:], question.columns.items(), strict=True):
            (logged,) = events.Scalars(f"why/{key}")
            assert cell.strip() == f"{logged.value:{form}}"
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "With one seed: " in shown.out
    assert f"{name}.png" in shown.err


def test_an_earlier_answer_is_not_shown(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.LOG_EVERY", 1)
    for steps in ("3", "2"):
        main(["heads", "--steps", steps, "--seeds", "1", "--data.text", str(text_file)])
    events = EventAccumulator(str(paths.RUNS / "why/heads/one-layer-one-head-of-32-1337"))
    events.Reload()
    assert [event.step for event in events.Scalars("why/training")] == [1, 2]


def test_what_is_found_is_no_run_to_sample_from(text_file: Path) -> None:
    main(["heads", "--steps", "1", "--seeds", "1", "--data.text", str(text_file)])
    assert not runs_in(paths.RUNS)
    with pytest.raises(Mistake, match="no run with a checkpoint"):
        newest_run()


def test_a_question_that_nobody_asks_is_refused() -> None:
    with pytest.raises(Mistake, match="sale") as caught:
        main(["sale"])
    assert caught.value.exit_code == Exit.USAGE


def test_a_difference_is_more_than_the_spread_of_the_seeds() -> None:
    assert not differ([1, 2], [2, 3])
    assert differ([1, 2], [2.1, 3])
    assert differ([2.1, 3], [1, 2])
