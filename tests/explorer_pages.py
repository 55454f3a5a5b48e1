"""Pages of small models, made by the tests themselves."""

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
