"""What is shown and logged while training: the progress bar, metrics.jsonl, TensorBoard.

Nothing here changes the run: the weights are the same without it.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from tqdm import tqdm

from gpt import files
from gpt.attention.glyphs import on_one_line
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.evaluate import bits, evaluating
from gpt.generation.generate import generate
from gpt.model import GPT
from gpt.storage.checkpoint import Progress
from gpt.training.meaning import Counted, Course, count, evaluation_of, meaning
from gpt.training.time_left import TimeLeft

if TYPE_CHECKING:
    from gpt.training.tensorboard import Board

BAR = "{percentage:3.0f}% |{bar}| {n}/{total} [{elapsed}<{left}] {course}"
BETWEEN_DRAWINGS, BETWEEN_LINES = 0.1, 30  # seconds
SAMPLE = 60  # characters of it that are shown while training


class Bar(tqdm):
    """tqdm's bar, with what `shown` says each time it is drawn."""

    def __init__(self, shown: Callable[[], dict[str, str]], **more: Any):
        self.shown = shown
        super().__init__(bar_format=BAR, **more)

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, **self.shown()}


class Monitor:
    """Shows and logs one session of a run. Use as a context manager.

    Args:
        run: directory of the run, locked by this process.
        config: the resolved config.
        corpus: the prepared text.
        start: of the checkpoint to start from; what an earlier session logged after it is dropped.
        clock: the time in seconds.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        corpus: Corpus,
        start: Progress,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.run, self.config, self.corpus, self.clock = run, config, corpus, clock
        metrics = run / "metrics.jsonl"
        logged = logged_step(start)
        rows = list(_rows_until(metrics, logged))
        files.replace_file(metrics, b"".join(rows))
        self.metrics = files.Journal(metrics)
        self.course = Course(map(json.loads, rows), start)
        self.time_left = TimeLeft(config, corpus, start.step, clock)
        self.board = self._open_board(logged) if config.log.tensorboard else None
        self.loss: float | None = None  # mean since the last row; of the first step before that
        self.sample = ""  # what the model wrote at the last evaluation
        self.counted: Counted | None = None
        self.last_line = self.last_drawing = clock()
        self.bar = Bar(
            self._shown,
            total=config.train.max_steps,
            initial=start.step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.metrics.close()
        if self.board:
            self.board.close()

    def say(self, line: str) -> None:
        """Print a line on stderr, above the bar."""
        self.bar.clear()
        print(line, file=sys.stderr, flush=True)
        self.bar.refresh()

    def advance(self, loss: Tensor) -> None:
        """Count one step on the bar.

        Args:
            loss: of the step. Reading it from another device would wait for that device.
        """
        if self.loss is None and loss.device.type == "cpu":
            self.loss = float(loss)
        self.time_left.stepped()
        self.bar.update()
        self._tell()

    def evaluating(self) -> None:
        """Let the bar show that an evaluation is being made; called between its pieces."""
        self.time_left.evaluating()
        if self.clock() - self.last_drawing >= BETWEEN_DRAWINGS:
            self.last_drawing = self.clock()
            self.bar.refresh()
        self._tell()

    def expect(self, config: Config) -> None:
        """Note that the number of steps may have changed."""
        before, now = self.config.train.max_steps, config.train.max_steps
        self.config = self.time_left.config = config
        if now != before:
            self.bar.total = now
            self.say(f"to end in time: {now:,} steps instead of {before:,}")

    def log(self, row: dict[str, Any]) -> None:
        """Log one step: a line of metrics.jsonl, TensorBoard's scalars, the bar.

        Args:
            row: step; elapsed_seconds since the process started, summed over sessions; val_loss,
                exact, where measured [nats a character]. After step 0 also: train_loss, the mean
                since the last row [nats a character]; learning_rate, AdamW's; muon_learning_rate,
                with Muon; grad_norm before clipping; chars_per_second, trained.
        """
        self.loss = row.get("train_loss")
        if row.get("val_loss") is not None:
            row = row | {"val_bits_per_char": bits(row["val_loss"])}
            self.time_left.evaluated()
            self._say_evaluation(row)
        self.metrics.write(json.dumps(row).encode() + b"\n")
        if self.board:
            self.board.log(row)

    def look_inside(self, model: GPT, step: int, between: Callable[[], None]) -> None:
        """Let the model write; log that, and what the heads do on the probe text.

        Args:
            step: steps done.
            between: called between pieces of about a second at most; what it raises ends this.
        """
        if step and self.counted is None:
            began = self.clock()
            self.counted = count(self.corpus, self.time_left.session_seconds(), between)
            self.time_left.leave_out(self.clock() - began)
        with evaluating(model):
            self.sample = self._sample(model, between)
            if self.board:
                self.board.look_inside(model, self.sample, self.corpus.val_ids, step, between)

    def finish(self, model: GPT, step: int) -> None:
        """Log the embeddings of the trained model."""
        if self.board:
            self.board.embeddings(model, step)

    def sync(self) -> None:
        """Sync what was logged to disk: a checkpoint must not be ahead of its metrics."""
        self.metrics.sync()
        if self.board:
            self.board.flush()

    def _sample(self, model: GPT, between: Callable[[], None]) -> str:
        tokenizer = self.corpus.tokenizer
        prompt = tokenizer.known(self.config.log.sample_prompt) or tokenizer.alphabet[0]
        steps = generate(model, tokenizer.encode(prompt), seed=self.config.train.seed)
        written = []
        for ids in islice(steps, self.config.log.sample_chars):
            between()
            written.append(int(ids[0]))
        return tokenizer.decode(written)

    def _say_evaluation(self, row: dict[str, Any]) -> None:
        """Both losses, what they mean, and the beginning of what the model writes."""
        step, val = row["step"], row["val_loss"]
        train = f"train {row['train_loss']:.4f}  " if "train_loss" in row else ""
        words = meaning(step, val, len(self.corpus.tokenizer), self.counted)
        nats = f"val {val:.4f} nats = {row['val_bits_per_char']:.4f} bits"
        self.say(f"step {step:>6}  {train}{nats}{': ' if words else ''}{words}")
        if self.sample:
            self.say(f"{'':13}{on_one_line(self.sample[:SAMPLE])}")
        if self.course.add(evaluation_of(row, self.sample)) and self.course.best:
            best = self.course.best.step
            self.say(
                f"from step {best} on it learns by heart; the best model, step {best}, is kept"
            )

    def _shown(self) -> dict[str, str]:
        """What is shown beside the steps."""
        seconds, val = self.time_left.seconds(), self.course.last and self.course.last.val
        losses = {"loss": self.loss, "val": val}
        parts = [f"{name} {value:.3f}" for name, value in losses.items() if value is not None]
        if self.time_left.evaluation_began is not None:
            parts.append("evaluating")
        elif speed := self.time_left.chars_per_second:
            parts.append(f"{speed:,.0f} chars/s")
        left = "?" if seconds is None else tqdm.format_interval(seconds)
        return {"left": left, "course": "  ".join(parts)}

    def _tell(self) -> None:
        """Where no bar is shown, print a line every half minute."""
        if self.bar.disable and self.clock() - self.last_line >= BETWEEN_LINES:
            self.last_line, shown = self.clock(), self._shown()
            place = f"step {self.time_left.step:,} of {self.config.train.max_steps:,}"
            self.say(f"{place}  {shown['course']}  {shown['left']} left")

    def _open_board(self, step: int) -> "Board":
        # here, since TensorBoard and matplotlib take a second to import
        from gpt.training.tensorboard import Board

        return Board(self.run, self.config, self.corpus.tokenizer, step)


def logged_step(progress: Progress) -> int:
    """The last step of which all is logged; -1: none, not even the loss before step 1."""
    is_first = progress.step == 0 and progress.val_loss is None
    return progress.step - (progress.owes_evaluation or is_first)


def _rows_until(path: Path, step: int) -> Iterator[bytes]:
    """The rows of metrics.jsonl up to `step`; a resumed run logs the later ones again.

    Anything else, such as half a line that a crash left, is dropped too.
    """
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                yield line
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
