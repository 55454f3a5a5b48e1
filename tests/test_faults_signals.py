"""Signals, other processes, numbers that are not finite: G4, G9, G11 and G12."""

import fcntl
import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attention_models import write_on
from faults import (
    ROOT,
    Workshop,
    differences,
    outcome,
    sample_command,
    train_command,
    wait_for,
    whole_checkpoints,
)

import gpt.data.shares
import gpt.evaluate
import gpt.files
import gpt.paths
import gpt.storage.checkpoint
import gpt.storage.find
import gpt.training.trainer
from gpt.config import ModelConfig
from gpt.errors import Mistake
from gpt.generation.generate import generate
from gpt.model import GPT
from gpt.storage.checkpoint import save_checkpoint
from gpt.storage.find import find_checkpoint, load_best, load_last
from gpt.storage.run_directory import checkpoints_of

FOREVER = ["--train.max_steps", "1000000000"]
NO_SAVES = ["--log.save_every", "1000000000", "--log.eval_every", "1000000000"]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path)
    shop.train_here(shop.fresh(tmp_path / "whole"))
    return shop


def until(condition: Callable[[], Any]) -> None:
    """Wait for another process to have done something."""
    for _ in range(60_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it did not happen")


def has_rows(run: Path, count: int = 3) -> Callable[[], bool]:
    metrics = run / "metrics.jsonl"
    return lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= count


# --- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_after_the_step_and_loses_none(
    shop: Workshop, number: int, code: int
) -> None:
    run = shop.folder / "run"
    argv = shop.fresh(run, *FOREVER, *NO_SAVES)
    child = shop.begin(train_command.main, argv)
    until(has_rows(run))
    os.kill(child, number)
    ended = shop.end(child)
    assert ended.code == code
    assert f"go on with: python train.py --resume {run}" in ended.output
    step = load_last(run, print).progress.step
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(step + 1))


def evaluate_for_ever() -> None:
    """The second evaluation, that after the second step, never ends by itself."""

    def endless(*args: Any) -> Any:
        if next(calls) == 1:
            return windows(*args)
        print("now it evaluates", flush=True)
        return itertools.cycle(windows(*args))

    calls = itertools.count(1)
    windows, gpt.evaluate.windows = gpt.evaluate.windows, endless


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_does_not_wait_for_an_evaluation_and_loses_no_step(
    shop: Workshop, number: int, code: int
) -> None:
    run = shop.folder / "run"
    argv = shop.fresh(run, "--log.save_every", "1000")
    child = shop.begin(train_command.main, argv, prepare=evaluate_for_ever)
    until(lambda: "now it evaluates" in (shop.folder / "output.txt").read_text())
    os.kill(child, number)
    assert shop.end(child).code == code
    assert load_last(run, pytest.fail).progress.step == 2
    assert shop.go_on(run, "--log.save_every", "1", "--exact").code == 0
    differing = differences(run, outcome(shop.folder / "whole"))
    assert [name for name in differing if "config" not in name] == []  # it holds run.dir


def without_reader() -> None:
    """stderr is a pipe whose reader is gone: each write to it raises EPIPE."""
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(read)


def on_a_full_disk() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def without_standard_files() -> None:
    """As `python train.py <&- >&- 2>&-` starts: no such files, and None instead of the streams."""
    for descriptor in range(3):
        os.close(descriptor)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]


@pytest.mark.parametrize("prepare", [without_reader, on_a_full_disk, without_standard_files])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_nothing_is_lost_where_no_message_can_be_written(
    shop: Workshop, prepare: Callable[[], None], number: int, code: int
) -> None:
    run = shop.folder / "run"
    child = shop.begin(train_command.main, shop.fresh(run, *FOREVER, *NO_SAVES), prepare=prepare)
    until(has_rows(run))
    os.kill(child, number)
    assert shop.end(child).code == code
    rows = (run / "metrics.jsonl").read_bytes().count(b"\n")
    assert load_last(run, print).progress.step == rows - 1  # that of step 0


def end_of_terminal(shop: Workshop, run: Path) -> int:
    """Train in a terminal whose window is closed; the exit code."""
    master, slave = pty.openpty()

    def in_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for descriptor in range(3):
            os.dup2(slave, descriptor)
        os.close(master)
        os.close(slave)

    argv = shop.fresh(run, *FOREVER, *NO_SAVES)
    child = shop.begin(train_command.main, argv, prepare=in_the_terminal)
    os.close(slave)
    until(has_rows(run))
    os.close(master)  # its session gets SIGHUP, and writes to the terminal raise EIO
    return wait_for(child)


def end_of_pipeline(shop: Workshop, run: Path) -> int:
    """Train with `2>&1 | tee log`, and Ctrl-C to both; the exit code."""

    def into_tee() -> None:
        os.setpgid(0, 0)
        tee = subprocess.Popen(
            ["tee", str(run.with_suffix(".log"))],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=can_be_interrupted,
        )  # fmt: skip
        assert tee.stdin
        os.dup2(tee.stdin.fileno(), 2)
        tee.stdin.close()

    child = shop.begin(train_command.main, shop.fresh(run, *FOREVER, *NO_SAVES), prepare=into_tee)
    until(has_rows(run))
    os.killpg(child, signal.SIGINT)
    return wait_for(child)


def can_be_interrupted() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def steps_lost(run: Path) -> int:
    rows = (run / "metrics.jsonl").read_bytes().count(b"\n")
    return rows - 1 - load_last(run, print).progress.step


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("ending", "code"), [(end_of_terminal, 129), (end_of_pipeline, 130)])
def test_a_terminal_or_pipeline_may_end(
    shop: Workshop, ending: Callable[[Workshop, Path], int], code: int, times: int
) -> None:
    for n in range(times):
        run = shop.folder / f"run-{n}"
        assert ending(shop, run) == code, (shop.folder / "output.txt").read_text()
        assert steps_lost(run) == 0


def slow_third_step() -> None:
    """And deaf to exceptions, as the start of a compiled module may be."""
    clip = gpt.training.trainer.Trainer._clip

    def slow(self: Any, loss: Any) -> None:
        if self.progress.step == 2:
            print("in the third step", flush=True)
            for _ in range(60_000):  # one long sleep might go on over a signal
                with suppress(BaseException):
                    time.sleep(0.001)
        clip(self, loss)

    gpt.training.trainer.Trainer._clip = slow  # type: ignore[method-assign]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_at_once(shop: Workshop, number: int, code: int) -> None:
    run = shop.folder / "run"
    child = shop.begin(train_command.main, shop.fresh(run), prepare=slow_third_step)
    output = shop.folder / "output.txt"
    until(lambda: "in the third step" in output.read_text())
    os.kill(child, number)
    until(lambda: "once more to stop at once" in output.read_text())
    os.kill(child, number)
    assert shop.end(child).code == code
    assert load_last(run, print).progress.step == 2
    assert shop.go_on(run).code == 0
    differing = differences(run, outcome(shop.folder / "whole"))
    assert [name for name in differing if "config" not in name] == []  # it holds run.dir


def test_nohup_is_respected(shop: Workshop) -> None:
    run = shop.folder / "run"
    child = shop.begin(
        train_command.main,
        shop.fresh(run, *FOREVER, *NO_SAVES),
        prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None,
    )
    until(has_rows(run))
    os.kill(child, signal.SIGHUP)
    until(has_rows(run, (run / "metrics.jsonl").read_bytes().count(b"\n") + 20))
    os.kill(child, signal.SIGTERM)
    assert shop.end(child).code == 143


def test_ctrl_c_while_starting(shop: Workshop) -> None:
    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    def prepare() -> None:
        gpt.data.shares.text_sha256 = interrupt  # type: ignore[assignment]

    ended = shop.train(shop.fresh(shop.folder / "run"), prepare=prepare)
    assert (ended.code, ended.output) == (130, "stopped\n")
    assert not (shop.folder / "run").exists()


STARTED = "gpt.errors"
IMPORTED = [
    *(
        STARTED,
        "yaml",
        "gpt.command.cli",
        "torch._C",
        "torch.nn",
        "torch",
        "gpt.storage.checkpoint",
    ),
    # by compiled code of torch's own, which takes an exception for a numpy that is not there
    *("numpy.version", "numpy._core.multiarray", "numpy._core.fromnumeric", "numpy._core.records"),
    *("numpy._core._internal", "numpy.linalg", "numpy.lib.format", "numpy.lib", "numpy"),
]


@pytest.mark.slow
@pytest.mark.parametrize("imported", IMPORTED)
@pytest.mark.parametrize("command", ["train.py", "sample.py"])
def test_ctrl_c_at_any_time_of_a_real_start(shop: Workshop, command: str, imported: str) -> None:
    argv = {
        "train.py": shop.fresh(shop.folder / "run", *FOREVER, *NO_SAVES),
        "sample.py": ["--run", str(shop.folder / "whole"), "--max-new-chars", "1000000000"],
    }[command]
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", str(ROOT / command), *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        while process.stderr.readline().split("|")[-1].strip() != imported:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 or imported == STARTED, error  # soon
    assert "Traceback" not in error or imported == STARTED


def test_ctrl_c_while_sampling(shop: Workshop) -> None:
    argv = ["--run", str(shop.folder / "whole"), "--max-new-chars", "1000000000"]
    child = shop.begin(sample_command.main, argv)
    output = shop.folder / "output.txt"
    until(lambda: output.exists() and output.stat().st_size > 100)
    os.kill(child, signal.SIGINT)
    ended = shop.end(child)
    assert ended.code == 130
    assert ended.output.endswith("stopped\n")


# --- other processes ---------------------------------------------------------------------------


def second_writer(shop: Workshop) -> list[int]:
    """Exit codes of a resume and of a new run where another process is training."""
    run = shop.folder / "run"
    child = shop.begin(train_command.main, shop.fresh(run, *FOREVER, *NO_SAVES))
    until(has_rows(run))
    try:
        codes = [shop.train_here(["--resume", str(run), "--train.max_steps", "3"]).code]
        codes.append(shop.train_here(shop.fresh(run)).code)
    finally:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return codes


def test_a_second_writer_is_refused(shop: Workshop) -> None:
    assert second_writer(shop) == [7, 7]
    assert (
        shop.train_here(["--resume", str(shop.folder / "run"), "--train.max_steps", "3"]).code == 0
    )


def test_a_second_writer_finds_a_missing_lock(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt.files, "lock", lambda *_, **__: nullcontext())
    assert second_writer(shop) != [7, 7]


def test_the_lock_ends_with_its_process_though_a_child_lives_on(shop: Workshop) -> None:
    run = shop.folder / "run"
    sleepers = []

    def prepare() -> None:
        train = gpt.training.trainer.Trainer.train

        def with_a_child(self: Any) -> Any:
            sleeper = subprocess.Popen(["sleep", "30"], close_fds=False)
            print("sleeper", sleeper.pid, flush=True)
            return train(self)

        gpt.training.trainer.Trainer.train = with_a_child  # type: ignore[method-assign]

    child = shop.begin(train_command.main, shop.fresh(run, *FOREVER, *NO_SAVES), prepare=prepare)
    until(has_rows(run))
    os.kill(child, signal.SIGKILL)
    output = shop.end(child).output
    sleepers.append(int(output.split("sleeper ")[1].split()[0]))
    assert shop.train_here(["--resume", str(run), "--train.max_steps", "3"]).code == 0
    os.kill(sleepers[0], signal.SIGKILL)


def test_two_new_runs_in_one_directory(shop: Workshop) -> None:
    run = shop.folder / "run"
    children = [shop.begin(train_command.main, shop.fresh(run)) for _ in range(4)]
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0, 7, 7, 7]
    assert outcome(run)["metrics.jsonl"] == outcome(shop.folder / "whole")["metrics.jsonl"]


def test_runs_named_in_the_same_second(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "2026-01-02-030405")
    argv = ["--config", str(shop.folder / "toy.yaml")]
    children = [shop.begin(train_command.main, argv) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    names = sorted(path.name for path in (shop.folder / "runs").iterdir())
    assert names == [f"2026-01-02-030405-toy{end}" for end in ("", "-2", "-3", "-4")]


def test_sampling_while_a_training_rotates(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.folder / "runs" / "run"
    monkeypatch.setattr(gpt.paths, "RUNS", shop.folder / "runs")
    child = shop.begin(train_command.main, shop.fresh(run, *FOREVER, "--log.eval_every", "1"))
    until(has_rows(run))
    try:
        steps = set()
        for _ in range(150):
            steps.add(find_checkpoint(None, pytest.fail).progress.step)
            steps.add(load_last(run, pytest.fail).progress.step)
    finally:
        os.kill(child, signal.SIGKILL)
    shop.end(child)
    assert len(steps) > 2


def read_while_rotating(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> int:
    """The step that a reader gets when all it has listed is deleted before it reads."""
    run, files, times = shop.folder / "whole", gpt.storage.checkpoint.verified_files, [0]

    def late(path: Path) -> dict[str, bytes]:
        times[0] += 1
        if times[0] == 1:
            newer = load_last(run, pytest.fail)
            newer.progress.step, newer.progress.val_loss = 9, None
            save_checkpoint(run, newer)
            for old in checkpoints_of(run)[:-1]:
                gpt.files.remove(old)
        return files(path)

    monkeypatch.setattr(gpt.storage.checkpoint, "verified_files", late)
    return load_best(run, pytest.fail).progress.step


def test_a_reader_looks_again(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_while_rotating(shop, monkeypatch) == 9


def test_the_reader_finds_a_list_that_is_made_once(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gpt.storage.find._first_whole

    def once(list_paths: Callable[[], list[Path]]) -> Any:
        paths = list_paths()
        return first(lambda: paths)

    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(gpt.storage.find, "_first_whole", once)
    with pytest.raises((Mistake, pytest.fail.Exception)):
        read_while_rotating(shop, monkeypatch)


# --- a run that is moved -----------------------------------------------------------------------


def moved_in_step(number: int, move: Callable[[], object]) -> Callable[[], None]:
    """Let the run's directory be moved in the middle of a step."""

    def prepare() -> None:
        clip = gpt.training.trainer.Trainer._clip

        def moving(self: Any, loss: Any) -> None:
            if self.progress.step == number - 1:
                move()
            clip(self, loss)

        gpt.training.trainer.Trainer._clip = moving  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("tensorboard", ["false", "true"])
def test_a_run_that_is_moved_stops_with_all_saved(
    shop: Workshop, replaced: bool, tensorboard: str
) -> None:
    run, moved = shop.folder / "run", shop.folder / "moved here"

    def move() -> None:
        run.rename(moved)
        if replaced:
            run.mkdir()

    argv = shop.fresh(run, "--log.tensorboard", tensorboard, "--log.save_every", "1000")
    ended = shop.train(argv, prepare=moved_in_step(1, move))
    assert ended.code == 5
    assert f"error: {run} was moved to {moved} while training\n" in ended.output
    assert f"step 2 is saved there; go on with: python train.py --resume '{moved}'" in ended.output
    assert not run.exists() or list(run.iterdir()) == []
    assert load_last(moved, pytest.fail).progress.step == 2
    assert shop.go_on(moved, "--exact").code == 0
    differing = differences(moved, outcome(shop.folder / "whole"))
    assert [name for name in differing if "config" not in name] == []  # it holds run.dir


def test_a_run_that_is_removed_stops_and_is_not_made_anew(shop: Workshop) -> None:
    run = shop.folder / "run"
    ended = shop.train(shop.fresh(run), prepare=moved_in_step(2, lambda: shutil.rmtree(run)))
    assert ended.code == 5
    assert f"error: {run} was removed while training" in ended.output
    assert not run.exists()


# --- numbers that are not finite ----------------------------------------------------------------


def broken_step(kind: str) -> Callable[[], None]:
    """Make step 3 go wrong: its loss, its gradient, or the weights after it."""

    def prepare() -> None:
        trainer = gpt.training.trainer.Trainer
        loss_of, clip, save = trainer._loss, trainer._clip, trainer._save

        def loss(self: Any, *batch: Any) -> Any:
            factor = torch.inf if kind == "loss" and self.progress.step == 2 else 1
            return loss_of(self, *batch) * factor

        def gradient(self: Any, loss: Any) -> None:
            if kind == "gradient" and self.progress.step == 2:
                next(self.model.parameters()).grad[0] = torch.nan
            clip(self, loss)

        def weights(self: Any) -> None:
            if kind == "weights" and self.progress.step == 3:
                next(self.model.parameters()).data[0] = torch.nan
            save(self)

        trainer._loss, trainer._clip, trainer._save = loss, gradient, weights  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize("kind", ["loss", "gradient", "weights"])
def test_not_finite_stops_and_leaves_the_last_good_checkpoint(shop: Workshop, kind: str) -> None:
    run = shop.folder / "run"
    ended = shop.train(shop.fresh(run, "--train.max_steps", "5"), prepare=broken_step(kind))
    assert ended.code == 6
    assert "not finite" in ended.output
    assert "step 2 is saved" in ended.output
    assert load_last(run, pytest.fail).progress.step == 2
    assert whole_checkpoints(run) == checkpoints_of(run)


@pytest.mark.parametrize("kind", ["gradient", "weights"])
def test_not_finite_finds_a_missing_check(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(gpt.training.trainer.Trainer, "_check_finite", lambda *_: None)
    run = shop.folder / "run"
    shop.train(shop.fresh(run, "--train.max_steps", "5"), prepare=broken_step(kind))
    assert whole_checkpoints(run) != checkpoints_of(run)


def test_a_learning_rate_that_blows_up(shop: Workshop) -> None:
    run = shop.folder / "run"
    ended = shop.train_here(
        shop.fresh(run, "--train.learning_rate", "1e9", "--train.optimizer", "adamw")
    )
    assert ended.code == 6
    assert whole_checkpoints(run) == checkpoints_of(run) != []


# --- writing text ------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_cache_and_neighbours_do_not_change_the_text(positions: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(block_size=16, n_layer=2, n_head=2, n_embd=16, positions=positions)
    model, start = GPT(config, 20).eval(), torch.arange(5).numpy()

    def text(**options: Any) -> list[list[int]]:
        steps = generate(model, start, seed=3, **options)
        return np.stack([ids for ids, _ in zip(steps, range(60), strict=False)], 1).tolist()

    rows = text(num_samples=3)
    assert rows == [write_on(model, start.tolist(), 60, seed=3, row=row) for row in range(3)]
    assert rows[:1] == text(num_samples=1)
    assert rows[0] != rows[1]
