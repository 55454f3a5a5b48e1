"""What a run says before it begins and when it has ended."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import train
from gpt import paths
from gpt.command.config_file import load_config, overridden, to_yaml
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.shares import split_at
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.paths import CONFIGS
from gpt.training.run import _warn_of_long_evaluations, resume, train_new
from gpt.training.speed import Speed


def text_of(length: int, val_fraction: float) -> Corpus:
    """A corpus of so many characters that takes no memory."""
    ids = np.broadcast_to(np.uint8(0), (length,))
    return Corpus("vast", CharTokenizer("ab"), ids, "", split_at(length, val_fraction))


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_config_evaluates_for_long_on_its_own_corpus(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(path)
    _warn_of_long_evaluations(config, text_of(1_115_774, config.data.val_fraction))
    assert capsys.readouterr().err == ""


@given(
    st.integers(10**7, 10**12),
    st.floats(0.1, 0.99),
    st.integers(1, 1000),
    st.integers(1, 10**4),
    st.integers(1, 64),
)
def test_long_evaluations_are_foreseen_and_the_fix_is_one(
    length: int, val_fraction: float, eval_every: int, max_steps: int, batch_size: int
) -> None:
    config = Config.model_validate(
        {
            "model": {"block_size": 128},
            "train": {"max_steps": max_steps, "batch_size": batch_size},
            "log": {"eval_every": eval_every},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("gpt.training.run.say", said.append)
        made = text_of(length, val_fraction)
        _warn_of_long_evaluations(config, made)
        trained = min(eval_every, max_steps) * batch_size * 128
        assert bool(said) == (len(made.val_ids) > 3 * max(trained, 100_000))
        if said:
            assert f"all {len(made.val_ids):,} characters" in said[0]
            (fraction,) = map(float, re.findall(r"--data.val_fraction (\S+)", said.pop()))
            assert fraction < val_fraction
            fewer = text_of(length, fraction)
            assert len(fewer.val_ids) > 50_000
            _warn_of_long_evaluations(config, fewer)
            assert not said


@pytest.mark.parametrize("on", [True, False])
def test_tensorboard_is_advised_where_the_run_writes_for_it(
    toy_config: Config, tmp_path: Path, on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"run.dir": str(tmp_path / "run"), "log.tensorboard": on, "train.max_steps": 0}
    train_new(overridden(toy_config, keys), "toy")
    assert ("tensorboard --logdir" in capsys.readouterr().err) == on


@pytest.mark.parametrize(
    ("keys", "step", "way_on"),
    [
        ({}, 6, "raise --train.max_steps"),
        ({"train.target_val_loss": 9.0}, 0, "lower --train.target_val_loss"),
        ({"train.patience": 1, "train.learning_rate": 1e-30}, 3, "raise --train.patience"),
    ],
)
def test_a_run_that_has_finished_says_so_and_how_it_can_go_on(
    toy_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, Any],
    step: int,
    way_on: str,
) -> None:
    longer = {"train.max_steps": 30} if "train.patience" in keys else {}
    keys = {"run.dir": str(tmp_path / "run"), **keys, **longer}
    train_new(overridden(toy_config, keys), "toy")
    before = tree(tmp_path / "run")
    assert "finished at" not in capsys.readouterr().err
    assert resume(tmp_path / "run", lambda config: config) == Exit.DONE
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"finished at step {step}; {way_on} to go on"
    assert not [line for line in lines if "sample.py" in line or "best val loss" in line]
    assert tree(tmp_path / "run").items() >= before.items()


def tree(run: Path) -> dict[Path, bytes]:
    """Every file of a run but its lock."""
    found = (path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


# --- the report --------------------------------------------------------------------------------


def test_a_dry_run_stops_after_the_report_and_the_config(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.yaml").write_text(to_yaml(toy_config), "utf-8")
    assert train.main(["--config", str(tmp_path / "toy.yaml"), "--dry-run"]) == Exit.DONE
    out, err = capsys.readouterr()
    assert Config.model_validate(yaml.safe_load(out)) == toy_config
    lines = err.splitlines()
    assert lines[1].startswith("verse.txt: 1,500 characters, 36 distinct, 120 lines; the last 150 ")
    model = r"model: [\d,]+ parameters; cpu \(1 thread\), fp32; about \d+\.\d\d GiB of memory for "
    assert any(re.match(model, line) for line in lines)
    assert lines[-1].startswith("the 1,350 characters for training are read 0.1 times: too seldom")
    assert not paths.RUNS.exists()


def test_a_training_says_what_its_dry_run_says(
    toy_config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.training.run.measured", lambda *_: Speed(0.01, 0.5, 0.001))
    monkeypatch.setattr("gpt.training.run.process_seconds", lambda: 3.0)
    train_new(toy_config, "toy", dry_run=True)
    preparing, *report = capsys.readouterr().err.splitlines()
    assert preparing.startswith("preparing verse.txt")
    train_new(toy_config, "toy")
    said = capsys.readouterr().err.splitlines()
    assert said[: len(report)] == report
    assert "time: about 8.4 s; 6 steps of 820 ms, 3 evaluations" in report
    assert "took 3.0 s; 8.4 s were expected" in said


def test_of_3_kb_it_is_said_plainly_what_to_expect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "little.txt").write_text("".join(f"{n} bottles of beer\n" for n in range(160)))
    argv = ["--config", "tiny.yaml", "--data.text", str(tmp_path / "little.txt"), "--dry-run"]
    assert train.main([*argv, "--device", "cpu"]) == Exit.DONE
    last = capsys.readouterr().err.splitlines()[-1]
    assert "times: soon learned by heart; expect the text's own words and lines" in last


def test_a_dry_run_does_not_go_with_resume() -> None:
    with pytest.raises(Mistake, match="--resume uses the run's own config") as caught:
        train.main(["--resume", "run", "--dry-run"])
    assert "--dry-run" in caught.value.fix
