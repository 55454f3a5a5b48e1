"""Two functions of the model with hand-written derivatives, which take fewer passes over memory.

On a CPU, torch composes both of simple operations and keeps what each needs for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) over the last dimension: `F.rms_norm` without a learned scale."""
    out: Tensor = _RMSNorm.apply(x, eps)
    return out


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)² (So et al. 2021, "Primer", section 3)."""
    out: Tensor = _ReLUSquared.apply(x)
    return out


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()  # (..., 1)
        scale = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        scale = scale.to(x.dtype)  # autocast on CUDA gives the norm of bf16 in fp32
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        [gradient], (y, scale) = gradients, ctx.saved_tensors
        along = (gradient * y).mean(
            dim=-1, keepdim=True
        )  # the part along x changes only its length
        return torch.addcmul(gradient, y, along, value=-1).mul_(scale), None


class _ReLUSquared(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y * y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        [gradient], (y,) = gradients, ctx.saved_tensors
        return (gradient * y).mul_(2)
