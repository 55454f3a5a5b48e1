"""All that is shown while training: the progress bar, metrics.jsonl and TensorBoard.

Nothing here reaches back into the run: it may be switched off and the weights stay the same.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from gpt import storage
from gpt.config import Config
from gpt.evaluate import bits
from gpt.generate import generate
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SCALARS = {  # key of metrics.jsonl -> TensorBoard's tag
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "val_bits_per_char": "loss/val_bits_per_char",
    "lr": "training/learning_rate",
    "grad_norm": "training/gradient_norm",
    "chars_per_second": "training/chars_per_second",
}


class Monitor:
    """Shows one session of a run. Use as a context manager.

    Args:
        step: steps done before this session; what an earlier one logged after it is dropped.
    """

    def __init__(self, run: Path, config: Config, tokenizer: CharTokenizer, step: int):
        self.run, self.config, self.tokenizer = run, config, tokenizer
        metrics = run / "metrics.jsonl"
        storage.replace_file(metrics, _rows_until(metrics, step))
        self.metrics = metrics.open("ab")
        self.board = _open_board(run, config, step) if config.log.tensorboard else None
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
        """A line on stderr, above the bar."""
        self.bar.clear()
        print(line, file=sys.stderr, flush=True)
        self.bar.refresh()

    def advance(self) -> None:
        """One more step is done."""
        self.bar.update()

    def log(self, row: dict[str, Any]) -> None:
        """Write one logged step: a line of metrics.jsonl, TensorBoard's scalars, the bar."""
        if row.get("val_loss") is not None:
            row["val_bits_per_char"] = bits(row["val_loss"])
            self.val_loss = row["val_loss"]
            self.say(
                f"step {row['step']:>6}  val loss {row['val_loss']:.4f} nats "
                f"= {row['val_bits_per_char']:.4f} bits per character"
            )
        with storage.storage_errors(self.run / "metrics.jsonl"):
            self.metrics.write(json.dumps(row).encode() + b"\n")
            self.metrics.flush()
        if self.board:
            for key, tag in SCALARS.items():
                if row.get(key) is not None:
                    self.board.add_scalar(tag, row[key], row["step"])
        shown = {"loss": row.get("train_loss"), "val": self.val_loss}
        parts = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
        parts.append(f"{row.get('chars_per_second') or 0:,.0f} chars/s")
        self.bar.set_postfix_str("  ".join(parts), refresh=False)

    def look_inside(self, model: GPT, step: int) -> None:
        """A sample of the model's writing, and where its heads look in the probe text."""
        if not self.board:
            return
        if self.config.log.sample_chars:
            self.board.add_text("sample", _fenced(self._write(model)), step)
        self._draw_attention(model, step)
        self.board.flush()

    def sync(self) -> None:
        """Have the disk hold what was logged, as a checkpoint must not be ahead of its metrics."""
        with storage.storage_errors(self.run / "metrics.jsonl"):
            os.fsync(self.metrics.fileno())

    def _write(self, model: GPT) -> str:
        prompt = self.tokenizer.known(self.config.log.sample_prompt) or self.tokenizer.alphabet[0]
        characters = generate(model, self.tokenizer.encode(prompt), seed=self.config.train.seed)
        count = self.config.log.sample_chars
        return self.tokenizer.decode(
            [int(c) for c, _ in zip(characters, range(count), strict=False)]
        )

    def _draw_attention(self, model: GPT, step: int) -> None:
        from gpt.attention.figures import figure_image, layer_figure
        from gpt.attention.trace import trace

        text = self.tokenizer.known(self.config.log.probe)[: model.config.block_size]
        if not text or not self.board:
            return
        tokens = torch.from_numpy(self.tokenizer.encode(text).astype("int64"))
        layers = trace(model, tokens.to(model.token_embedding.weight.device)).layers
        for number, layer in enumerate(layers, start=1):
            picture = figure_image(layer_figure(layer.weights, text, number))
            self.board.add_image(f"attention/layer {number}", picture, step, dataformats="HWC")


def process_seconds() -> float:
    """Seconds since this process started, so that imports count as well."""
    try:
        started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):  # not Linux
        return time.perf_counter() - _IMPORTED


_IMPORTED = time.perf_counter()


def _rows_until(path: Path, step: int) -> bytes:
    """The lines of metrics.jsonl up to `step`; a resumed run writes the later ones again."""
    lines = path.read_bytes().splitlines(keepends=True) if step and path.exists() else []
    whole = (line for line in lines if line.endswith(b"\n"))
    return b"".join(line for line in whole if json.loads(line)["step"] <= step)


def _open_board(run: Path, config: Config, step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    board = SummaryWriter(str(run), purge_step=step + 1 if step else None, flush_secs=10)
    values = {
        f"{section}.{name}": value if isinstance(value, int | float | str) else str(value)
        for section, keys in config.model_dump().items()
        for name, value in keys.items()
    }
    if not step:
        for summary in hparams(values, {"loss/val": 0}):
            board._get_file_writer().add_summary(summary)
        board.add_text("config", _fenced(config.to_yaml()), 0)
    return board


def _fenced(text: str) -> str:
    """`text` as it is, in Markdown: TensorBoard would else fold its line breaks."""
    return "\n".join(f"    {line}" for line in text.splitlines())
