"""What the README shows is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt import attention
from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.model import GPT
from gpt.paths import PROJECT
from gpt.training.run import train_new

README = (PROJECT / "README.md").read_text("utf-8")


def test_the_notebook_section(toy_config: Config, tmp_path: Path) -> None:
    keys = {"model.n_layer": 3, "model.block_size": 40, "run.dir": str(tmp_path / "runs" / "mine")}
    assert train_new(overridden(toy_config, keys), "toy") == 0
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown: dict[str, Any] = {}
    exec(code, shown)
    model, ids = shown["model"], torch.from_numpy(shown["ids"]).long()[None]
    scores = scores_by_hand(model, ids)
    assert float(scores[36, 35]) == pytest.approx(shown["parts"].score, abs=1e-5)
    names, of_query, of_key = zip(*shown["sums"], strict=True)
    assert names[:4] == ("character", "position", "L1H1", "L1H2")
    for side in (of_query, of_key):
        assert float(sum(side)) == pytest.approx(shown["parts"].score, abs=1e-5)
    future = torch.full_like(scores, -torch.inf).triu(1)
    torch.testing.assert_close(shown["weights"], (scores + future).softmax(-1))
    assert shown["rule"].shape == (model.vocab_size, model.vocab_size)
    assert shown["costs"].shape == (3, 2)


def test_the_notebook_api_documents_what_it_offers_and_needs_no_matplotlib() -> None:
    for name in attention.__all__:
        assert re.search(rf"^    {name}\(", attention.__doc__ or "", re.MULTILINE), name
        assert getattr(attention, name).__doc__
    code = "import sys, gpt.attention; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


@torch.no_grad()
def scores_by_hand(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    """Scores (T, T) of L3H1, from the model's parts."""
    *_, x, _ = model.walk(model.embed(ids))  # what the third block reads
    x, head = model.blocks[2].attention_norm(x)[0], slice(0, 8)
    attention = model.blocks[2].attention
    return (x @ attention.query.weight[head].T) @ (x @ attention.key.weight[head].T).T / 8**0.5
