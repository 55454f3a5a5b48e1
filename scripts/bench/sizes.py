"""How much the benchmark measures: model shapes, steps, characters, megabytes."""

from dataclasses import dataclass
from typing import NamedTuple


class Shape(NamedTuple):
    """A model's shape, and the rows of a training batch."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int

    @property
    def parameters(self) -> int:
        """Weights in the blocks; the embeddings of a character model are few."""
        return 12 * self.n_layer * self.n_embd**2

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.1f} M: {self.n_layer} layers, {self.n_head} heads, "
            f"{self.n_embd} wide, block {self.block_size}"
        )


@dataclass(frozen=True)
class Sizes:
    """All amounts; the defaults are those of the full benchmark."""

    corpus: str | None = "tinyshakespeare"  # None: a made-up text
    target: float = 1.88  # validation loss in nats
    to_target: str = (  # flags of train.py: the fastest known way to that loss
        "--config tiny.yaml --model.block_size 64 --train.max_steps 260 --log.eval_every 260 "
        "--log.tensorboard false"
    )
    tiny: str = "--config tiny.yaml"  # flags of train.py
    nanogpt: str = (  # flags of nanoGPT's train.py: its README's line for a computer without a GPU
        "--eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 "
        "--n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
    )
    train: tuple[tuple[Shape, int], ...] = (  # and the timed steps
        (Shape(4, 4, 64, 64, 12), 200),
        (Shape(4, 4, 128, 64, 12), 100),
        (Shape(6, 6, 384, 256, 8), 8),
        (Shape(6, 10, 640, 256, 4), 8),
    )
    warmup: int = 3  # steps before the timed ones
    sample: tuple[tuple[Shape, Shape, float], ...] = (  # ours, a peer's, and the goal
        (Shape(4, 4, 128, 128, 1), Shape(4, 4, 128, 64, 1), 4),
        (Shape(6, 6, 384, 256, 1), Shape(6, 6, 384, 256, 1), 15),
    )
    chars: int = 1000  # of each of our texts
    nanogpt_chars: int = 1000  # of nanoGPT's single text
    nanogpt_chars_of_64: int = 50  # of each of its 64 texts, which take about 10 seconds
    seconds: float = 3  # the least time to sample for
    few_steps: int = 20  # where memory is measured
    busy_steps: int = 60  # of tiny.yaml beside busy processes
    busy_chars: int = 2000
    prepare_mb: float = 300
    train_mb: float = 2000
    most_order: int = 8  # of the n-gram model


_TOY = Shape(1, 2, 16, 16, 4)
_TOY_RUN = "--config debug.yaml --log.tensorboard false"
SMOKE = Sizes(
    corpus=None,
    target=9,
    to_target=_TOY_RUN,
    tiny=_TOY_RUN,
    nanogpt="--eval_interval=2 --max_iters=2 --eval_iters=1 --n_layer=1 --n_head=2 --n_embd=16 "
    "--always_save_checkpoint=True --block_size=16 --batch_size=4",
    train=((_TOY, 2),),
    warmup=1,
    sample=((_TOY, _TOY, 4),),
    chars=40,
    nanogpt_chars=8,
    nanogpt_chars_of_64=8,
    seconds=0,
    few_steps=2,
    busy_steps=2,
    busy_chars=8,
    prepare_mb=0.3,
    train_mb=0.6,
    most_order=3,
)
