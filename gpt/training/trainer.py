"""The training loop, in the order of events."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt.command.process import catch_signals, process_seconds
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.device import compiled, use_device, uses_bf16
from gpt.errors import Exit, Mistake
from gpt.evaluate import batch_loss, exact_loss
from gpt.model import GPT
from gpt.optim import load_optimizer_state, lr_factor, make_optimizers, optimizer_state, set_lr
from gpt.processes import PeerLost, Processes, Stopped
from gpt.storage.checkpoint import Checkpoint, Progress
from gpt.storage.moved import saving
from gpt.training.monitor import Monitor
from gpt.training.pace import Pace
from gpt.training.time_left import is_due


class Trainer:
    """One session of a run, from the checkpoint `start` on.

    A step is a function of the weights, the optimizer state and (seed, step) alone: its batch and
    its dropout come from generators seeded for that step (and this one of several processes). So a
    resumed run needs no state of random generators, and nothing that is logged or saved in between
    can change the weights.

    Args:
        config: the resolved config.
        corpus: the prepared text.
        run: directory of the run, locked by this process; None: another process writes it.
        start: the checkpoint to start from; the run holds it already.
        monitor: shows and logs what happens.
        pace: counts the steps anew, so that the training ends in time.
        processes: train together; each step's batch is shared out to them.
    """

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        run: Path | None,
        start: Checkpoint,
        monitor: Monitor,
        pace: Pace | None = None,
        processes: Processes | None = None,
    ):
        self.config, self.corpus, self.run, self.monitor = config, corpus, run, monitor
        self.pace, self.processes = pace, processes or Processes()
        self.device, self.autocast = use_device(config.train.device), uses_bf16(config)
        self.model = GPT(config.model, len(corpus.tokenizer))
        self.model.load_state_dict(start.weights)
        self.model.to(self.device)
        self.optimizers = make_optimizers(self.model, config.train, self.autocast)
        load_optimizer_state(self.model, self.optimizers, start.optimizer_state)
        self.progress = start.progress
        self.seconds_before = self.progress.elapsed_seconds
        self.saved_step = self.progress.step
        self.loss_of = self._compiled() if config.train.compile else self._loss
        self.loss_sum = torch.tensor(self.progress.loss_sum, device=self.device)
        self.grad_norm = torch.tensor(self.progress.grad_norm)
        set_lr(self.optimizers, lr_factor(self.progress.step - 1, config.train))  # of the last step
        self.chars, self.seconds = 0, 0.0  # trained since the last logged step

    def train(self) -> Progress:
        """Train until max_steps, the target, the end of patience or a signal; save a checkpoint.

        Raises:
            Mistake: with exit code 6 if a loss or gradient is not finite; 5 if nothing can be
                written, or the run's directory was moved. The last checkpoint is whole then.
        """
        with catch_signals(self.processes.hear), saving(self.run) as self.save_checkpoint:
            with suppress(Stopped, PeerLost):
                if self.progress.owes_evaluation:
                    self._after_step()
                while not (self._ended() or self.processes.stop_signal):
                    self._step()
                    self._after_step()
                    if self.pace and self.progress.step == self.pace.step:
                        self._recount(self.pace)
            if self.saved_step != self.progress.step:
                self._save()
        self.monitor.finish(self.model, self.progress.step)
        return self.progress

    def _step(self) -> None:
        """One optimizer update."""
        began = time.perf_counter()
        config, step = self.config.train, self.progress.step
        if self.config.model.dropout:
            torch.manual_seed(step_seed(config.seed, step, self.processes.rank))
        set_lr(self.optimizers, lr_factor(step, config))
        tokens, targets = self._batch(step)
        loss = torch.zeros((), device=self.device)
        for micro_batch in zip(
            tokens.chunk(config.accumulate), targets.chunk(config.accumulate), strict=True
        ):
            part = self.loss_of(*micro_batch) / config.accumulate
            part.backward()
            loss += part.detach()
        gradients = (parameter.grad for parameter in self.model.parameters())
        self.processes.average([loss, *(each for each in gradients if each is not None)])
        self._clip(loss)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.progress.step += 1
        self.loss_sum += loss
        self.progress.loss_count += 1
        self.chars += tokens.numel() * self.processes.size
        self.seconds += time.perf_counter() - began
        self.monitor.advance(loss)

    def _after_step(self) -> None:
        """Evaluate, log and save, each when it is due.

        Raises:
            Stopped: if a signal comes before the evaluation is made; nothing is logged then.
        """
        step, log, owed = self.progress.step, self.config.log, self.progress.owes_evaluation
        self.progress.val_loss = None
        evaluates = owed or is_due(step, self.config, self.corpus)
        logs = evaluates or step % log.log_every == 0
        if logs:
            self._synchronise()
        improved = evaluates and self._evaluate()
        if logs:
            self._log()
        if owed or step % log.save_every == 0 or improved or self._ended():
            self._save()

    def _recount(self, pace: Pace) -> None:
        """Change the number of steps, so that the training ends in time."""
        self.config = pace.recounted(self.config, self.monitor.time_left, process_seconds())
        self.monitor.expect(self.config)

    def _ended(self) -> bool:
        config, progress = self.config.train, self.progress
        best, target = progress.best_val_loss, config.target_val_loss
        return (
            progress.step >= config.max_steps
            or (target is not None and best is not None and best <= target)
            or (config.patience > 0 and progress.waiting >= config.patience)
        )

    # --- the parts of a step -------------------------------------------------------------------

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """tokens and targets (B, T) of training step `step`: this process's share of the batch."""
        train, block_size = self.config.train, self.config.model.block_size
        arrays = self.corpus.batch(step, train.seed, train.batch_size, block_size)
        own = self.processes.rows(train.batch_size)
        tokens, targets = (torch.from_numpy(np.ascontiguousarray(array[own])) for array in arrays)
        cuda = self.device.type == "cuda"
        if cuda:  # a copy from pinned memory is asynchronous
            tokens, targets = tokens.pin_memory(), targets.pin_memory()
        return tokens.to(self.device, non_blocking=cuda), targets.to(self.device, non_blocking=cuda)

    def _loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return batch_loss(self.model, tokens, targets, self.autocast)

    def _compiled(self) -> Callable[[Tensor, Tensor], Tensor]:
        parts = (tensor.chunk(self.config.train.accumulate)[0] for tensor in self._batch(0))
        try:
            return compiled(self._loss, *parts, say=self.monitor.say)
        finally:
            self.model.zero_grad()

    def _clip(self, loss: Tensor) -> None:
        """Clip the gradient; if it is not finite, stop before the update.

        Reading a number from another device waits for that device: there, `_synchronise` checks.
        """
        most = self.config.train.grad_clip or float("inf")
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), most)
        if self.device.type == "cpu":
            step = self.progress.step + 1
            self._check_finite(loss, f"the loss in step {step}")
            self._check_finite(self.grad_norm, f"the gradient in step {step}")

    def _check_finite(self, tensor: Tensor, what: str) -> None:
        if not tensor.isfinite().all():
            fix = "lower train.learning_rate, or set train.grad_clip"
            fix += f"; step {self.saved_step} is saved"
            raise Mistake(Exit.NUMERIC, f"not finite: {what}", fix)

    # --- after a step --------------------------------------------------------------------------

    def _synchronise(self) -> None:
        """Wait for the device, so that the steps' time is complete; check its numbers."""
        began, step = time.perf_counter(), self.progress.step
        self._check_finite(self.loss_sum, f"the loss up to step {step}")
        self._check_finite(self.grad_norm, f"the gradient in step {step}")
        self.seconds += time.perf_counter() - began

    def _evaluate(self) -> bool:
        """Measure the exact validation loss and log the heads; return whether it is a new best."""
        progress, ids, together = self.progress, self.corpus.val_ids, self.processes.together
        share = self.processes.rank, self.processes.size
        progress.owes_evaluation = True
        loss = together(lambda: exact_loss(self.model, ids, between=self._go_on, share=share))
        self._check_finite(torch.tensor(loss), f"val loss after step {progress.step}")
        together(lambda: self.monitor.look_inside(self.model, progress.step, self._go_on))
        progress.owes_evaluation, progress.val_loss = False, loss
        improved = progress.best_val_loss is None or loss < progress.best_val_loss
        if improved:
            progress.best_val_loss, progress.best_step = loss, progress.step
        progress.waiting = 0 if improved else progress.waiting + 1
        return improved

    def _go_on(self) -> None:
        """Raise Stopped if a signal came; called between the pieces of an evaluation."""
        self.monitor.evaluating()
        if self.processes.heard:
            raise Stopped

    def _log(self) -> None:
        progress = self.progress
        progress.elapsed_seconds = self.seconds_before + process_seconds()
        seconds = round(progress.elapsed_seconds, 3)
        row: dict[str, Any] = {"step": progress.step, "elapsed_seconds": seconds}
        if progress.loss_count:  # none before step 1
            row |= {
                "train_loss": float(self.loss_sum) / progress.loss_count,
                **{optimizer.lr_key: optimizer.lr for optimizer in self.optimizers},
                "grad_norm": float(self.grad_norm),
                "chars_per_second": round(self.chars / self.seconds, 1) if self.seconds else None,
            }
        if progress.val_loss is not None:
            row["val_loss"] = progress.val_loss
        self.monitor.log(row)
        self.loss_sum.zero_()
        progress.loss_count = 0
        self.chars, self.seconds = 0, 0.0

    def _save(self) -> None:
        self.monitor.sync()  # the log on disk must not be behind a checkpoint
        self.progress.elapsed_seconds = self.seconds_before + process_seconds()
        self.progress.loss_sum = float(self.loss_sum)
        self.progress.grad_norm = float(self.grad_norm)
        weights, state = self.model.state_dict(), optimizer_state(self.model, self.optimizers)
        for name, tensor in ({"the gradient": self.grad_norm} | weights | state).items():
            self._check_finite(tensor, f"{name} after step {self.progress.step}")
        checkpoint = Checkpoint(self.config, self.corpus.tokenizer, self.progress, weights, state)
        self.save_checkpoint(checkpoint)
        self.saved_step = self.progress.step


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of one step of a process; those of neighbouring seeds and steps are unrelated."""
    parts = (seed, step, rank) if rank else (seed, step)
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
