"""Pages of small models, made by the tests themselves, and how tests read them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, build

from gpt.config import Config
from gpt.data.tokenizer import CharTokenizer
from gpt.explorer.export import Exhibit
from gpt.model import GPT
from gpt.storage.checkpoint import Checkpoint, Progress

LETTERS = "\n abcdefghi"  # as many as attention_models.V
TEXT = "a bad\ncab "
# what a careless page would take for markup, for a placeholder, or would turn around
TORTURE_TEXT = "{{script}}</script><!--{{data}}&\u2028\u202e'\"😀\té<b>"


def checkpoint_of(model: GPT, alphabet: str, step: int = 100) -> Checkpoint:
    config = Config.model_validate({"model": model.config.model_dump()})
    progress = Progress(step=step, val_loss=2.5)
    return Checkpoint(config, CharTokenizer(alphabet), progress, model.state_dict(), {})


def exhibit_of(variant: str, history: int = 0) -> Exhibit:
    """A page about one of the variants, with `history` other checkpoints."""
    checkpoint, *others = (
        checkpoint_of(build(VARIANTS[variant], seed), LETTERS, 100 - 10 * seed)
        for seed in range(history + 1)
    )
    return Exhibit(variant, checkpoint, TEXT, tuple(others))


def torture_exhibit() -> Exhibit:
    alphabet = "".join(sorted(set(TORTURE_TEXT)))
    model = GPT(Config().model.model_copy(update={"n_embd": 16, "n_layer": 2}), len(alphabet))
    return Exhibit("</script><b>&amp;", checkpoint_of(model, alphabet), TORTURE_TEXT)


def rounded(checkpoint: Checkpoint) -> GPT:
    """The model that the page has: its weights as 16-bit floats hold them."""
    model = checkpoint.make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def settle(page: Any) -> None:
    """Wait until what is out of sight is drawn too."""
    page.wait_for_timeout(450)


def wait_for_length(page: Any, length: int) -> None:
    """Wait until a text of `length` characters is read; the page's policy forbids Playwright's own
    way of waiting, which is to evaluate text as a program."""
    for _ in range(50):
        if page.evaluate("explorer.app.trace.T") == length:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"no text of {length} characters was read")


def numbers(page: Any, expression: str) -> torch.Tensor:
    """A Float32Array of the page."""
    return torch.tensor(page.evaluate(f"Array.from({expression})"), dtype=torch.float32)


def tokens_of(exhibit, text: str = TEXT) -> torch.Tensor:
    return torch.from_numpy(exhibit.checkpoint.tokenizer.encode(text).astype(np.int64))


def is_rounded(text: str, value: float) -> bool:
    """Is `text` what the page writes for `value`?"""
    plain = text.replace("\u00a0", "").replace("−", "-").removesuffix("×")
    if plain == "<0.1%":
        return 0 < value < 0.001
    if plain == "-∞":
        return value == -math.inf
    unit = 0.01 if plain.endswith("%") else 1.0
    plain = plain.removesuffix("%")
    decimals = len(plain.partition(".")[2])
    return abs(unit * float(plain) - value) <= 0.5 * unit * 10**-decimals + 1e-4 * unit


def axe_violations(page: Any, part: str = "html") -> list[str]:
    """What axe finds serious about a part of a page: its rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, part).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
