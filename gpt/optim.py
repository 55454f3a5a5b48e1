"""Optimizers, and the learning rate as a pure function of the step."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gpt.config import TrainConfig


def lr_at(step: int, config: TrainConfig) -> float:
    """Share of the peak learning rate in step `step` (counted from 0), in (0, 1].

    Linear warm-up, a plateau, then the fall towards zero; the first and the last step are not zero.
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    after_warmup = config.max_steps - config.warmup_steps
    falling = max(1, min(round(config.decay_fraction * config.max_steps), after_warmup))
    left = min(1.0, max(0, config.max_steps - step) / falling)  # 1 at the plateau's end, then falls
    if config.decay == "linear":
        return left
    return math.sin(math.pi / 2 * left) ** 2 if config.decay == "cosine" else 1.0


def make_optimizers(
    model: nn.Module, config: TrainConfig, bf16: bool = False
) -> list[torch.optim.Optimizer]:
    """AdamW for everything or, with `muon`, for all but the matrices inside the blocks.

    Weight decay is for matrices alone: a bias or a norm's scale has no reason to be small.

    Args:
        bf16: Muon may orthogonalise in bf16.
    """
    matrices: list[Tensor] = []
    embeddings: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in model.named_parameters():
        kind = matrices if _is_matrix_of_a_block(name, parameter) else embeddings
        (kind if parameter.ndim == 2 else vectors).append(parameter)
    muon = config.optimizer == "muon" and matrices
    decayed = embeddings if muon else matrices + embeddings
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    if not muon:
        return [adamw]
    precision = torch.bfloat16 if bf16 else torch.float32
    return [adamw, Muon(matrices, config.muon_learning_rate, config.weight_decay, precision)]


def _is_matrix_of_a_block(name: str, parameter: Tensor) -> bool:
    return name.startswith("blocks.") and parameter.ndim == 2


def set_lr(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Set every group's learning rate to `share` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * share


def averages_of(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimizers' state as flat tensors, `<parameter>/<what>`, for a checkpoint."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {
        f"{names[parameter]}/{what}": tensor
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for what, tensor in state.items()
    }


def averages_shapes(model: nn.Module, config: TrainConfig) -> dict[str, torch.Size]:
    """Names and shapes of what `averages_of` gives after a step."""
    muon = config.optimizer == "muon"  # no optimizer is made here: torch takes a second to
    return {
        f"{name}/{what}": torch.Size() if what == "step" else parameter.shape
        for name, parameter in model.named_parameters()
        for what in (_MUON if muon and _is_matrix_of_a_block(name, parameter) else _ADAMW)
    }


_ADAMW, _MUON = ("step", "exp_avg", "exp_avg_sq"), ("average",)


def restore_averages(
    model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], averages: dict[str, Tensor]
) -> None:
    """Put back what `averages_of` gave, but for what another optimizer than before has no use."""
    parameters = dict(model.named_parameters())
    owner = {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
    for key, tensor in averages.items():
        name, what = key.split("/")
        parameter = parameters[name]
        if what not in (_MUON if isinstance(owner[parameter], Muon) else _ADAMW):
            continue
        device = "cpu" if what == "step" and parameter.device.type == "cpu" else parameter.device
        owner[parameter].state[parameter][what] = tensor.clone().to(device)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, so that it moves all directions of a matrix alike.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". torch has one
    too; this one turns all matrices of a shape at once and in fp32, several times faster on a CPU.

    Args:
        parameters: matrices only.
        precision: of the iteration that makes an update orthogonal.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        precision: torch.dtype = torch.float32,
        momentum: float = 0.95,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, defaults)
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows, columns = parameter.shape
                    by_shape[min(rows, columns), max(rows, columns)].append(parameter)
            for alike in by_shape.values():
                self._step_alike(alike, group["lr"], group["weight_decay"], group["momentum"])

    def _step_alike(self, parameters: list[Tensor], lr: float, decay: float, beta: float) -> None:
        """Update matrices that have one shape, or its transpose."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        averages = [self._average(parameter) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - beta)
        ahead = torch._foreach_lerp(gradients, averages, beta)  # Nesterov's look ahead
        wide = torch.stack([m if m.shape[0] <= m.shape[1] else m.T for m in ahead])
        updates = orthogonalise(wide.to(self.precision))
        for parameter, update in zip(parameters, updates, strict=True):
            rows, columns = parameter.shape
            update = update if rows <= columns else update.T
            parameter.mul_(1 - lr * decay)
            parameter.add_(update, alpha=-lr * max(1, rows / columns) ** 0.5)

    def _average(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        return state["average"]


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of each matrix near 1 (about 0.7 to 1.2), keep its directions.

    Newton-Schulz iteration with the coefficients of Jordan et al. 2024.

    Args:
        matrices: (N, R, C) with R <= C.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT  # (N, R, R)
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x
