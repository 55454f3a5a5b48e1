"""A normalisation made linear: its scale is held at what it was on one text.

LayerNorm and RMSNorm divide by a number that depends on the whole vector. With that number held,
the map is linear: each part of the residual stream passes through it by itself, and the parts still
add up (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", "Handling layer
normalization").
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from gpt.model import RMS_EPS, RMSNorm


@dataclass(frozen=True)
class FrozenNorm:
    """y = (x - mean, if centred) * scale * gain + bias, the scale held; call it without the bias.

    Attributes:
        scale: (..., 1), one number for each vector that was normalised.
        gain: (C,) or None where nothing is learned.
        bias: (C,) or None; a part of its own, which the caller names.
    """

    scale: Tensor
    gain: Tensor | None = None
    bias: Tensor | None = None
    centred: bool = False

    def __call__(self, part: Tensor) -> Tensor:
        """The map of a part (..., C) of the normalised vectors; linear."""
        if self.centred:
            part = part - part.mean(-1, keepdim=True)
        part = part * self.scale
        return part if self.gain is None else part * self.gain


def freeze(norm: nn.Module, x: Tensor) -> FrozenNorm:
    """The map that `norm` is at x (..., C): freeze(norm, x)(x) + its bias == norm(x).

    Raises:
        TypeError: for a module that is no normalisation of `gpt.model`.
    """
    if isinstance(norm, nn.LayerNorm):
        scale = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps)
        return FrozenNorm(scale, norm.weight.detach(), norm.bias.detach(), centred=True)
    if isinstance(norm, RMSNorm):
        return FrozenNorm(torch.rsqrt(x.square().mean(-1, keepdim=True) + RMS_EPS))
    if isinstance(norm, nn.Identity):
        return FrozenNorm(torch.ones_like(x[..., :1]))
    raise TypeError(f"cannot hold the scale of a {type(norm).__name__}")
