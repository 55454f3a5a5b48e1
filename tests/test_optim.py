"""The learning rate's properties, the groups, and Muon against one matrix at a time."""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT
from gpt.optim import (
    AdamW,
    Muon,
    load_optimizer_state,
    lr_factor,
    make_optimizers,
    optimizer_state,
    orthogonalise,
    set_lr,
)

V = 7

# --- the learning rate -------------------------------------------------------------------------

schedules = st.builds(
    lambda **keys: TrainConfig(**keys),
    max_steps=st.integers(1, 5000),
    warmup_steps=st.integers(0, 400),
    decay=st.sampled_from(["none", "linear", "cosine"]),
    decay_fraction=st.floats(0, 1),
)


@given(schedules, st.data())
def test_lr_is_never_zero_and_never_above_the_peak(config: TrainConfig, data: Any) -> None:
    step = data.draw(st.integers(0, config.max_steps - 1))
    assert 0 < lr_factor(step, config) <= 1


@given(schedules)
def test_lr_rises_in_a_straight_line_to_the_peak(config: TrainConfig) -> None:
    steps = min(config.warmup_steps, config.max_steps)
    shares = [lr_factor(step, config) for step in range(steps)]
    slope = 1 / (config.warmup_steps + 1)
    assert shares == pytest.approx([slope * (step + 1) for step in range(steps)])


@given(schedules)
def test_lr_does_not_jump_when_the_rise_ends(config: TrainConfig) -> None:
    assume(config.warmup_steps < config.max_steps)
    assert lr_factor(config.warmup_steps, config) == 1


@given(schedules)
def test_lr_never_rises_again(config: TrainConfig) -> None:
    assume(config.warmup_steps < config.max_steps)
    steps = range(config.warmup_steps, config.max_steps)
    shares = [lr_factor(step, config) for step in steps]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("warmup_steps", [0, 100])
@pytest.mark.parametrize(
    ("decay", "quarter", "last"),
    [("linear", 0.75, 1 / 400), ("cosine", 0.5 + 0.5 * 0.5**0.5, 1.5e-5)],
)
def test_lr_plateau_then_fall(decay: Any, quarter: float, last: float, warmup_steps: int) -> None:
    config = TrainConfig(max_steps=1000, warmup_steps=warmup_steps, decay=decay, decay_fraction=0.4)
    assert [lr_factor(step, config) for step in (warmup_steps, 300, 599, 600)] == [1] * 4
    assert lr_factor(601, config) < 1
    assert lr_factor(700, config) == pytest.approx(quarter)
    assert lr_factor(800, config) == pytest.approx(0.5)
    assert lr_factor(999, config) == pytest.approx(last, rel=0.03)


def test_lr_without_a_fall_stays() -> None:
    config = TrainConfig(max_steps=10, decay="none")
    assert [lr_factor(step, config) for step in range(10)] == [1] * 10
    assert lr_factor(9, config.model_copy(update={"decay": "linear", "decay_fraction": 0.0})) == 1


@given(schedules, st.integers(0, 5000))
def test_lr_scale_multiplies_the_rate_of_every_step(config: TrainConfig, step: int) -> None:
    scaled = config.model_copy(update={"lr_scale": 0.1})
    assert lr_factor(step, scaled) == pytest.approx(0.1 * lr_factor(step, config))


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_lr_of_a_very_long_run_is_not_zero(decay: Any) -> None:
    config = TrainConfig(max_steps=10**12, decay=decay)
    assert lr_factor(10**12 - 1, config) > 0


# --- groups ------------------------------------------------------------------------------------


def made(**keys: Any) -> GPT:
    torch.manual_seed(0)
    config = {"block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, **keys}
    return GPT(ModelConfig(**config), V)


def with_gradients(model: GPT, seed: int = 1) -> GPT:
    chance = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=chance)
    return model


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_decay_is_for_matrices_alone_and_by_the_current_rate(optimizer: Any, share: float) -> None:
    model = made(token_shift=True)
    torch.nn.init.normal_(model.token_shift)  # at zero it would show no decay
    config = TrainConfig(optimizer=optimizer, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    parts = make_optimizers(model, config)
    set_lr(parts, share)
    for part in parts:
        part.step()
    for name, p in model.named_parameters():
        inside = optimizer == "muon" and name.startswith("blocks.") and p.ndim == 2
        rate = config.muon_learning_rate if inside else config.learning_rate
        kept = 1 - rate * share * 0.5 if p.ndim == 2 else 1.0
        torch.testing.assert_close(p.detach(), before[name] * kept, msg=f"{name}: not x {kept}")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_weight_has_one_optimizer(optimizer: Any) -> None:
    model = made(token_shift=True)
    parts = make_optimizers(model, TrainConfig(optimizer=optimizer))
    owned = [p for part in parts for p in part.parameters]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))
    turned = {id(p) for part in parts if isinstance(part, Muon) for p in part.parameters}
    blocks = {id(p) for p in model.blocks.parameters() if p.ndim == 2}
    assert turned == (blocks if optimizer == "muon" else set())


def test_each_optimizer_has_its_own_rate_and_the_same_decay() -> None:
    config = TrainConfig(
        optimizer="muon", learning_rate=0.1, muon_learning_rate=0.2, weight_decay=0.3
    )
    found = [(type(p), p.lr, p.weight_decay) for p in make_optimizers(made(), config)]
    assert found == [(AdamW, 0.1, 0.3), (Muon, 0.2, 0.3)]


@pytest.mark.parametrize(("bf16", "precision"), [(False, torch.float32), (True, torch.bfloat16)])
def test_muon_orthogonalises_in_the_precision_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, precision: torch.dtype
) -> None:
    seen: list[torch.dtype] = []

    def noted(matrices: Tensor) -> Tensor:
        seen.append(matrices.dtype)
        return orthogonalise(matrices)

    monkeypatch.setattr("gpt.optim.orthogonalise", noted)
    for part in make_optimizers(with_gradients(made()), TrainConfig(optimizer="muon"), bf16):
        part.step()
    assert set(seen) == {precision}


def test_muon_without_a_matrix_is_adamw() -> None:
    (only,) = make_optimizers(made(n_layer=0), TrainConfig(optimizer="muon"))
    assert isinstance(only, AdamW)


def test_adamw_is_the_formula() -> None:
    """Kingma & Ba's update with decoupled decay, three steps by hand."""
    model = with_gradients(made())
    config = TrainConfig(learning_rate=0.1, beta1=0.8, beta2=0.9, weight_decay=0.3)
    (adamw,) = make_optimizers(model, config)
    weight = model.token_embedding.weight
    expected = weight.detach().clone()
    mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
    for step, share in ((1, 1.0), (2, 0.5), (3, 0.8)):
        g = with_gradients(model, seed=step).token_embedding.weight.grad.clone()
        set_lr([adamw], share)
        adamw.step()
        mean, square = 0.8 * mean + 0.2 * g, 0.9 * square + 0.1 * g * g
        expected *= 1 - 0.1 * share * 0.3
        away = (square / (1 - 0.9**step)).sqrt() + 1e-8
        expected -= 0.1 * share * mean / (1 - 0.8**step) / away
    torch.testing.assert_close(weight.detach(), expected)


def test_a_gradient_of_the_size_of_eps_moves_a_weight_by_half_the_rate() -> None:
    weight = torch.zeros(3, requires_grad=True)
    weight.grad = torch.full((3,), 1e-8)
    AdamW([weight], lr=0.1, weight_decay=0.0, betas=(0.9, 0.99)).step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), -0.05))


# --- Muon --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "error"), [(torch.float32, 1e-3), (torch.bfloat16, 0.8)])
@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 1000))
def test_orthogonalise_brings_singular_values_near_one(
    precision: torch.dtype, error: float, rows: int, more: int, seed: int
) -> None:
    torch.manual_seed(seed)
    U, _, Vt = torch.linalg.svd(torch.randn(rows, rows + more), full_matrices=False)
    spread = 10 ** -(2 * torch.rand(rows))  # the smallest is a hundredth of the largest, at least
    (result,) = orthogonalise((U * spread @ Vt * 17.0).to(precision)[None]).float()
    inner = U.T @ result @ Vt.T  # in the matrix's own directions the result is diagonal
    assert 0.12 - error < inner.diagonal().min() <= inner.diagonal().max() < 1.9 + error
    torch.testing.assert_close(inner, inner.diagonal().diag(), atol=error, rtol=0)


def test_orthogonalise_takes_each_matrix_for_itself() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 4, 6) * torch.tensor([1.0, 50.0, 0.01])[:, None, None]
    together = orthogonalise(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonalise(matrix[None])[0])
    assert orthogonalise(torch.zeros(1, 2, 3)).isfinite().all()


POLYNOMIALS = [(8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518)]


@pytest.mark.parametrize("number", [0.0, 1e-8, 1e-7, -1e-6, 1.0, -3e4])
def test_of_a_single_number_it_is_the_polynomials(number: float) -> None:
    """A number far below 1e-7 stays small: it is rounding, and says nothing of a direction."""
    expected = number / (1.02 * abs(number) + 1e-7)
    for a, b, c in POLYNOMIALS:
        expected = a * expected + b * expected**3 + c * expected**5
    assert float(orthogonalise(torch.tensor([[[number]]]))) == pytest.approx(expected, rel=1e-4)


def test_muon_is_one_matrix_at_a_time() -> None:
    """Jordan's update written plainly for one matrix: wide, tall and square ones, three steps."""

    def near_orthogonal(m: Tensor) -> Tensor:
        if m.shape[0] > m.shape[1]:
            return near_orthogonal(m.T).T
        U, S, Vt = torch.linalg.svd(m / m.norm() / 1.02, full_matrices=False)
        for a, b, c in POLYNOMIALS:
            S = a * S + b * S**3 + c * S**5
        return U @ S.diag() @ Vt

    torch.manual_seed(0)
    shapes = [(4, 4), (8, 4), (4, 8), (4, 8), (4, 4)]
    parameters = [torch.randn(shape, requires_grad=True) for shape in shapes]
    plain = [p.detach().clone() for p in parameters]
    momentum = [torch.zeros(shape) for shape in shapes]
    muon = Muon(parameters, lr=0.1, weight_decay=0.2)  # and the momentum that training has
    for _ in range(3):
        for i, p in enumerate(parameters):
            p.grad = g = torch.randn(p.shape)
            momentum[i] = 0.9 * momentum[i] + 0.1 * g
            update = near_orthogonal(0.1 * g + 0.9 * momentum[i])
            tall = max(1, p.shape[0] / p.shape[1])
            plain[i] = plain[i] * (1 - 0.1 * 0.2) - 0.1 * math.sqrt(tall) * update
        muon.step()
    for p, expected in zip(parameters, plain, strict=True):
        torch.testing.assert_close(p.detach(), expected, atol=1e-4, rtol=1e-4)


# --- what a checkpoint keeps -------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_averages_come_back(optimizer: Any) -> None:
    config = TrainConfig(optimizer=optimizer)
    model, twin = with_gradients(made()), with_gradients(made())
    parts, twins = make_optimizers(model, config), make_optimizers(twin, config)
    for part in parts:
        part.step()
    twin.load_state_dict(model.state_dict())
    kept = {name: tensor.clone() for name, tensor in optimizer_state(model, parts).items()}
    load_optimizer_state(twin, twins, kept)
    for part in parts + twins:
        part.step()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q), name
    again = optimizer_state(model, parts)
    assert again.keys() == optimizer_state(twin, twins).keys() == kept.keys()
    assert all(not torch.equal(again[key], kept[key]) for key in kept)  # a copy, not the same
