"""Which device and precision a run uses, and whether its loss is compiled."""

from collections.abc import Callable

import torch
from torch import Tensor

from gpt.config import Config
from gpt.errors import Exit, Mistake


def find_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA where there is one, else the CPU.

    MPS, Apple's GPU, is never chosen: no run's bytes or speed were measured on it, and the default
    models are so small that a CPU may be faster. `mps` asks for it.

    Raises:
        Mistake: with exit code 2 if there is no such device.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(best)
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    there = {kind for kind, number in count.items() if number}
    there |= {f"{kind}:{i}" for kind, number in count.items() for i in range(number)}
    if name not in there:  # by its name: torch reads cuda:256 as cuda:0
        known = ", ".join(f"{kind} ({number})" for kind, number in count.items() if number)
        what = f"device {name} is not there; this machine has {known}"
        raise Mistake(Exit.USAGE, what, "use --device auto")
    return torch.device(name)


def use_device(name: str) -> torch.device:
    """`find_device`, made the current one: to be called before anything is put there.

    torch allocates pinned memory, and whatever names no GPU, on the current one, which is the
    first until another is set.

    Raises:
        Mistake: as `find_device`.
    """
    device = find_device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """`cpu`, or the model of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def uses_bf16(config: Config) -> bool:
    """Whether the forward pass runs in bf16.

    By default it does on GPUs that have it, and on CPUs with instructions for it if the matrices
    are large enough to be most of the work.
    """
    if config.train.precision != "auto":
        return config.train.precision == "bf16"
    device = find_device(config.train.device)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        has_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return bool(has_bf16) and config.model.n_embd >= 128
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):  # torch asks the current one
        return torch.cuda.is_bf16_supported(including_emulation=False)


def compiled(
    loss_of: Callable[..., Tensor], *batch: Tensor, say: Callable[[str], None]
) -> Callable[..., Tensor]:
    """`loss_of`, compiled by a first batch with its gradient; uncompiled where that fails.

    Args:
        say: is called with the reason then.
    """
    found = torch.compile(loss_of)
    try:
        found(*batch).backward()
    except Exception as problem:  # a compiler, driver or tool that is missing or too old
        reason = " ".join(str(problem).split()) or type(problem).__name__
        say(f"train.compile failed, going on without it: {reason[:200]}")
        return loss_of
    return found
