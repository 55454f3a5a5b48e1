"""What TensorBoard shows of a run: losses, samples, and each head's attention during training."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch.utils.tensorboard.summary import hparams

from gpt import files
from gpt.attention.figures import figure_image, layer_figure
from gpt.attention.roles import MEASURES, Roles, head_roles, role_in_words
from gpt.attention.trace import Trace, head_name, trace
from gpt.attention.watch import head_scalars
from gpt.command.config_file import to_yaml
from gpt.config import Config
from gpt.data.tokenizer import CharTokenizer
from gpt.model import GPT
from gpt.training.event_file import SessionWriter
from gpt.training.projector import embedding_table, position_embedding_table

SCALARS = {  # key of metrics.jsonl -> tag
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "val_bits_per_char": "loss/val_bits_per_char",
    "learning_rate": "training/learning_rate",
    "muon_learning_rate": "training/muon_learning_rate",
    "grad_norm": "training/gradient_norm",
    "chars_per_second": "training/chars_per_second",
}


@dataclass
class Board:
    """The event file of one session of a run.

    Args:
        run: directory of the run.
        config: the resolved config.
        tokenizer: of the corpus.
        step: the last one of which earlier sessions logged all; what they logged of later ones is
            not shown. -1: none.
    """

    run: Path
    config: Config
    tokenizer: CharTokenizer
    step: int

    def __post_init__(self) -> None:
        self.writer = SessionWriter(self.run, purge_step=self.step + 1)
        if self.step < 0:
            for summary in hparams(_flat(self.config), {"loss/val": 0}):
                self.writer.events.add_summary(summary)
            self.writer.add_custom_scalars(_layout(self.config))
            self.writer.add_text("config", fenced(to_yaml(self.config)), 0)

    def flush(self) -> None:
        self.writer.events.flush()

    def close(self) -> None:
        self.writer.events.close()

    def log(self, row: dict[str, Any]) -> None:
        """The scalars of one line of metrics.jsonl."""
        for key, tag in SCALARS.items():
            if row.get(key) is not None:
                self.writer.add_scalar(tag, row[key], row["step"])

    def look_inside(
        self,
        model: GPT,
        sample: str,
        val_ids: npt.NDArray[np.unsignedinteger],
        step: int,
        between: Callable[[], None],
    ) -> None:
        """Log a sample, and for the probe text each head's attention, measures and cost of muting.

        Args:
            sample: text that the model generated; empty: none is logged.
            val_ids: (N,) the validation split, on which muting is measured.
            between: called between pieces; what it raises ends this.
        """
        if sample:
            self.writer.add_text("sample", fenced(sample), step)
        text = self.tokenizer.known(self.config.log.probe)
        if self.config.model.n_layer and text:
            between()
            roles = head_roles(model, self.tokenizer.encode(text))
            between()
            for tag, value in head_scalars(model, roles, val_ids).items():
                self.writer.add_scalar(tag, value, step)
            shown = text[: self.config.model.block_size]
            seen = trace(model, self.tokenizer.encode(shown))
            for layer, heads in enumerate(roles):
                between()
                self._draw(seen, shown, layer, heads, step)
            self._histograms(seen, step)

    def embeddings(self, model: GPT, step: int) -> None:
        """Log the token and position embeddings, for the projector."""
        files.remove(self.run / f"{step:05d}")  # torch writes there; a kill may have left it
        tables = {"characters": embedding_table(model, self.tokenizer)}
        positions = position_embedding_table(model)
        if positions:
            tables["positions"] = positions
        for tag, table in tables.items():
            labels = [list(row) for row in zip(table.labels, table.categories, strict=True)]
            header = ["label", "category"]
            self.writer.add_embedding(table.vectors, labels, None, step, tag, header)

    def _draw(self, seen: Trace, text: str, layer: int, heads: list[Roles], step: int) -> None:
        words = [role_in_words(roles) for roles in heads]
        figure = layer_figure(seen.layers[layer].weights, text, layer, words)
        self._add_picture(f"attention/layer {layer + 1}", figure_image(figure), step)

    def _add_picture(self, tag: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        """Like `writer.add_image`, which takes three times as long: it converts to floats."""
        height, width, colours = pixels.shape
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG", compress_level=1)
        picture = Summary.Image(
            height=height, width=width, colorspace=colours, encoded_image_string=png.getvalue()
        )
        value = Summary.Value(tag=tag, image=picture)
        self.writer.events.add_summary(Summary(value=[value]), step)

    def _histograms(self, seen: Trace, step: int) -> None:
        """Norms of queries, keys and values, of all heads of a layer together."""
        for layer, traced in enumerate(seen.layers):
            for name, vectors in {"q": traced.q, "k": traced.k, "v": traced.v}.items():
                self.writer.add_histogram(
                    f"vectors/layer {layer + 1} length of {name}", vectors.norm(dim=-1), step
                )


def fenced(text: str) -> str:
    """`text` as a Markdown code block, which keeps its line breaks."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _flat(config: Config) -> dict[str, int | float | str]:
    return {
        f"{section}.{name}": value if isinstance(value, int | float | str) else str(value)
        for section, keys in config.model_dump().items()
        for name, value in keys.items()
    }


def _layout(config: Config) -> dict[str, Any]:
    """Charts of the "Custom scalars" tab: one with both losses, then one per layer and measure."""
    charts: dict[str, Any] = {"Loss": {"train and val": ["Multiline", ["loss/train", "loss/val$"]]}}
    for measure in (*MEASURES, "mute_loss"):
        charts[measure] = {
            f"layer {layer + 1}": [
                "Multiline",
                [f"per_head/{measure}/uniform$"] * (measure in MEASURES)
                + [
                    f"per_head/{measure}/{head_name(layer, h)}$" for h in range(config.model.n_head)
                ],
            ]
            for layer in range(config.model.n_layer)
        }
    return {name: chart for name, chart in charts.items() if chart}
