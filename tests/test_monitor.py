"""What is written while training: metrics.jsonl and TensorBoard's events, read back."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt.command.config_file import overridden
from gpt.command.process import process_seconds
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.storage.run_directory import checkpoints_of
from gpt.training.monitor import Monitor
from gpt.training.run import resume, train_new


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def trained(config: Config, run: Path, **log: Any) -> Path:
    keys = {f"log.{key}": value for key, value in log.items()}
    assert train_new(overridden(config, {**keys, "run.dir": str(run)}), "toy") == 0
    return run


def board(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def steps(run: Path, tag: str) -> list[int]:
    return [event.step for event in board(run).Scalars(tag)]


def test_a_row_for_each_logged_step(toy_config: Config, tmp_path: Path) -> None:
    found = rows(trained(toy_config, tmp_path / "run"))
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    keys = {"step", "elapsed_seconds", "train_loss", "lr", "grad_norm", "chars_per_second"}
    for row in found:
        assert keys <= row.keys()
        assert ("val_loss" in row) is (row["step"] in (3, 6))
        if "val_loss" in row:
            assert row["val_bits_per_char"] == pytest.approx(row["val_loss"] / math.log(2))
    elapsed = [row["elapsed_seconds"] for row in found]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0


def test_a_resume_drops_what_was_logged_after_the_checkpoint(
    toy_config: Config, tmp_path: Path
) -> None:
    run = trained(toy_config, tmp_path / "run", save_every=3)
    before = rows(run)
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(lines + b'{"step": 7, "train')  # torn by a kill
    for path in checkpoints_of(run):
        if path.name == "step-000006":
            path.rename(tmp_path / "lost")
    assert resume(run, lambda config: config) == 0
    after = rows(run)
    assert [row["step"] for row in after] == [1, 2, 3, 4, 5, 6]
    assert after[:3] == before[:3]
    assert [row["train_loss"] for row in after] == [row["train_loss"] for row in before]
    assert after[3]["elapsed_seconds"] >= before[2]["elapsed_seconds"]


def test_elapsed_seconds_count_from_the_start_of_the_process() -> None:
    code = (
        "import time; time.sleep(0.5); "
        "from gpt.command.process import process_seconds as p; print(p())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 60
    assert process_seconds() > 0


def test_tensorboard_shows_the_rows(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, sample_chars=30)
    found = rows(run)
    for tag, key in {"loss/train": "train_loss", "loss/val": "val_loss"}.items():
        events = {event.step: event.value for event in board(run).Scalars(tag)}
        expected = {row["step"]: row[key] for row in found if key in row}
        assert events == pytest.approx(expected, rel=1e-6)


def test_tensorboard_shows_samples_in_the_alphabet(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, sample_chars=30)
    shown = board(run)
    (tag,) = [tag for tag in shown.Tags()["tensors"] if tag.startswith("sample")]
    samples = [event.tensor_proto.string_val[0].decode() for event in shown.Tensors(tag)]
    alphabet = set(Path(str(toy_config.data.text)).read_text())
    assert len(samples) == 2
    for sample in samples:
        lines = sample.split("\n")
        assert all(line.startswith("    ") for line in lines), "Markdown would fold it"
        text = "\n".join(line[4:] for line in lines)
        assert set(text) <= alphabet
        assert len(text.rstrip("\n")) <= 30


def test_tensorboard_shows_a_picture_of_each_layer(toy_config: Config, tmp_path: Path) -> None:
    shown = board(trained(toy_config, tmp_path / "run", tensorboard=True))
    layers = [f"attention/layer {n + 1}" for n in range(toy_config.model.n_layer)]
    assert shown.Tags()["images"] == layers
    for tag in layers:
        for event in shown.Images(tag):
            pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
            assert pixels.shape == (event.height, event.width, 3)
            assert len(np.unique(pixels)) > 10, "a picture of one colour"


def test_tensorboard_has_each_step_once_after_a_resume(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, sample_chars=3)
    for path in checkpoints_of(run):
        if path.name == "step-000006":
            path.rename(tmp_path / "lost")
    assert resume(run, lambda config: config) == 0
    assert steps(run, "loss/train") == [1, 2, 3, 4, 5, 6]
    assert steps(run, "loss/val") == [3, 6]


def test_nothing_known_in_probe_or_prompt(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path
) -> None:
    run = trained(toy_config, tmp_path / "run", tensorboard=True, probe="€", sample_prompt="€")
    assert len(rows(run)) == 6


def test_without_tensorboard_no_events_are_written(toy_config: Config, tmp_path: Path) -> None:
    run = trained(toy_config, tmp_path / "run")
    assert not list(run.glob("events*"))
    assert {path.name for path in run.iterdir()} - {".lock"} == {
        "config.yaml", "metrics.jsonl", "checkpoints", "best", "last",
    }  # fmt: skip


def test_it_says_the_loss_in_both_units(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").touch()
    with Monitor(tmp_path, toy_config, CharTokenizer("ab"), 0) as monitor:
        monitor.log({"step": 5, "train_loss": 1.0, "val_loss": math.log(2)})
    out, err = capsys.readouterr()
    assert out == ""
    assert "step      5  val loss 0.6931 nats = 1.0000 bits per character" in err
