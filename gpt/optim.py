"""Optimizers, and the learning-rate schedule as a pure function of the step."""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gpt.config import TrainConfig


def lr_factor(step: int, config: TrainConfig) -> float:
    """What the learning rates of `config` are multiplied by in step `step`, counted from 0.

    Linear warm-up, a plateau at lr_scale, then decay towards zero, which no step reaches.
    """
    scale = config.lr_scale or 1.0
    if step < config.warmup_steps:
        return scale * (step + 1) / (config.warmup_steps + 1)
    after_warmup = config.max_steps - config.warmup_steps
    falling = max(1, min(round(config.decay_fraction * config.max_steps), after_warmup))
    left = min(1.0, max(0, config.max_steps - step) / falling)  # 1 at the plateau's end, then falls
    shapes = {"none": 1.0, "linear": left, "cosine": math.sin(math.pi / 2 * left) ** 2}
    return scale * shapes[config.decay]


class Optimizer:
    """Parameters, their learning rate, and the state that an update keeps for each of them.

    Not torch.optim.Optimizer: its first use imports torch's compiler, which takes longer than
    everything else between the command and the first step.

    Args:
        lr: the peak learning rate; see `set_lr`.
    """

    lr_key: str  # of the peak learning rate in TrainConfig, of the current one in metrics.jsonl
    state_names: tuple[str, ...]  # of the tensors that `step` keeps for each parameter

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float):
        self.parameters, self.weight_decay = list(parameters), weight_decay
        self.peak_lr = self.lr = lr
        self.state: dict[Tensor, dict[str, Tensor]] = {p: {} for p in self.parameters}

    def step(self) -> None:
        """Update each parameter by its gradient."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _states(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """The state tensor `name` of each parameter, zeros at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = parameter.new_zeros(_state_shape(name, parameter))
        return [self.state[parameter][name] for parameter in parameters]


def _state_shape(name: str, parameter: Tensor) -> torch.Size:
    return torch.Size() if name == "step" else parameter.shape


def make_optimizers(model: nn.Module, config: TrainConfig, bf16: bool = False) -> list[Optimizer]:
    """AdamW for everything or, with `muon`, for all but the matrices inside the blocks.

    Args:
        bf16: Muon orthogonalises in bf16.
    """
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_muons = config.optimizer == "muon" and _is_matrix_of_a_block(name, parameter)
        (matrices if is_muons else others).append(parameter)
    betas = (config.beta1, config.beta2)
    adamw = AdamW(others, config.learning_rate, config.weight_decay, betas)
    if not matrices:
        return [adamw]
    precision = torch.bfloat16 if bf16 else torch.float32
    return [adamw, Muon(matrices, config.muon_learning_rate, config.weight_decay, precision)]


def _is_matrix_of_a_block(name: str, parameter: Tensor) -> bool:
    return name.startswith("blocks.") and parameter.ndim == 2


def set_lr(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set every learning rate to its peak times `factor`; see `lr_factor`."""
    for optimizer in optimizers:
        optimizer.lr = optimizer.peak_lr * factor


def optimizer_state(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[str, Tensor]:
    """The optimizers' state as a flat dictionary, `<parameter>/<state>`, for a checkpoint."""
    names = _names(model)
    return {
        f"{names[parameter]}/{state}": tensor
        for optimizer in optimizers
        for parameter, states in optimizer.state.items()
        for state, tensor in states.items()
    }


def optimizer_state_shapes(model: nn.Module, config: TrainConfig) -> dict[str, torch.Size]:
    """Names and shapes of `optimizer_state` after a step."""
    names = _names(model)
    return {
        f"{names[parameter]}/{state}": _state_shape(state, parameter)
        for optimizer in make_optimizers(model, config)
        for parameter in optimizer.parameters
        for state in optimizer.state_names
    }


def _names(model: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def load_optimizer_state(
    model: nn.Module, optimizers: Iterable[Optimizer], state: dict[str, Tensor]
) -> None:
    """Restore what `optimizer_state` gave."""
    parameters = dict(model.named_parameters())
    owner = {p: optimizer for optimizer in optimizers for p in optimizer.parameters}
    for key, tensor in state.items():
        parameter_name, state_name = key.split("/")
        parameter = parameters[parameter_name]
        owner[parameter].state[parameter][state_name] = tensor.clone().to(parameter.device)


class AdamW(Optimizer):
    """Each weight moves by its gradient's mean over the root of its gradient's mean square.

    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2. Only matrices
    decay: a bias or a norm's scale has no reason to be small.

    Args:
        betas: decay of the two running means.
    """

    lr_key = "learning_rate"
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
    ):
        super().__init__(parameters, lr, weight_decay)
        self.betas = betas

    @torch.no_grad()
    def step(self) -> None:
        matrices = [p for p in self.parameters if p.grad is not None and p.ndim == 2]
        vectors = [p for p in self.parameters if p.grad is not None and p.ndim != 2]
        for parameters, decay in ((matrices, self.weight_decay), (vectors, 0.0)):
            if parameters:
                self._step_alike(parameters, decay)

    def _step_alike(self, parameters: list[Tensor], weight_decay: float) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        steps, means, squares = (self._states(name, parameters) for name in self.state_names)
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            parameters, gradients, means, squares, [], steps,
            lr=self.lr, beta1=self.betas[0], beta2=self.betas[1], eps=1e-8,
            weight_decay=weight_decay, amsgrad=False, maximize=False,
        )  # fmt: skip


class Muon(Optimizer):
    """Momentum whose update is orthogonalised, so that all directions of a matrix move alike.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". torch has one
    too; this one orthogonalises all matrices of a shape at once, several times faster on a CPU.

    Args:
        parameters: matrices only.
        precision: in which an update is orthogonalised.
    """

    lr_key = "muon_learning_rate"
    state_names = ("average",)  # the momentum buffer, as checkpoints name it

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        precision: torch.dtype = torch.float32,
        momentum: float = 0.9,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.precision, self.momentum = precision, momentum

    @torch.no_grad()
    def step(self) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for parameter in self.parameters:
            if parameter.grad is not None:
                rows, columns = parameter.shape
                by_shape[min(rows, columns), max(rows, columns)].append(parameter)
        for alike in by_shape.values():
            self._step_alike(alike)

    def _step_alike(self, parameters: list[Tensor]) -> None:
        """Update matrices of one shape or its transpose."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = self._states("average", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, momenta, self.momentum)  # Nesterov momentum
        wide = torch.stack([m if m.shape[0] <= m.shape[1] else m.T for m in ahead])
        updates = orthogonalise(wide.to(self.precision))
        for parameter, update in zip(parameters, updates, strict=True):
            rows, columns = parameter.shape
            update = update if rows <= columns else update.T
            parameter.mul_(1 - self.lr * self.weight_decay)
            parameter.add_(update, alpha=-self.lr * max(1, rows / columns) ** 0.5)


# a, b, c of a x + b x³ + c x⁵. Each is the polynomial of this form that is nearest to 1 on the
# range to which those before it map [0.001, 1] (Amsel et al. 2025, "The Polar Express", section 3)
_POLYNOMIALS = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1; keep its singular vectors.

    A singular value of at least a thousandth of the matrix's norm ends between 0.12 and 1.9. More
    steps would bring it nearer to 1, but training was no better for it.

    Args:
        matrices: (N, R, C) with R <= C.
    """
    norm = matrices.norm(dim=(-2, -1), keepdim=True)
    x = matrices / (1.02 * norm + 1e-7)  # below 1 in bf16 too: above 1 they diverge
    for a, b, c in _POLYNOMIALS:
        gram = x @ x.mT  # (N, R, R)
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x
