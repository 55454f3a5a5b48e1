"""How a session ends: its last lines, and one JSON object for scripts."""

import json
import os
import shlex
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from gpt.command.config_file import overridden, to_yaml
from gpt.config import Config
from gpt.errors import Exit, Mistake
from gpt.storage.checkpoint import Progress
from gpt.storage.find import load_last
from gpt.training.ending import last_lines
from gpt.training.meaning import Counted, Course, Evaluation
from gpt.training.monitor import Monitor
from gpt.training.run import resume, train_new

RUN = Path("/tmp/my runs/a b")
PROGRESS = Progress(step=900, val_loss=2.6, best_val_loss=2.5, best_step=20)


def lines(config: Config, last: Evaluation, counted: Counted | None = None) -> list[str]:
    course = Course([], Progress())
    course.add(Evaluation(20, 2.5, 2.4, "\nAy me!\nSoft\x1b[2J\n"))
    course.add(last)
    return list(last_lines(RUN, config, PROGRESS, course, counted))


def test_the_sample_is_the_best_models_and_holds_no_control_characters(toy_config: Config) -> None:
    said = lines(toy_config, Evaluation(900, 2.6, 0.1, "the last one's"))
    assert said[:3] == ["step 20 writes:", "  | Ay me!", "  | Soft▯[2J"]


@pytest.mark.parametrize(
    ("last", "counted", "verdict"),
    [
        (
            Evaluation(900, 2.6, 0.1),
            Counted(3, 2.4),
            "; worse than counted 3-grams, 2.4000; after it the model learned by heart",
        ),
        (
            Evaluation(900, 2.51, 2.3),
            Counted(6, 2.6),
            "; better than counted 6-grams, 2.6000; no sign of learning by heart",
        ),
        (Evaluation(900, 2.51, 2.3), None, "; no sign of learning by heart"),
    ],
)
def test_the_verdict_is_what_is_known_without_the_judge(
    toy_config: Config, last: Evaluation, counted: Counted | None, verdict: str
) -> None:
    said = lines(toy_config, last, counted)
    loss = "best val loss 2.5000 nats = 3.6067 bits per character (step 20)"
    assert f"{loss}{verdict}" in said


@pytest.mark.parametrize("on", [True, False])
def test_three_commands_go_on(toy_config: Config, on: bool) -> None:
    config = overridden(toy_config, {"log.tensorboard": on})
    said = lines(config, Evaluation(900, 2.6, 0.1))
    look = ["tensorboard", "--logdir", str(RUN.parent)]
    page = ["python", "scripts/explore.py", str(RUN), "--out", "attention.html"]
    assert [shlex.split(line) for line in said[-3:]] == [
        ["python", "sample.py", "--run", str(RUN)],
        look if on else page,
        ["python", "scripts/evaluate.py", str(RUN)],
    ]


# --- --json ------------------------------------------------------------------------------------


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line of stdout."""
    out, _ = capsys.readouterr()
    (line,) = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_finished_run_gives_one_object(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = overridden(toy_config, {"run.dir": str(run)})
    assert train_new(config, "toy", json_result=True) == Exit.DONE
    found = result(capsys)
    saved = load_last(run, pytest.fail)
    progress = saved.progress
    assert found.pop("seconds") == pytest.approx(progress.elapsed_seconds, abs=0.001)
    assert found.pop("best_val_bits_per_char") == pytest.approx(
        float(torch.tensor(progress.best_val_loss).double() / torch.tensor(2.0).double().log())
    )
    assert found == {
        "run": str(run),
        "step": 6,
        "val_loss": progress.val_loss,
        "best_step": progress.best_step,
        "best_val_loss": progress.best_val_loss,
        "parameters": sum(tensor.numel() for tensor in saved.weights.values()),
        "ended_by": "max_steps",
    }


def test_stopped_and_resumed_runs_give_one_too(
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    advance, run = Monitor.advance, tmp_path / "run"

    def then_stop(self: Monitor, loss: torch.Tensor) -> None:
        advance(self, loss)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "advance", then_stop)
        config = overridden(toy_config, {"run.dir": str(run)})
        assert train_new(config, "toy", json_result=True) == Exit.SIGTERM
    stopped = result(capsys)
    assert (stopped["step"], stopped["ended_by"], stopped["val_loss"]) == (1, "SIGTERM", None)
    change = partial(overridden, overrides={"train.target_val_loss": 9.0})
    assert resume(run, change, json_result=True) == Exit.DONE
    ended = result(capsys)
    assert (ended["step"], ended["best_step"], ended["ended_by"]) == (1, 0, "target_val_loss")


def test_without_the_flag_stdout_is_empty(
    toy_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    train_new(toy_config, "toy")
    assert capsys.readouterr().out == ""


def test_the_command_prints_the_object_last_for_a_resumed_run_too(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.yaml").write_text(to_yaml(toy_config), "utf-8")
    run = str(tmp_path / "run")
    argv = ["--config", str(tmp_path / "toy.yaml"), "--run.dir", run]
    assert train.main([*argv, "--json"]) == Exit.DONE
    assert result(capsys)["run"] == run
    assert train.main(["--resume", run, "--json"]) == Exit.DONE
    assert result(capsys)["step"] == 6


@pytest.mark.parametrize("flag", ["--dry-run", "--print-config"])
def test_there_is_no_object_where_nothing_is_trained(flag: str) -> None:
    with pytest.raises(Mistake, match="--json is for a training") as caught:
        train.main(["--config", "debug.yaml", "--json", flag])
    assert caught.value.exit_code == Exit.USAGE
