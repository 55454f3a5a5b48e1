"""Which device and precision a run uses, and whether it fits there."""

import os

import torch

from gpt.config import Config
from gpt.errors import Exit, Mistake


def find_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA if it is there, else the CPU.

    Raises:
        Mistake: with exit code 2 if there is no such device.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= there.get(device.type, 0):
        what = f"device {name} is not there; this machine has {_devices(there)}"
        raise Mistake(Exit.USAGE, what, "use --device auto")
    return device


def device_name(device: torch.device) -> str:
    """What computes: `cpu`, or which make of GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _devices(there: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in there.items() if count)


def uses_bf16(config: Config) -> bool:
    """Whether the forward pass runs in bf16."""
    if config.train.precision != "auto":
        return config.train.precision == "bf16"
    device = find_device(config.train.device).type
    if device == "cpu":  # with instructions for it, and matrices large enough to be the work
        there = torch.cpu.get_capabilities()
        has_bf16 = there.get("avx512_bf16") or there.get("amx_bf16")
        return bool(has_bf16) and config.model.n_embd >= 128
    return device == "cuda" and torch.cuda.is_bf16_supported()


def check_size(config: Config, vocab_size: int) -> None:
    """Refuse what cannot be trained here.

    Raises:
        Mistake: with exit code 2 if the machine's memory cannot hold a training step.
    """
    model, V = config.model, vocab_size
    C = model.n_embd or V
    parameters = (
        12 * model.n_layer * C**2 + (2 * V + model.block_size) * C
    )  # the lecture's have less
    rows = config.train.batch_size // config.train.accumulate
    per_character = 3 * V + (4 + 24 * model.n_layer) * C
    if model.dropout or uses_bf16(config):  # then attention's weights are kept, in bf16 or so
        per_character += model.n_layer * model.n_head * model.block_size // 2
    needed = 4 * (4 * parameters + rows * model.block_size * per_character)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if find_device(config.train.device).type == "cpu" and needed > there:
        what = (
            f"{parameters:,} parameters and a batch of {rows} × {model.block_size} "
            f"characters need about {needed / 2**30:,.0f} GiB of {there / 2**30:,.0f}"
        )
        fix = "lower the model's sizes or train.batch_size, or raise train.accumulate"
        raise Mistake(Exit.USAGE, what, fix)
