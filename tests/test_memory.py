"""The memory of a training step, estimated."""

import pytest

from gpt.command.config_file import load_config
from gpt.errors import Exit, Mistake
from gpt.paths import CONFIGS
from gpt.training.memory import require_memory


@pytest.mark.parametrize(
    ("precision", "dropout", "fits"),
    [("fp32", 0.0, True), ("bf16", 0.0, False), ("fp32", 0.1, False)],
)
def test_the_squares_of_attention_are_counted_where_they_are_kept(
    monkeypatch: pytest.MonkeyPatch, precision: str, dropout: float, fits: bool
) -> None:
    """Only the fused kernel, which fp32 without dropout uses, does without them."""
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 10 * 2**18, "SC_PAGE_SIZE": 4096}.get)
    long = {"train.device": "cpu", "train.precision": precision}
    long |= {"model.block_size": 8192, "model.dropout": dropout}
    config = load_config(CONFIGS / "tiny.yaml", long)
    if fits:
        require_memory(config, 65)
    else:
        with pytest.raises(Mistake, match=r"GiB of 10") as caught:
            require_memory(config, 65)
        assert caught.value.exit_code == Exit.USAGE
