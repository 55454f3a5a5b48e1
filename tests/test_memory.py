"""The memory of a training step and of sampling, estimated."""

import os
import re
import tracemalloc
from itertools import islice

import numpy as np
import pytest

from gpt.command.config_file import load_config
from gpt.config import ModelConfig
from gpt.errors import Exit, Mistake
from gpt.generation.generate import generate
from gpt.memory import (
    machine_memory,
    require_memory,
    require_sampling_memory,
    sample_memory,
)
from gpt.model import GPT
from gpt.paths import CONFIGS


@pytest.mark.parametrize(
    ("precision", "dropout", "fits"),
    [("fp32", 0.0, True), ("bf16", 0.0, False), ("fp32", 0.1, False)],
)
def test_the_squares_of_attention_are_counted_where_they_are_kept(
    monkeypatch: pytest.MonkeyPatch, precision: str, dropout: float, fits: bool
) -> None:
    """Only the fused kernel, which fp32 without dropout uses, does without them."""
    monkeypatch.setattr("gpt.memory.machine_memory", lambda: 10 * 2**30)
    long = {"train.device": "cpu", "train.precision": precision}
    long |= {"model.block_size": 8192, "model.dropout": dropout}
    config = load_config(CONFIGS / "tiny.yaml", long)
    if fits:
        require_memory(config, 65)
    else:
        with pytest.raises(Mistake, match=r"GiB of 10") as caught:
            require_memory(config, 65)
        assert caught.value.exit_code == Exit.USAGE


SIZES = {"n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 64, "positions": "rotary"}


@pytest.mark.parametrize("sizes", [{}, {"n_embd": 128}, {"n_layer": 8}, {"block_size": 256}])
def test_what_samples_need_is_estimated(sizes: dict[str, int]) -> None:
    """Up to a full context and beyond; with rotary positions, where numpy allocates all of it."""
    config, rows = ModelConfig.model_validate(SIZES | sizes), 50
    steps = generate(GPT(config, 65).eval(), np.zeros(1, np.int64), num_samples=rows, top_p=0.9)
    tracemalloc.start()
    for _ in islice(steps, config.block_size + 2):
        pass
    measured = tracemalloc.get_traced_memory()[1] / rows
    tracemalloc.stop()
    assert measured / 1.2 < sample_memory(config, 65) < measured * 1.6


@pytest.mark.parametrize("asked", [10**5, 2**63 - 1])
def test_more_samples_than_fit_are_refused_and_the_most_that_fit_are_named(
    monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    monkeypatch.setattr("gpt.memory.machine_memory", lambda: 2**30)
    config = ModelConfig.model_validate(SIZES)
    with pytest.raises(Mistake, match=r"MiB need about [\d,.]+ GiB; 0\.8 GiB can be") as caught:
        require_sampling_memory(config, 65, asked)
    assert caught.value.exit_code == Exit.USAGE
    (most,) = map(int, re.findall(r"--num-samples (\d+) or fewer", caught.value.fix))
    require_sampling_memory(config, 65, most)
    with pytest.raises(Mistake):
        require_sampling_memory(config, 65, most + 1)


def test_a_context_that_does_not_fit_once_has_no_number_of_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpt.memory.machine_memory", lambda: 4096)
    with pytest.raises(Mistake) as caught:
        require_sampling_memory(ModelConfig.model_validate(SIZES), 65, 1)
    assert "--num-samples" not in caught.value.fix


def test_the_machines_memory_is_counted_in_bytes() -> None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine_memory() == pytest.approx(pages, rel=0.01)
