"""What is shown and logged while training: the progress bar, metrics.jsonl, TensorBoard.

Nothing here changes the run: the weights are the same without it.
"""

import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gpt import files
from gpt.config import Config
from gpt.data.tokenizer import CharTokenizer
from gpt.evaluate import bits, evaluating
from gpt.generation.generate import generate
from gpt.model import GPT

if TYPE_CHECKING:
    from gpt.training.tensorboard import Board


class Monitor:
    """Shows and logs one session of a run. Use as a context manager.

    Args:
        run: directory of the run, locked by this process.
        config: the resolved config.
        tokenizer: of the corpus, for the samples.
        step: steps done before this session; what an earlier session logged after it is dropped.
        owed: whether what is logged of `step` is still to come, too.
    """

    def __init__(
        self, run: Path, config: Config, tokenizer: CharTokenizer, step: int, owed: bool = False
    ):
        self.run, self.config, self.tokenizer = run, config, tokenizer
        metrics, logged = run / "metrics.jsonl", step - owed
        files.replace_file(metrics, _rows_until(metrics, logged))
        self.metrics = files.Journal(metrics)
        self.board = self._open_board(logged) if config.log.tensorboard else None
        self.bar = tqdm(
            total=config.train.max_steps,
            initial=step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}% |{bar}| {n}/{total} [{elapsed}<{remaining}]{postfix}",
        )
        self.val_loss: float | None = None

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

    def advance(self) -> None:
        """Count one step on the bar."""
        self.bar.update()

    def expect(self, steps: int) -> None:
        """Let the bar end after `steps` in all."""
        self.bar.total = steps

    def log(self, row: dict[str, Any]) -> None:
        """Log one step: a line of metrics.jsonl, TensorBoard's scalars, the bar.

        Args:
            row: step; elapsed_seconds since the process started, summed over sessions; train_loss,
                the mean since the last row [nats a character]; val_loss, exact, where measured
                [nats a character]; learning_rate, AdamW's; muon_learning_rate, with Muon;
                grad_norm before clipping; chars_per_second, trained.
        """
        if row.get("val_loss") is not None:
            self.val_loss = row["val_loss"]
            row = row | {"val_bits_per_char": bits(row["val_loss"])}
            self.say(
                f"step {row['step']:>6}  val loss {row['val_loss']:.4f} nats "
                f"= {row['val_bits_per_char']:.4f} bits per character"
            )
        self.metrics.write(json.dumps(row).encode() + b"\n")
        if self.board:
            self.board.log(row)
        shown = {"loss": row.get("train_loss"), "val": self.val_loss}
        parts = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
        parts.append(f"{row.get('chars_per_second') or 0:,.0f} chars/s")
        self.bar.set_postfix_str("  ".join(parts), refresh=False)

    def look_inside(
        self,
        model: GPT,
        val_ids: npt.NDArray[np.unsignedinteger],
        step: int,
        between: Callable[[], None],
    ) -> None:
        """Log a sample, and what the heads do on the probe text; `step` steps are done.

        Args:
            val_ids: (N,) the validation split, on which muting is measured.
            between: called between pieces of about a second at most; what it raises ends this.
        """
        if self.board:
            with evaluating(model):
                sample = self._sample(model, between)
                self.board.look_inside(model, sample, val_ids, step, between)

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
        prompt = self.tokenizer.known(self.config.log.sample_prompt) or self.tokenizer.alphabet[0]
        steps = generate(model, self.tokenizer.encode(prompt), seed=self.config.train.seed)
        written = []
        for ids in islice(steps, self.config.log.sample_chars):
            between()
            written.append(int(ids[0]))
        return self.tokenizer.decode(written)

    def _open_board(self, step: int) -> "Board":
        # here, since TensorBoard and matplotlib take a second to import
        from gpt.training.tensorboard import Board

        return Board(self.run, self.config, self.tokenizer, step)


def _rows_until(path: Path, step: int) -> bytes:
    """The rows of metrics.jsonl up to `step`; a resumed run logs the later ones again.

    Anything else, such as half a line that a crash left, is dropped too.
    """
    kept = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return b"".join(kept)
