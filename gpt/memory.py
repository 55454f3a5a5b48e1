"""Whether a training step or a sampling fits into memory, estimated before it is allocated."""

import psutil

from gpt.config import Config, ModelConfig
from gpt.device import find_device, uses_bf16
from gpt.errors import Exit, Mistake


def require_memory(config: Config, vocab_size: int) -> None:
    """Refuse a run on the CPU whose training step needs more than the machine's memory.

    Raises:
        Mistake: with exit code 2, naming the sizes.
    """
    parameters, needed = step_memory(config, vocab_size)
    there = machine_memory()
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


def require_sampling_memory(config: ModelConfig, vocab_size: int, num_samples: int) -> None:
    """Refuse more samples side by side than the machine's memory holds.

    A quarter of it is left to the model, the program and the system.

    Raises:
        Mistake: with exit code 2, naming the sizes and how many samples fit.
    """
    each, there = sample_memory(config, vocab_size), machine_memory() * 3 // 4
    if num_samples * each > there:
        what = (
            f"{num_samples:,} samples of {each / 2**20:,.2f} MiB need about "
            f"{num_samples * each / 2**30:,.1f} GiB; {there / 2**30:,.1f} GiB can be used"
        )
        most = there // each
        fix = f"--num-samples {most} or fewer" if most else "use a machine with more memory"
        raise Mistake(Exit.USAGE, what, fix)


def sample_memory(config: ModelConfig, vocab_size: int) -> int:
    """About how many bytes each of several samples written side by side needs.

    The KV cache of gpt/generation/decoder.py and what moves in it when the context is full, the
    layers' vectors, the sampler's probabilities, a random generator with its numbers.
    """
    C, T, V = config.n_embd or vocab_size, config.block_size, vocab_size
    cache = 4 * 2 * T * C * config.n_layer
    moved = 4 * 2 * T * C * (4 if config.positions == "learned" else 1)  # learned: prefilled anew
    vectors = 4 * (12 * C + 3 * config.n_head * T)
    return cache + moved + vectors + 8 * T + 60 * V + 6 * 2**10


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return psutil.virtual_memory().total
