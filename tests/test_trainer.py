"""The loop: the same bytes however a run is cut, watched or cut into pieces; and how it ends."""

import json
import os
import shutil
import signal
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attention_models import MODERN
from torch import Tensor

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.errors import Exit, Mistake
from gpt.evaluate import exact_loss
from gpt.model import GPT
from gpt.optim import lr_factor
from gpt.storage.checkpoint import Checkpoint, Progress, load_checkpoint
from gpt.storage.find import load_best, load_last
from gpt.storage.run_directory import checkpoints_of
from gpt.training.fine_tune import fresh
from gpt.training.monitor import Monitor
from gpt.training.run import resume, train_new
from gpt.training.speed import Speed
from gpt.training.trainer import Trainer, step_seed


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


def last(run: Path) -> Checkpoint:
    return load_last(run, ignore)


def all_rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def rows(run: Path) -> list[dict[str, Any]]:
    """Without that of step 0, before which nothing is trained."""
    return [row for row in all_rows(run) if row["step"]]


class Trained:
    """Trains runs of a base config, each in a directory of its own."""

    def __init__(self, base: Config, folder: Path):
        self.base, self.folder, self.count = base, folder, 0

    def __call__(self, init_from: Checkpoint | None = None, **keys: Any) -> Path:
        self.count += 1
        run = self.folder / f"run-{self.count}"
        overrides = {key.replace("__", "."): value for key, value in keys.items()}
        self.code = train_new(
            overridden(self.base, {**overrides, "run.dir": str(run)}), "toy", init_from
        )
        return run


@pytest.fixture
def trained(toy_config: Config, tmp_path: Path) -> Trained:
    return Trained(toy_config, tmp_path)


def go_on(run: Path, **keys: Any) -> int:
    overrides = {key.replace("__", "."): value for key, value in keys.items()}
    return resume(run, partial(overridden, overrides=overrides))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Let a signal arrive in the next session during `step` (counted from 1), once."""
    advance = Monitor.advance

    def then_signal(self: Monitor, loss: Tensor) -> None:
        advance(self, loss)
        if self.bar.n == step or (self.bar.disable and self.steps_seen() == step):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Monitor, "advance", then_signal)
    seen = iter(range(1, 10**6))
    monkeypatch.setattr(Monitor, "steps_seen", lambda self: next(seen), raising=False)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


SORTS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"train__optimizer": "muon", "train__weight_decay": 0.1},
    "dropout": {"model__dropout": 0.3},
    "accumulation": {"train__accumulate": 2, "model__dropout": 0.3},
    "schedule": {"train__warmup_steps": 2, "train__decay": "cosine", "train__grad_clip": 0},
}
each_sort = pytest.mark.parametrize("keys", SORTS.values(), ids=SORTS.keys())

# --- the same bytes ----------------------------------------------------------------------------


@each_sort
def test_the_same_seed_gives_the_same_weights(trained: Trained, keys: dict[str, Any]) -> None:
    one, other = last(trained(**keys)), last(trained(**keys))
    assert_same(one.weights, other.weights)
    assert_same(one.optimizer_state, other.optimizer_state)


def test_another_seed_gives_other_weights(trained: Trained) -> None:
    one, other = last(trained()).weights, last(trained(train__seed=2)).weights
    assert any(not torch.equal(one[name], other[name]) for name in one)


@each_sort
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_run_cut_at_any_step_is_the_undisturbed_run(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], step: int
) -> None:
    whole = trained(**keys)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        cut = trained(**keys)
    assert trained.code == Exit.SIGTERM
    assert last(cut).progress.step == step
    assert go_on(cut) == Exit.DONE
    ours, theirs = last(cut), last(whole)
    assert_same(ours.weights, theirs.weights)
    assert_same(ours.optimizer_state, theirs.optimizer_state)
    timed = ("elapsed_seconds", "chars_per_second")
    for row, other in zip(all_rows(cut), all_rows(whole), strict=True):
        assert {k: v for k, v in row.items() if k not in timed} == {
            k: v for k, v in other.items() if k not in timed
        }


def test_a_resumed_run_goes_on_from_a_logged_half(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean training loss of a row covers its steps, also those of the session before."""
    whole = trained(log__log_every=4)
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        cut = trained(log__log_every=4)
    go_on(cut)
    assert [r["train_loss"] for r in rows(cut)] == [r["train_loss"] for r in rows(whole)]


@pytest.mark.parametrize(
    "watching",
    [
        {"log__eval_every": 1, "log__save_every": 1},
        {"log__eval_every": 100, "log__save_every": 100, "log__log_every": 100},
        {"log__keep": 0, "log__save_every": 2},
        {"log__tensorboard": True, "log__sample_chars": 20, "log__eval_every": 1},
        {"train__patience": 100, "train__target_val_loss": 0.001},
    ],
    ids=["often", "seldom", "keep all", "tensorboard", "waiting"],
)
def test_watching_changes_nothing(trained: Trained, watching: dict[str, Any]) -> None:
    plain, watched = last(trained(model__dropout=0.3)), trained(model__dropout=0.3, **watching)
    assert_same(last(watched).weights, plain.weights)
    assert_same(last(watched).optimizer_state, plain.optimizer_state)


@pytest.mark.parametrize("pieces", [2, 4])
@pytest.mark.parametrize("clip", [0, 0.05])
def test_the_gradient_of_a_batch_in_pieces_is_that_of_the_batch(
    toy_config: Config, toy_corpus: Corpus, tmp_path: Path, pieces: int, clip: float
) -> None:
    def gradient(accumulate: int) -> dict[str, Tensor]:
        keys = {"train.accumulate": accumulate, "train.grad_clip": clip}
        config = overridden(toy_config, keys)
        with Monitor(tmp_path, config, toy_corpus, Progress()) as monitor:
            trainer = Trainer(config, toy_corpus, tmp_path, fresh(config, toy_corpus), monitor)
            trainer.optimizers = []  # nothing uses the gradient up
            trainer._step()
        return {name: p.grad for name, p in trainer.model.named_parameters()}

    whole = gradient(1)
    norm = sum(float(g.square().sum()) for g in whole.values()) ** 0.5
    assert (norm > 0.5) if clip == 0 else norm == pytest.approx(clip, rel=1e-3)  # the clip binds
    for name, g in gradient(pieces).items():
        torch.testing.assert_close(g, whole[name], msg=f"{name} in {pieces} pieces")


@pytest.mark.parametrize("key", ["train_loss", "grad_norm"])
def test_what_is_logged_does_not_depend_on_the_number_of_pieces(trained: Trained, key: str) -> None:
    """With a clip that binds in each step: the norm is that of the whole batch, before it."""
    one, two, four = (
        [row[key] for row in rows(trained(train__accumulate=pieces, train__grad_clip=0.05))]
        for pieces in (1, 2, 4)
    )
    assert min(one) > 0.05
    assert two == pytest.approx(one, rel=1e-4), f"{key} of a batch in 2 pieces"
    assert four == pytest.approx(one, rel=1e-4), f"{key} of a batch in 4 pieces"


def test_pieces_of_a_batch_are_the_batch(trained: Trained) -> None:
    whole = last(trained(train__optimizer="adamw"))
    for pieces in (2, 4):
        cut = last(trained(train__accumulate=pieces))
        for name, weight in whole.weights.items():
            torch.testing.assert_close(cut.weights[name], weight, atol=1e-6, rtol=1e-5, msg=name)


def test_chars_per_second_are_the_characters_trained_by_the_seconds_they_took(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that ticks when it is read: a step takes a second, a wait for the device too."""
    clock = SimpleNamespace(perf_counter=partial(next, count()))
    monkeypatch.setattr("gpt.training.trainer.time", clock)
    run = trained(train__max_steps=5, log__log_every=2, log__eval_every=100)
    batch = 4 * 8  # batch_size x block_size
    expected = [2 * batch / (2 + 1), 2 * batch / (2 + 1), batch / (1 + 1)]
    assert [row["chars_per_second"] for row in rows(run)] == pytest.approx(expected, abs=0.05)


def test_a_step_is_what_it_should_be(trained: Trained, toy_config: Config) -> None:
    """Two steps of AdamW by torch's own loop, with the config's clip and learning rate."""
    keys = {"train__max_steps": 2, "train__weight_decay": 0.1, "train__grad_clip": 0.2}
    run = trained(**keys, train__learning_rate=0.01)
    config = last(run).config
    corpus = load_corpus(config, ignore)
    torch.manual_seed(config.train.seed)
    model = GPT(config.model, len(corpus.tokenizer))
    groups = [[p for p in model.parameters() if (p.ndim == 2) is m] for m in (True, False)]
    adamw = torch.optim.AdamW(
        [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}],
        betas=(config.train.beta1, config.train.beta2),
        weight_decay=0.1,
    )
    losses, norms = [], []
    for step in range(2):
        arrays = corpus.batch(step, config.train.seed, 4, 8)
        tokens, targets = map(torch.from_numpy, arrays)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        squares = sum(p.grad.square().sum() for p in model.parameters())
        norms.append(squares.sqrt().item())
        for group in adamw.param_groups:
            group["lr"] = 0.01 * lr_factor(step, config.train)
        for p in model.parameters():
            p.grad *= min(1, 0.2 / norms[-1])
        adamw.step()
        adamw.zero_grad()
        losses.append(loss.item())
    for name, weight in last(run).weights.items():
        torch.testing.assert_close(weight, model.state_dict()[name], atol=1e-5, rtol=1e-4, msg=name)
    assert [row["train_loss"] for row in rows(run)] == pytest.approx(losses, rel=1e-5)
    assert [row["grad_norm"] for row in rows(run)] == pytest.approx(norms, rel=1e-4)
    assert [row["learning_rate"] for row in rows(run)] == pytest.approx([0.01, 0.005])
    assert rows(run)[-1]["val_loss"] == pytest.approx(exact_loss(model, corpus.val_ids), abs=1e-4)


def test_it_learns(trained: Trained) -> None:
    keys = {"train__max_steps": 120, "train__learning_rate": 0.01, "log__eval_every": 40}
    run = trained(**keys, log__save_every=120)
    losses = [row["val_loss"] for row in rows(run) if "val_loss" in row]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 2 < losses[0]


def test_near_seeds_and_steps_give_unrelated_seeds() -> None:
    seeds = {step_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_each_step_draws_its_own_dropout(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, drawn_from = GPT.forward, []

    def noted(self: GPT, *args: Any, **keys: Any) -> Any:
        if self.training:
            drawn_from.append(torch.initial_seed())
        return forward(self, *args, **keys)

    monkeypatch.setattr(GPT, "forward", noted)
    monkeypatch.setattr("gpt.training.run.measured", lambda *_: Speed(1, 1, 1))
    trained(model__dropout=0.3)
    assert drawn_from == [step_seed(1337, step) for step in range(6)]


# --- how a run ends ----------------------------------------------------------------------------


def test_rows_and_checkpoints_come_when_they_are_due(trained: Trained) -> None:
    every = {"log__log_every": 2, "log__eval_every": 3, "log__save_every": 5, "log__keep": 0}
    run = trained(train__max_steps=7, **every)
    assert [row["step"] for row in rows(run)] == [2, 3, 4, 6, 7]
    assert [row["step"] for row in rows(run) if "val_loss" in row] == [3, 6, 7]
    saved = {int(path.name[5:]) for path in checkpoints_of(run)}
    assert {5, 7} <= saved
    best = min((row for row in rows(run) if "val_loss" in row), key=lambda row: row["val_loss"])
    progress = last(run).progress
    assert (progress.best_step, progress.best_val_loss) == (best["step"], best["val_loss"])
    assert best["step"] in saved


@pytest.mark.parametrize("keys", [{}, {"log__eval_every": 1}])
def test_no_steps_leave_the_first_weights(trained: Trained, keys: dict[str, Any]) -> None:
    run = trained(train__max_steps=0, **keys)
    saved = last(run)
    torch.manual_seed(saved.config.train.seed)
    assert_same(saved.weights, GPT(saved.config.model, len(saved.tokenizer)).state_dict())
    assert saved.progress.step == 0
    assert go_on(run) == Exit.DONE


def test_it_stops_as_soon_as_the_target_is_reached(trained: Trained) -> None:
    keys = {"log__eval_every": 2, "train__learning_rate": 0.01, "train__max_steps": 20}
    losses = {row["step"]: row["val_loss"] for row in rows(trained(**keys)) if "val_loss" in row}
    reached = trained(**keys, train__target_val_loss=losses[6])
    assert last(reached).progress.step == 6
    assert trained.code == Exit.DONE
    assert go_on(reached) == Exit.DONE  # there is nothing left to do
    assert last(reached).progress.step == 6


def test_a_target_that_the_best_loss_has_reached_takes_no_step(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the latest loss is."""
    losses = iter([3.5, 2.0, 3.0, 3.0])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    run = trained()
    assert go_on(run, train__max_steps=9, train__target_val_loss=2.5) == Exit.DONE
    assert last(run).progress.step == 6, "it trained on: the latest loss is above the target"


def test_it_stops_when_nothing_got_better(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.5, 3.0, 2.5, 2.6, 2.5, 9.0, 9.0])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    run = trained(log__eval_every=1, train__patience=2, train__max_steps=6)
    progress = last(run).progress
    assert (progress.step, progress.best_step, progress.best_val_loss) == (4, 2, 2.5)
    assert load_best(run, ignore).progress.step == 2


def test_patience_begins_anew_with_each_better_one(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.5, 3.0, 3.1, 2.9, 2.95, 2.8, 2.85])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    assert last(trained(log__eval_every=1, train__patience=2)).progress.step == 6


def test_a_gradient_that_is_not_finite_stops_before_the_update(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(log__save_every=1, log__keep=0)
    forward = GPT.forward
    calls = iter(range(1, 10**6))

    def poisoned(self: GPT, tokens: Tensor) -> Tensor:
        logits = forward(self, tokens)
        return logits * float("nan") if self.training and next(calls) == 5 else logits

    monkeypatch.setattr(GPT, "forward", poisoned)
    monkeypatch.setattr("gpt.training.run.measured", lambda *_: Speed(1, 1, 1))
    with pytest.raises(Mistake, match="not finite: the loss in step 5") as caught:
        trained(log__save_every=100)
    assert caught.value.exit_code == Exit.NUMERIC
    saved = last(trained.folder / "run-2")
    assert saved.progress.step == 3  # the last evaluation's
    undisturbed = {p.name: p for p in checkpoints_of(whole)}["step-000003"]
    assert_same(saved.weights, load_checkpoint(undisturbed).weights)
    assert "step 3" in caught.value.fix


def test_a_loss_that_is_not_finite_is_never_the_best(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.5, float("nan"), 3.0])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    with pytest.raises(Mistake, match="not finite: val loss after step 3") as caught:
        trained()
    assert caught.value.exit_code == Exit.NUMERIC


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_after_the_step_with_a_checkpoint(
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
    code: int,
) -> None:
    before = signal.getsignal(number)
    stop_at(monkeypatch, 2, number)
    run = trained()
    assert trained.code == code
    assert last(run).progress.step == 2
    err = capfd.readouterr().err
    assert "stopping after this step" in err
    assert f"--resume {run}" in err
    assert signal.getsignal(number) == before


# --- going on, with changes --------------------------------------------------------------------


def test_more_steps_for_a_run_that_has_ended(trained: Trained) -> None:
    run = trained()
    assert go_on(run, train__max_steps=9) == Exit.DONE
    assert last(run).progress.step == 9
    assert [row["step"] for row in rows(run)] == [*range(1, 10)]
    assert last(run).config.train.max_steps == 9


def test_what_differs_is_said(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained()
    capsys.readouterr()
    go_on(run, train__max_steps=7)
    assert "not bit for bit" not in capsys.readouterr().err
    go_on(run, train__max_steps=8, train__threads=2)
    torch.set_num_threads(1)
    assert "not bit for bit the uninterrupted run: threads 1 -> 2" in capsys.readouterr().err


def test_an_exact_resume_is_one_with_nothing_changed(trained: Trained) -> None:
    run = trained()
    assert resume(run, lambda config: config, exact=True) == Exit.DONE
    for key, value in (("learning_rate", 0.5), ("compile", True), ("threads", 2)):
        change = partial(overridden, overrides={f"train.{key}": value})
        with pytest.raises(Mistake, match=rf"train\.{key} .* -> {value}") as caught:
            resume(run, change, exact=True)
        torch.set_num_threads(1)
        assert caught.value.exit_code == Exit.CHECKPOINT


def test_a_text_with_other_characters_is_refused(trained: Trained, text_file: Path) -> None:
    run = trained()
    text_file.write_text(text_file.read_text() + "€")
    with pytest.raises(Mistake, match="another alphabet") as caught:
        go_on(run)
    assert caught.value.exit_code == Exit.CORPUS


# --- fine-tuning -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys", [{}, {"n_embd": 0, "n_layer": 0, "positions": "none", "norm": "none"}]
)
def test_fine_tuning_trains_the_origins_architecture_on_other_characters(
    trained: Trained, tmp_path: Path, keys: dict[str, Any]
) -> None:
    origin = last(trained(**{f"model__{key}": value for key, value in keys.items()}))
    other = tmp_path / "other.txt"
    other.write_text("zyx JULIET: yonder éé breaks?\n" * 20)
    tuned = last(trained(origin, data__text=str(other), train__max_steps=3))
    assert tuned.progress.step == 3
    assert tuned.config.model == origin.config.model
    assert "é" in tuned.tokenizer.alphabet


def test_fine_tuning_on_the_same_text_begins_where_the_origin_ended(trained: Trained) -> None:
    origin = last(trained())
    assert_same(last(trained(origin, train__max_steps=0)).weights, origin.weights)
    tuned = last(trained(origin, model__dropout=0.2, train__max_steps=1))
    assert tuned.config.model.dropout == 0.2
    assert np.isfinite(tuned.progress.best_val_loss or np.nan)


# --- precision and devices ---------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_bf16_learns_nearly_what_fp32_learns(trained: Trained, optimizer: str) -> None:
    losses = [
        last(trained(train__precision=precision, train__optimizer=optimizer)).progress.val_loss
        for precision in ("fp32", "bf16", "bf16")
    ]
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_batches_are_in_one_piece(toy_config: Config, toy_corpus: Corpus, tmp_path: Path) -> None:
    """Or CUDA copies them once more, from memory that is not pinned, and waits for that."""
    with Monitor(tmp_path, toy_config, toy_corpus, Progress()) as monitor:
        trainer = Trainer(toy_config, toy_corpus, tmp_path, fresh(toy_config, toy_corpus), monitor)
        assert all(tensor.is_contiguous() for tensor in trainer._batch(0))


def test_a_gradient_that_is_not_finite_stops_where_nobody_looks_at_each_step(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""

    def not_looked_at(self: Trainer, loss: Tensor) -> None:
        self.grad_norm = torch.tensor(float("inf"))

    monkeypatch.setattr(Trainer, "_clip", not_looked_at)
    with pytest.raises(Mistake, match="not finite: the gradient in step 1") as caught:
        trained()
    assert caught.value.exit_code == Exit.NUMERIC


# --- compiled ----------------------------------------------------------------------------------


class Breaks(torch.autograd.Function):
    """A gradient that no compiler has made."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError("no compiler\nis here")


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_without_a_compiler_training_goes_on(
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    def compiled(loss_of: Any) -> Any:
        def breaks(tokens: Tensor, targets: Tensor) -> Any:
            if way == "forward":
                raise RuntimeError("no compiler\nis here")
            return Breaks.apply(loss_of(tokens, targets))

        return breaks

    plain = last(trained())
    monkeypatch.setattr(torch, "compile", compiled)
    capsys.readouterr()
    fallen_back = last(trained(train__compile=True))
    said = capsys.readouterr().err
    assert "train.compile failed, going on without it: no compiler is here\n" in said
    assert_same(plain.weights, fallen_back.weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch's compiler
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_compiled_learns_what_is_learned_without(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = [
        last(trained(train__compile=compile, train__accumulate=2)).progress.val_loss
        for compile in (False, True)
    ]
    assert "train.compile failed" not in capsys.readouterr().err
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# --- on a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")  # from torch itself
@pytest.mark.parametrize("batch_size", [4, 512])  # another kernel embeds over 3,072 characters
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_does_not_wait_for_the_device(
    toy_config: Config,
    toy_corpus: Corpus,
    tmp_path: Path,
    optimizer: str,
    precision: str,
    batch_size: int,
) -> None:
    """torch raises at every wait; only what is logged, evaluated or saved may wait."""
    keys: dict[str, Any] = {"device": "cuda", "optimizer": optimizer, "precision": precision}
    train = {f"train.{key}": x for key, x in (keys | {"batch_size": batch_size}).items()}
    config = overridden(toy_config, train | {f"model.{key}": x for key, x in MODERN.items()})
    with Monitor(tmp_path, config, toy_corpus, Progress()) as monitor:
        trainer = Trainer(config, toy_corpus, tmp_path, fresh(config, toy_corpus), monitor)
        trainer._step()  # the first one allocates
        torch.cuda.set_sync_debug_mode("error")
        try:
            trainer._step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert trainer.progress.step == 2
    assert trainer.loss_sum.isfinite()


# --- before step 1, and early ------------------------------------------------------------------


def test_the_untrained_model_is_measured_before_step_1(trained: Trained) -> None:
    """A model that begins with equal logits loses ln V."""
    keys = {"model__zero_init": True, "model__bias": False, "train__max_steps": 2}
    first, *_ = all_rows(trained(**keys))
    assert (first["step"], "train_loss" in first) == (0, False)
    assert first["val_loss"] == pytest.approx(np.log(36))


def test_the_loss_before_step_1_is_not_measured_where_evaluations_take_long(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.training.run.ENOUGH_TO_EVALUATE", 1)
    monkeypatch.setattr("gpt.training.run.TRAINING_COST", 0)
    run = trained()
    assert [row["step"] for row in all_rows(run)] == [1, 2, 3, 4, 5, 6]
    assert go_on(run) == Exit.DONE


def test_a_fine_tuning_that_only_gets_worse_keeps_its_start(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though checkpoints are saved before the first evaluation after step 0."""
    origin = last(trained(train__max_steps=1))
    losses = iter([2.0, 2.5, 2.6])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    tuned = trained(origin, log__save_every=1, log__keep=1)
    best = load_best(tuned, ignore)
    assert (best.progress.step, best.progress.best_val_loss) == (0, 2.0)
    assert_same(best.weights, origin.weights)


def test_a_run_stopped_before_its_first_evaluation_is_sampled_where_it_stopped(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from the untrained model, the only one whose loss was measured."""
    stop_at(monkeypatch, 2)
    run = trained()
    assert load_best(run, ignore).progress.step == 2
    assert (run / "best").read_text() == "step-000002\n"


def test_the_best_model_of_a_short_text_is_kept(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after few readings, long before the first regular evaluation."""
    losses = iter([3.5, 2.6, 2.5, *[4.0] * 9])
    monkeypatch.setattr("gpt.training.trainer.exact_loss", lambda *_, **__: next(losses))
    keys = {"train__batch_size": 84, "train__max_steps": 30, "log__log_every": 1000}
    run = trained(**keys, log__eval_every=1000, log__save_every=1000)
    assert [row["step"] for row in rows(run)] == [2, 4, 8, 16, 30]
    assert load_best(run, ignore).progress.step == 4
