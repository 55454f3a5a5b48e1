"""Whether a training step fits into memory, estimated before anything is allocated."""

import os

from gpt.config import Config
from gpt.device import find_device, uses_bf16
from gpt.errors import Exit, Mistake


def require_memory(config: Config, vocab_size: int) -> None:
    """Refuse a run on the CPU whose training step needs more than the machine's memory.

    Raises:
        Mistake: with exit code 2, naming the sizes.
    """
    parameters, needed = step_memory(config, vocab_size)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if find_device(config.train.device).type == "cpu" and needed > there:
        rows = config.train.batch_size // config.train.accumulate
        what = (
            f"{parameters:,} parameters and a batch of {rows} × {config.model.block_size} "
            f"characters need about {needed / 2**30:,.0f} GiB of {there / 2**30:,.0f}"
        )
        fix = "lower the model's sizes or train.batch_size, or raise train.accumulate"
        raise Mistake(Exit.USAGE, what, fix)


def step_memory(config: Config, vocab_size: int) -> tuple[int, int]:
    """About how many parameters a model has, and bytes a training step needs.

    Four floats a parameter: weight, gradient, two optimizer moments. Each character keeps its
    activations for the backward pass: 24 C a block, 4 C around the blocks, three times the logits.
    The form is that of Korthikanti et al. 2022, "Reducing activation recomputation in large
    transformer models", section 4; the constants are for this model in fp32.
    """
    model, V = config.model, vocab_size
    C = model.n_embd or V
    parameters = 12 * model.n_layer * C**2 + (2 * V + model.block_size) * C
    rows = config.train.batch_size // config.train.accumulate
    per_character = 3 * V + (4 + 24 * model.n_layer) * C
    if model.dropout or uses_bf16(config):  # then attention's weights are kept; counted in 16 bits
        per_character += model.n_layer * model.n_head * model.block_size // 2
    return parameters, 4 * (4 * parameters + rows * model.block_size * per_character)
