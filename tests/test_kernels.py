"""The derivatives written by hand, held against finite differences and torch's own functions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.kernels import relu_squared, rms_norm

EPS = 1e-6
OURS: dict[str, Callable[[Tensor], Tensor]] = {
    "rms_norm": lambda x: rms_norm(x, EPS),
    "relu_squared": relu_squared,
}
TORCHS: dict[str, Callable[[Tensor], Tensor]] = {
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:], eps=EPS),
    "relu_squared": lambda x: F.relu(x).square(),
}
each = pytest.mark.parametrize("name", OURS)


@each
def test_the_derivative_is_that_of_finite_differences(name: str) -> None:
    x = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(OURS[name], x)


@each
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])  # at 1e-4 eps is felt
@pytest.mark.parametrize("strided", [False, True])
def test_it_is_torchs(name: str, scale: float, strided: bool) -> None:
    data = scale * torch.randn(4, 6, 8)
    gradient = torch.randn(4, 6, 8)
    if strided:  # as the heads' queries are
        data, gradient = data.transpose(0, 1), gradient.transpose(0, 1)
    results = []
    for function in (OURS[name], TORCHS[name]):
        x = data.clone().requires_grad_()
        y = function(x)
        y.backward(gradient)
        assert x.grad is not None
        results.append((y.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=2e-5, atol=1e-5 * scale)


@each
def test_a_row_of_zeros_stays_finite(name: str) -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = OURS[name](x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(y, torch.zeros(2, 4))
    assert x.grad.isfinite().all()


@pytest.fixture
def cudas_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vector_norm` computes in fp32, as autocast on CUDA makes it."""
    vector_norm = torch.linalg.vector_norm

    def in_fp32(x: Tensor, **keys: Any) -> Tensor:
        return vector_norm(x.float(), **keys)

    monkeypatch.setattr(torch.linalg, "vector_norm", in_fp32)


def norm_in_bf16(device: str) -> tuple[Tensor, Tensor]:
    """`rms_norm` of bf16 under autocast, and its gradient."""
    x = torch.randn(3, 8, device=device).bfloat16().requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        y = rms_norm(x, EPS)
    y.sum().backward()
    assert x.grad is not None
    return y, x.grad


def test_bf16_stays_bf16_under_autocast() -> None:
    assert {tensor.dtype for tensor in norm_in_bf16("cpu")} == {torch.bfloat16}


@pytest.mark.usefixtures("cudas_autocast")
def test_bf16_stays_bf16_where_autocast_takes_the_norm_in_fp32() -> None:
    assert {tensor.dtype for tensor in norm_in_bf16("cpu")} == {torch.bfloat16}


@pytest.mark.gpu
def test_bf16_stays_bf16_under_autocast_on_a_gpu() -> None:
    assert {tensor.dtype for tensor in norm_in_bf16("cuda")} == {torch.bfloat16}
