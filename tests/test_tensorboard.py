"""What TensorBoard shows of a run, read back from its event file."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged_runs import rows, trained
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.optim import lr_factor
from gpt.storage.run_directory import checkpoints_of
from gpt.training.run import resume
from gpt.training.tensorboard import fenced


def board(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def steps(run: Path, tag: str) -> list[int]:
    return [event.step for event in board(run).Scalars(tag)]


def test_it_shows_the_rows(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, sample_chars=30)
    found = rows(run)
    for tag, key in {"loss/train": "train_loss", "loss/val": "val_loss"}.items():
        events = {event.step: event.value for event in board(run).Scalars(tag)}
        expected = {row["step"]: row[key] for row in found if key in row}
        assert events == pytest.approx(expected, rel=1e-6)


def test_it_shows_samples_in_the_alphabet(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, sample_chars=30)
    shown = board(run)
    (tag,) = [tag for tag in shown.Tags()["tensors"] if tag.startswith("sample")]
    samples = [event.tensor_proto.string_val[0].decode() for event in shown.Tensors(tag)]
    alphabet = set(Path(str(toy_config.data.text)).read_text())
    assert len(samples) == 3
    for sample in samples:
        lines = sample.split("\n")
        assert all(line.startswith("    ") for line in lines), "Markdown would fold it"
        text = "\n".join(line[4:] for line in lines)
        assert set(text) <= alphabet
        assert len(text.rstrip("\n")) <= 30


def test_it_shows_a_picture_of_each_layer(toy_config: Config, tmp_path: Path) -> None:
    shown = board(trained(toy_config, tmp_path / "run", tensorboard=True))
    layers = [f"attention/layer {n + 1}" for n in range(toy_config.model.n_layer)]
    assert shown.Tags()["images"] == layers
    for tag in layers:
        for event in shown.Images(tag):
            pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
            assert pixels.shape == (event.height, event.width, 3)
            assert len(np.unique(pixels)) > 10, "a picture of one colour"


def test_it_has_each_step_once_after_a_resume(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, sample_chars=3)
    for path in checkpoints_of(run):
        if path.name == "step-000006":
            path.rename(tmp_path / "lost")
    assert resume(run, lambda config: config) == 0
    assert steps(run, "loss/train") == [1, 2, 3, 4, 5, 6]
    assert steps(run, "loss/val") == [0, 3, 6]


def test_nothing_known_in_probe_or_prompt(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path
) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, probe="€", sample_prompt="€")
    assert len(rows(run)) == 7


def test_it_shows_the_learning_rate_of_each_optimizer(toy_config: Config, tmp_path: Path) -> None:
    keys = {
        "train.optimizer": "muon",
        "train.learning_rate": 0.01,
        "train.muon_learning_rate": 0.03,
    }
    run = trained(overridden(toy_config, keys), tmp_path / "run", tensorboard=True)
    for key, peak in (("learning_rate", 0.01), ("muon_learning_rate", 0.03)):
        expected = [peak * lr_factor(step, toy_config.train) for step in range(6)]
        assert [row[key] for row in rows(run)[1:]] == expected
        shown = [event.value for event in board(run).Scalars(f"training/{key}")]
        assert shown == pytest.approx(expected, rel=1e-6)
    assert "muon_learning_rate" not in rows(trained(toy_config, tmp_path / "adamw"))[0]


@given(st.text("a`*#<\n\t ", max_size=30))
def test_a_code_block_keeps_every_character(text: str) -> None:
    lines = fenced(text).split("\n")
    assert all(line.startswith("    ") for line in lines)
    assert "\n".join(line[4:] for line in lines) == text
