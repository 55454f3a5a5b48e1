"""What the hardware allows: the least work of a task, as fast as torch does it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from sizes import Shape
from timing import SPEED, Numbers, sampling_speed, step_seconds, training_speed


class Product(NamedTuple):
    """`pieces` matrix products (rows, inner) @ (inner, columns), `times` in a forward pass."""

    pieces: int
    rows: int
    inner: int
    columns: int
    times: int


def products(shape: Shape, vocab_size: int) -> list[Product]:
    """Every matrix product of a forward pass.

    Of the attention's T x T products only the half that is not masked counts: leaving out the rest
    makes nobody faster than the limit.
    """
    layers, heads, C, T, B = shape
    half = Product(B * heads, T, C // heads, T // 2, 2 * layers)  # scores, and the mixing of values
    linears = [(C, 3 * C, layers), (C, C, layers), (C, 4 * C, layers), (4 * C, C, layers)]
    linears += [(C, vocab_size, 1)]
    return [*(Product(1, B * T, inner, out, times) for inner, out, times in linears), half]


def step_flops(shape: Shape, vocab_size: int) -> int:
    """Multiplications and additions of a training step; each product needs two more backward."""
    return 3 * sum(
        2 * one.pieces * one.rows * one.inner * one.columns * one.times
        for one in products(shape, vocab_size)
    )


def train(shape: Shape, vocab: int, warmup: int, steps: int) -> Numbers:
    """The matrix products of a training step alone, written into memory that is there already."""
    work = [(one.times, list(_with_backward(one))) for one in products(shape, vocab)]

    def step() -> None:
        for times, calls in work:
            for _ in range(times):
                for multiply, a, b, out in calls:
                    multiply(a, b, out=out)

    with torch.inference_mode():
        found = training_speed(shape, step_seconds(step, warmup, steps))
    return found | {"gflops": step_flops(shape, vocab) / found["seconds"] / 1e9}


def _with_backward(product: Product) -> Iterator[tuple[Any, Any, Any, Any]]:
    """The forward product and those of both gradients: (function, a, b, out)."""
    pieces, rows, inner, columns, _ = product
    multiply = torch.mm if pieces == 1 else torch.bmm
    sizes = [(rows, inner), (columns, inner), (rows, columns)]  # weights as nn.Linear keeps them
    many = () if pieces == 1 else (pieces,)
    x, weight, y = (torch.randn(*many, *size) for size in sizes)
    grad_x, grad_weight, out = (torch.empty(*many, *size) for size in sizes)
    yield multiply, x, weight.transpose(-2, -1), out
    yield multiply, y, weight, grad_x
    yield multiply, y.transpose(-2, -1), x, grad_weight


def sample(shape: Shape, chars: int, num_samples: int, least: float) -> Numbers:
    """All weights read once per character, as one matrix (N, C), in the fastest of several ways.

    The ways are the product from either side and, for one text, the matrix's sum: no product is
    faster than the memory it reads.
    """
    weights = torch.randn(shape.parameters // shape.n_embd, shape.n_embd)
    columns, x = weights.t().contiguous(), torch.randn(num_samples, shape.n_embd)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "weights @ x": lambda: weights @ x.t(),
        "x @ weights": lambda: x @ columns,
    }
    if num_samples == 1:
        ways["sum"] = weights.sum

    def speed_of(way: Callable[[], torch.Tensor]) -> Numbers:
        def write() -> None:
            for _ in range(chars):
                way()

        return sampling_speed(write, chars * num_samples, least)

    with torch.inference_mode():
        found = [speed_of(way) | {"way": name} for name, way in ways.items()]
    best = max(found, key=lambda one: one[SPEED])
    reads = best[SPEED] / num_samples
    return best | {"gigabytes_per_second": reads * weights.nbytes / 1e9}
