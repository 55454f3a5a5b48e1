"""Pages of small models, made by the tests themselves, and how tests read them."""

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
