"""SIGKILL anywhere, then --resume: G1, G2, G3, G4 and G7; and the mutants that must be caught."""

import itertools
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import (
    Ended,
    System,
    Workshop,
    changed,
    die,
    outcome,
    whole_checkpoints,
)
from torture import main as torture_main

import gpt.files
import gpt.model
import gpt.storage.checkpoint
import gpt.storage.find
import gpt.storage.moved
import gpt.storage.run_directory
import gpt.training.monitor
import gpt.training.run
import gpt.training.tensorboard
import gpt.training.trainer

Point = tuple[str, int]  # what happens, and at which operation


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def long_shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, steps=6, save_every=2)


def undisturbed(shop: Workshop) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """What a run leaves that nothing happens to, and the operations it takes."""
    shop.train_here(shop.fresh(shop.folder / "first"))  # prepares the corpus as well
    ended = shop.train_here(shop.fresh(shop.folder / "run"))
    assert ended.code == 0, ended.output
    left = outcome(shop.folder / "run")
    clear(shop.folder / "run")
    return left, ended.system.log


def clear(path: Path) -> None:
    gpt.files.remove(path)


def all_points(log: list[tuple[Any, ...]]) -> list[Point]:
    torn = [("torn", n) for n, op in enumerate(log) if op[0] in ("write", "rmtree")]
    return [("kill", n) for n in range(len(log))] + torn


def some_points(log: list[tuple[Any, ...]]) -> list[Point]:
    """The last operation of each kind on each kind of file, and a sixth of the others."""
    kinds = {}
    for act, number in all_points(log):
        kind, path = log[number][:2]
        kinds[act, kind, re.sub(r"\d+", "", Path(path).name)] = act, number
    # before a sync a kill finds what it finds after the operation before it
    chosen = {point for key, point in kinds.items() if key[1] != "sync"}
    return sorted(chosen | set(all_points(log)[::11]))


def problems(shop: Workshop, left: dict[str, Any], points: Iterable[Point]) -> list[str]:
    """Kill at each point; what is not as it should be then, or at the end after a resume."""
    run, wrong = shop.folder / "run", []
    for act, at in points:
        system = System(act, at)
        assert shop.train(shop.fresh(run), system).code == -signal.SIGKILL
        seen = gpt.storage.run_directory.checkpoints_of(run)
        if whole_checkpoints(run) != seen or (not seen and (run / "last").exists()):
            wrong.append(f"{act} at {at}: not all of {[path.name for path in seen]} are whole")
        ended = shop.go_on(run)
        if ended.code:
            wrong.append(f"{act} at {at}: {ended.output}")
        else:
            wrong += [f"{act} at {at}: {what}" for what in changed(run, left)]
        clear(run)
    return wrong


def test_a_kill_at_each_kind_of_operation_changes_nothing(shop: Workshop) -> None:
    left, log = undisturbed(shop)
    assert problems(shop, left, some_points(log)) == []


@pytest.mark.slow
def test_a_kill_at_every_operation_changes_nothing(long_shop: Workshop) -> None:
    left, log = undisturbed(long_shop)
    points = all_points(log)
    print(f"{len(log)} operations, {len(points)} kills")
    assert problems(long_shop, left, points) == []


# --- named points ------------------------------------------------------------------------------


def die_at(owner: object, name: str, call: int) -> None:
    """Let the `call`-th call of a function be the end."""
    function, calls = getattr(owner, name), itertools.count(1)

    def last(*args: Any, **more: Any) -> Any:
        if next(calls) == call:
            die()
        return function(*args, **more)

    setattr(owner, name, last)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (gpt.training.trainer.Trainer, "train", 1),  # before step 1
        (gpt.model.GPT, "forward", 2),
        (gpt.training.trainer.Trainer, "_clip", 2),  # between backward and the update
        (gpt.training.trainer, "exact_loss", 1),  # before step 1
        (gpt.training.trainer, "exact_loss", 2),
        (gpt.training.monitor.Monitor, "log", 1),  # of the loss before step 1
        (gpt.training.trainer.Trainer, "_save", 1),
        (gpt.training.trainer.Trainer, "_save", 3),
        (gpt.storage.checkpoint, "tidy", 4),  # published, not yet rotated
        (gpt.training.monitor.Monitor, "log", 4),
    ],
)
def test_a_kill_at_a_named_point(shop: Workshop, owner: object, name: str, call: int) -> None:
    left, _ = undisturbed(shop)
    run = shop.folder / "run"
    ended = shop.train(shop.fresh(run), prepare=lambda: die_at(owner, name, call))
    assert ended.code == -signal.SIGKILL
    assert shop.go_on(run).code == 0
    assert changed(run, left) == []


def test_kills_while_loading_and_ten_in_a_row(shop: Workshop) -> None:
    left, _ = undisturbed(shop)
    run = shop.folder / "run"
    shop.train(shop.fresh(run), System("kill", 70))
    for n in range(10):
        owner = gpt.storage.find if n % 2 else gpt.training.trainer.Trainer
        name = "load_checkpoint" if n % 2 else "_step"
        resumed = shop.train(
            ["--resume", str(run)], prepare=lambda o=owner, m=name: die_at(o, m, 1)
        )
        assert resumed.code == -signal.SIGKILL
    assert shop.go_on(run).code == 0
    assert changed(run, left) == []


def test_a_start_cut_short_says_what_to_do_and_can_be_repeated(shop: Workshop) -> None:
    undisturbed(shop)
    run = shop.folder / "run"
    shop.train(shop.fresh(run), System("kill", 8))
    resumed = shop.train(["--resume", str(run)])
    assert resumed.code == 4
    assert "start it again" in resumed.output
    assert shop.train(shop.fresh(run)).code == 0


# --- sessions and watching ---------------------------------------------------------------------


def stop_after(steps: int) -> Callable[[], None]:
    """Let SIGTERM come in the middle of the session's step number `steps`."""

    def prepare() -> None:
        die_at(gpt.training.trainer.Trainer, "_clip", -1)
        function, calls = gpt.training.trainer.Trainer._clip, itertools.count(1)

        def clip(self: Any, loss: Any) -> None:
            if next(calls) == steps:
                os.kill(os.getpid(), signal.SIGTERM)
            function(self, loss)

        gpt.training.trainer.Trainer._clip = clip  # type: ignore[method-assign]

    return prepare


def in_sessions(shop: Workshop, run: Path, lengths: Iterable[int]) -> None:
    argv = shop.fresh(run)
    for length in lengths:
        assert shop.train(argv, prepare=stop_after(length)).code == 143
        argv = ["--resume", str(run), "--exact"]
    assert shop.train(argv).code == 0


@pytest.mark.parametrize("lengths", [[1], [3, 2], [1, 1, 1, 1, 1]])
def test_a_split_into_sessions_changes_nothing(long_shop: Workshop, lengths: list[int]) -> None:
    left, _ = undisturbed(long_shop)
    in_sessions(long_shop, long_shop.folder / "run", lengths)
    assert split_differences(long_shop.folder / "run", left) == []


def split_differences(run: Path, left: dict[str, Any]) -> list[str]:
    """A stop saves once more, so that other old checkpoints may lie there; the newest counts."""
    newest = left["checkpoints"][-1]
    return [key for key in changed(run, left) if key.startswith((newest, "metrics", "last"))]


@pytest.mark.slow
def test_every_split_into_sessions(long_shop: Workshop) -> None:
    left, _ = undisturbed(long_shop)
    run = long_shop.folder / "run"
    for stops in itertools.product([False, True], repeat=5):
        ends = [step for step, stop in enumerate(stops, start=1) if stop]
        in_sessions(long_shop, run, [b - a for a, b in itertools.pairwise([0, *ends])])
        assert split_differences(run, left) == [], ends
        clear(run)


WATCHING = {
    "log.log_every": "2",
    "log.eval_every": "1",
    "log.save_every": "3",
    "log.keep": "0",
    "log.sample_chars": "7",
    "log.tensorboard": "true",
}


def final_weights(run: Path) -> list[bytes]:
    path = gpt.storage.run_directory.checkpoints_of(run)[-1]
    return [(path / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


def watching_changes_something(shop: Workshop) -> bool:
    shop.train_here(shop.fresh(shop.folder / "plain"))
    more = [part for key, value in WATCHING.items() for part in (f"--{key}", value)]
    shop.train_here(shop.fresh(shop.folder / "watched", *more))
    return final_weights(shop.folder / "plain") != final_weights(shop.folder / "watched")


def test_watching_changes_nothing(long_shop: Workshop) -> None:
    assert not watching_changes_something(long_shop)


# --- TensorBoard -------------------------------------------------------------------------------


def steps_in_tensorboard(run: Path, tag: str = "loss/train") -> list[int]:
    """Of the events of a tag, as TensorBoard shows them."""
    from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator

    old = event_accumulator.EventAccumulator(str(run)).Reload()
    new = plugin_event_accumulator.EventAccumulator(str(run)).Reload()
    steps = [event.step for event in new.Tensors(tag)]
    if tag in old.Tags()["scalars"]:
        assert [event.step for event in old.Scalars(tag)] == steps
    return steps


def steps_in_metrics(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def shown_after_kills(
    shop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    call: int,
    clock: int = 0,
) -> list[int]:
    """Kill a watched run twice at a named point; the steps that TensorBoard shows in the end.

    Args:
        clock: seconds by which the clock moves on from session to session.
    """
    import gpt.training.tensorboard  # noqa: F401  # once here, not in every child

    shop.train_here(shop.fresh(shop.folder / "first"))
    run = shop.folder / "run"
    argv = shop.fresh(run, "--log.tensorboard", "true")
    for session in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda n=session: 1_800_000_000 + clock * n)
            dying = (lambda: die_at(owner, name, call)) if session < 2 else (lambda: None)
            assert shop.train(argv, prepare=dying).code == (-signal.SIGKILL if session < 2 else 0)
        argv = ["--resume", str(run)]
    assert steps_in_metrics(run) == [0, 1, 2, 3, 4, 5, 6]
    return steps_in_tensorboard(run)


SHOWN_NOT_SAVED = (gpt.storage.moved, "save_checkpoint", 2)
SAVED_JUST_NOW = (gpt.training.monitor.Monitor, "log", 4)


@pytest.mark.parametrize("clock", [3600, 0, -3600], ids=["later", "the same second", "set back"])
@pytest.mark.parametrize("where", [SHOWN_NOT_SAVED, SAVED_JUST_NOW])
def test_each_step_is_shown_once(
    long_shop: Workshop, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, ...], clock: int
) -> None:
    assert shown_after_kills(long_shop, monkeypatch, *where, clock) == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_can_be_resumed(shop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    run = shop.folder / "run"
    shop.train_here(shop.fresh(run, "--log.tensorboard", "true"))
    left, weights = outcome(run), final_weights(run)
    ended = shop.train_here(["--resume", str(run), "--exact"])
    assert ended.code == 0
    assert "warning" not in ended.output + capfd.readouterr().out
    assert (changed(run, left), final_weights(run)) == ([], weights)


def test_torture_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert torture_main(["--kills", "3"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("torture: 3 kills of forked children")
    assert line.endswith("0 differences\n")


@pytest.mark.slow
def test_a_short_soak_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert torture_main(["--soak", "0.5"]) == 0, capsys.readouterr().err
    assert "answers of the tab" in capsys.readouterr().out


# --- stops within an evaluation ----------------------------------------------------------------


def stop_in_piece(number: int) -> Callable[[], None]:
    """Let SIGTERM come just before the session's piece number `number` of all evaluations."""

    def prepare() -> None:
        go_on, calls = gpt.training.trainer.Trainer._go_on, itertools.count(1)

        def stopped(self: Any) -> None:
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            go_on(self)

        gpt.training.trainer.Trainer._go_on = stopped  # type: ignore[method-assign]

    return prepare


def stopped_in_evaluation(shop: Workshop, run: Path, piece: int = 1) -> None:
    """A new run whose evaluation after step 2 is not made."""
    assert shop.train(shop.fresh(run), prepare=stop_in_piece(PIECES + piece)).code == 143
    assert names(run)[-1] == "step-000002-stopped"


def names(run: Path) -> list[str]:
    return [path.name for path in gpt.storage.run_directory.checkpoints_of(run)]


PIECES = 3  # of an evaluation of the toy's text: two of the loss, a character of the sample


@pytest.mark.parametrize("piece", range(1, PIECES + 1))
def test_a_stop_within_an_evaluation_changes_nothing(shop: Workshop, piece: int) -> None:
    left, _ = undisturbed(shop)
    run = shop.folder / "run"
    stopped_in_evaluation(shop, run, piece)
    assert steps_in_metrics(run) == [0, 1], "a row without its evaluation"
    assert shop.train(["--resume", str(run)], prepare=stop_in_piece(1)).code == 143
    assert names(run)[-1] == "step-000002-stopped"  # no step is taken before it is made
    assert shop.train_here(["--resume", str(run), "--exact"]).code == 0
    assert changed(run, left) == []


@pytest.mark.parametrize("piece", range(1, PIECES + 1))
def test_a_stop_before_step_1_changes_nothing(shop: Workshop, piece: int) -> None:
    """The untrained model's loss is measured when the run goes on, and logged once."""
    left, _ = undisturbed(shop)
    run = shop.folder / "run"
    assert shop.train(shop.fresh(run), prepare=stop_in_piece(piece)).code == 143
    assert (names(run), steps_in_metrics(run)) == (["step-000000-stopped"], [])
    assert shop.train(["--resume", str(run)], prepare=stop_after(1)).code == 143
    assert steps_in_metrics(run) == [0, 1]
    assert shop.train_here(["--resume", str(run), "--exact"]).code == 0
    assert changed(run, left) == []


def test_a_stop_within_the_last_evaluation_leaves_it_to_the_next_session(shop: Workshop) -> None:
    left, _ = undisturbed(shop)
    run = shop.folder / "run"
    assert shop.train(shop.fresh(run), prepare=stop_in_piece(2 * PIECES + 1)).code == 143
    assert names(run)[-1] == "step-000003-stopped"
    ended = shop.train_here(["--resume", str(run), "--exact"])
    assert ended.code == 0
    assert "best val loss" in ended.output
    assert changed(run, left) == []


def kills_after_a_stop(shop: Workshop, choose: Callable[[Any], Iterable[Point]]) -> list[str]:
    """Kill the session that makes up for an evaluation, at each chosen operation of it."""
    left, _ = undisturbed(shop)
    run, kept, wrong = shop.folder / "run", shop.folder / "kept", []
    stopped_in_evaluation(shop, run)
    shutil.copytree(run, kept)
    log = shop.train_here(["--resume", str(run)]).system.log
    for act, at in choose(log):
        clear(run)
        shutil.copytree(kept, run)
        killed = shop.train(["--resume", str(run)], System(act, at))
        assert killed.code == -signal.SIGKILL
        seen = gpt.storage.run_directory.checkpoints_of(run)
        newest = gpt.storage.find.load_last(run, pytest.fail).progress.step
        if whole_checkpoints(run) != seen or newest < 2:
            wrong.append(f"{act} at {at}: step 2 was saved, and there is {names(run)}")
        assert shop.go_on(run).code == 0
        wrong += [f"{act} at {at}: {what}" for what in changed(run, left)]
    return wrong


def test_a_kill_while_an_evaluation_is_made_up_for_changes_nothing(shop: Workshop) -> None:
    assert kills_after_a_stop(shop, lambda log: some_points(log)[::9]) == []


@pytest.mark.slow
def test_a_kill_at_every_operation_after_a_stop_changes_nothing(shop: Workshop) -> None:
    assert kills_after_a_stop(shop, all_points) == []


def test_an_evaluation_that_is_owed_is_made_whatever_is_due_now(shop: Workshop) -> None:
    run = shop.folder / "run"
    stopped_in_evaluation(shop, run)
    assert shop.train_here(["--resume", str(run), "--log.eval_every", "1000"]).code == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val_loss" in row] == [0, 2, 3]


def test_what_tensorboard_shows_of_a_stopped_evaluation_is_shown_once(shop: Workshop) -> None:
    """A stop after its sample and before its pictures: of both steps, both are there in the end."""
    run, watched = shop.folder / "run", ["--log.tensorboard", "true", "--log.probe", "JULIET"]
    argv = shop.fresh(run, *watched)
    before_step_1 = PIECES + 2 + 1  # the roles, the muting, the picture of the one layer
    before_the_pictures = before_step_1 + PIECES + 1
    assert shop.train(argv, prepare=stop_in_piece(before_the_pictures)).code == 143
    assert shop.train_here(["--resume", str(run)]).code == 0
    assert names(run)[-1] == "step-000003"
    assert steps_in_tensorboard(run) == [1, 2, 3]
    assert steps_in_tensorboard(run, "loss/val") == [0, 2, 3]
    for tag in ("sample/text_summary", "attention/layer 1", "per_head/self/L1H1"):
        assert steps_in_tensorboard(run, tag) == [0, 2, 3], tag


# --- mutants: each of these faults, put into the code, is found by the checks above -------------


def write_in_place(patch: pytest.MonkeyPatch) -> None:
    def publish(target: Path, files: dict[str, bytes], mode: int = 0o666) -> None:
        gpt.files.make_directory(target)
        for name, data in files.items():
            gpt.files.write_file(target / name, data)

    patch.setattr(gpt.files, "publish_directory", publish)


def rotate_before_publishing(patch: pytest.MonkeyPatch) -> None:
    publish = gpt.files.publish_directory

    def mutant(target: Path, files: dict[str, bytes], mode: int = 0o666) -> None:
        for path in target.parent.glob("step-*"):
            gpt.files.remove(path)
        publish(target, files, mode)

    patch.setattr(gpt.files, "publish_directory", mutant)


def forget_the_averages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gpt.training.trainer, "load_optimizer_state", lambda *_: None)


def draw_by_session(patch: pytest.MonkeyPatch) -> None:
    """Random numbers that go on from where the process is, not from where the run is."""
    start, state = gpt.training.trainer.Trainer.__init__, [0]

    def init(self: Any, *args: Any) -> None:
        state[0] = 0
        start(self, *args)

    def step_seed(seed: int, step: int, rank: int) -> int:
        state[0] += 1
        return seed + state[0]

    patch.setattr(gpt.training.trainer.Trainer, "__init__", init)
    patch.setattr(gpt.training.trainer, "step_seed", step_seed)


def repeat_the_metrics(patch: pytest.MonkeyPatch) -> None:
    def all_rows(path: Path, step: int) -> list[bytes]:
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []

    patch.setattr(gpt.training.monitor, "_rows_until", all_rows)


def leave_the_hints(patch: pytest.MonkeyPatch) -> None:
    import gpt.training.run

    patch.setattr(gpt.training.run, "tidy", lambda *_: None)


@pytest.mark.parametrize(
    "mutate",
    [
        write_in_place,
        rotate_before_publishing,
        forget_the_averages,
        draw_by_session,
        repeat_the_metrics,
        leave_the_hints,
    ],
)
def test_a_kill_finds_the_mutant(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutate(monkeypatch)
    left, log = undisturbed(shop)
    points = some_points(log)[::2] if mutate is not leave_the_hints else some_points(log)
    assert any(problems(shop, left, [point]) for point in reversed(points))


def test_watching_finds_an_evaluation_that_draws(
    long_shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact_loss, seed = gpt.training.trainer.exact_loss, torch.manual_seed

    def drawing(*args: Any, **keys: Any) -> float:
        torch.rand(1)
        return exact_loss(*args, **keys)

    monkeypatch.setattr(gpt.training.trainer, "exact_loss", drawing)
    assert not watching_changes_something(long_shop)  # each step is seeded: it cannot harm
    for name in ("plain", "watched"):
        clear(long_shop.folder / name)
    # and where only the run's start is seeded, it is found
    monkeypatch.setattr(torch, "manual_seed", lambda n: seed(n) if n < 10**6 else None)
    assert watching_changes_something(long_shop)


def without_purge(patch: pytest.MonkeyPatch) -> None:
    import gpt.training.tensorboard

    writer = gpt.training.tensorboard.SessionWriter
    patch.setattr(
        gpt.training.tensorboard, "SessionWriter", lambda run, purge_step: writer(run, 99)
    )


def named_by_the_clock(patch: pytest.MonkeyPatch) -> None:
    import gpt.training.event_file

    name = gpt.training.event_file.later_name
    patch.setattr(gpt.training.event_file, "later_name", lambda run: name(run / "checkpoints"))


def written_later(patch: pytest.MonkeyPatch) -> None:
    """The scalars of all rows are kept until the last."""
    import gpt.training.tensorboard

    log, kept = gpt.training.tensorboard.Board.log, list[Any]()

    def late(self: Any, row: dict[str, Any]) -> None:
        kept.append(row)
        if row["step"] == 6:
            for each in kept:
                log(self, each)

    patch.setattr(gpt.training.tensorboard.Board, "log", late)


@pytest.mark.parametrize(
    ("mutate", "where", "clock"),
    [
        (without_purge, SHOWN_NOT_SAVED, 1),
        (named_by_the_clock, SAVED_JUST_NOW, -1),
        (written_later, SAVED_JUST_NOW, 1),
    ],
)
def test_tensorboard_finds_the_mutant(
    long_shop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[pytest.MonkeyPatch], None],
    where: tuple[Any, ...],
    clock: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        shown = shown_after_kills(long_shop, monkeypatch, *where, clock)
    assert shown != [1, 2, 3, 4, 5, 6]


def test_the_system_counts_the_same_operations_each_time(shop: Workshop) -> None:
    _, first = undisturbed(shop)
    again: Ended = shop.train_here(shop.fresh(shop.folder / "run"))
    strip = [(op[0], *op[1:2]) for op in again.system.log]
    assert strip == [(op[0], *op[1:2]) for op in first]
