"""The attention page with a model in it: one HTML file that needs no network.

The page's own parts (page.html, page.css and the scripts) lie beside this file. The model travels
as JSON: config, alphabet, weights as 16-bit floats, and torch's logits, with which the page
compares its own.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt.attention.glyphs import VISIBLE
from gpt.attention.trace import as_tokens, trace, weights_by_layer
from gpt.data.tokenizer import UnknownCharacter
from gpt.errors import Exit, Mistake
from gpt.explorer.bundle import bundle
from gpt.explorer.lesson import notes_lesson
from gpt.explorer.lines import source_lines
from gpt.model import GPT
from gpt.storage.checkpoint import Checkpoint, load_checkpoint
from gpt.storage.find import find_checkpoint
from gpt.storage.manifest import step_of
from gpt.storage.run_directory import checkpoints_of, newest_run

HERE = Path(__file__).parent
MOST_PARAMETERS = 3_000_000  # above it, the file holds the text's traces instead of the weights
MOST_TEXT = 1024  # characters of a text: time and memory grow with their square
MOST_LOGITS = 2**17  # of torch's, to compare with
MOST_HISTORY = 600_000  # weights and logits of other checkpoints: some 0.9 MB
MOST_STEPS = 24  # other checkpoints


@dataclass(frozen=True)
class Exhibit:
    """What a page shows: a checkpoint, a text, and the same run at other steps."""

    name: str  # of the run
    checkpoint: Checkpoint
    text: str
    history: tuple[Checkpoint, ...] = ()


def find_exhibit(
    name: str | None,
    text: str | None,
    say: Callable[[str], None],
    siblings: Callable[[Path], list[Path]] = checkpoints_of,
) -> Exhibit:
    """The checkpoint that `name` means (see `find_checkpoint`), with others of its run beside it.

    Args:
        text: what the page opens with; by default the run's log.probe.
        say: is told of checkpoints that cannot be read.
        siblings: gives the checkpoints of a run that may be read.
    """
    path = newest_run() if name is None else Path(name)
    checkpoint = find_checkpoint(str(path), say)
    text = encodable(checkpoint, default_text(checkpoint) if text is None else text)
    path = path.resolve()
    run = path.parents[1] if path.parent.name == "checkpoints" else path
    history = _history(siblings(run), checkpoint, len(text), say)
    return Exhibit(run.name, checkpoint, text, tuple(history))


def _history(
    paths: list[Path], checkpoint: Checkpoint, length: int, say: Callable[[str], None]
) -> Iterator[Checkpoint]:
    """Other steps of the same model, spread evenly over the run, as many as there is room for."""
    config, alphabet = checkpoint.config.model, checkpoint.tokenizer.alphabet
    paths = [path for path in paths if step_of(path) != checkpoint.progress.step]
    size = config.n_layer * config.n_head * length**2 + length * len(alphabet)
    room = MOST_HISTORY // size
    count = min(room, len(paths), MOST_STEPS) if config.n_layer else 0
    for place in np.linspace(0, len(paths) - 1, count).round().astype(int):
        try:
            other = load_checkpoint(paths[place])
        except Mistake as mistake:
            say(f"warning: {mistake.what}; left out")
            continue
        if (other.config.model, other.tokenizer.alphabet) == (config, alphabet):
            yield replace(other, optimizer_state={})  # two thirds of the memory, unused here


def html(exhibit: Exhibit, most_parameters: int | None = MOST_PARAMETERS) -> str:
    """The whole page as one self-contained HTML file."""
    return assemble(json_for_html(page_data(exhibit, most_parameters)))


def assemble(data: str) -> str:
    """page.html with style, script and `data` in their places, and a policy that allows no more."""
    parts = {"style": read("page.css"), "script": script(), "data": data}
    policy = (
        f"default-src 'none'; script-src '{digest(parts['script'])}'; "
        f"style-src '{digest(parts['style'])}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts["policy"] = policy
    # in one pass: what is put in is not searched again, whatever it holds
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read("page.html"))


def script() -> str:
    """The page's modules as one script."""
    return bundle("page.js", read)


def read(name: str) -> str:
    """One of the page's own files."""
    return (HERE / name).read_text("utf-8")


def json_for_html(value: Any) -> str:
    """JSON that no HTML parser takes for markup; all beyond ASCII is escaped by json itself."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def page_data(exhibit: Exhibit, most_parameters: int | None = None) -> dict[str, Any]:
    """The data of the page.

    Args:
        most_parameters: of a larger model, the text's queries, keys and values are shipped instead
            of the weights.
    """
    checkpoint = exhibit.checkpoint
    model = checkpoint.make_model()
    tokens = as_tokens(checkpoint.tokenizer.encode(exhibit.text))[None]
    parameters = sum(p.numel() for p in model.parameters())
    data = {
        "run": exhibit.name,
        "step": checkpoint.progress.step,
        "valLoss": checkpoint.progress.val_loss,
        "config": checkpoint.config.model.model_dump(),
        "alphabet": [ord(character) for character in checkpoint.tokenizer.alphabet],
        "text": exhibit.text,
        "glyphs": VISIBLE,
        "parameters": parameters,
        "lines": source_lines(),
        "lesson": notes_lesson(),
        "history": list(_snapshots(exhibit.history, tokens)),
    }
    if most_parameters is not None and parameters > most_parameters:
        return data | _seen(model, tokens)
    return data | _weights(model, tokens)


def _seen(model: GPT, tokens: Tensor) -> dict[str, Any]:
    """What the model makes of tokens (1, T): q, k, v (H, T, D) of each layer; logits (T, V)."""
    seen = trace(model, tokens[0])
    vectors = [part for layer in seen.layers for part in (layer.q, layer.k, layer.v)]
    return {"trace": pack([*vectors, seen.logits])}


def _weights(model: GPT, tokens: Tensor) -> dict[str, Any]:
    """The weights, rounded to 16 bits in the model too, and torch's last logits with those."""
    exact = logits_of(model, tokens)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for tensor in weights.values():
            tensor.copy_(tensor.half())
    logits = logits_of(model, tokens)
    if not (logits - exact).isfinite().all():
        raise beyond_16_bits()
    last = logits[-max(1, MOST_LOGITS // logits.shape[1]) :]
    return {
        "weights": {
            "sizes": [[name, tensor.numel()] for name, tensor in weights.items()],
            "numbers": pack(weights.values()),
        },
        "reference": {
            "logits": base64.b64encode(last.numpy().astype("<f4").tobytes()).decode(),
            "rounding": float((logits - exact).abs().max()),
        },
    }


def encodable(checkpoint: Checkpoint, text: str) -> str:
    """`text`, if the checkpoint's model can read it and it is no longer than MOST_TEXT.

    Raises:
        Mistake: with exit code 2 if it cannot.
    """
    block_size = checkpoint.config.model.block_size
    if not text:
        raise Mistake(Exit.USAGE, "the text is empty", "give at least one character")
    if len(text) > block_size:
        what = f"the text has {len(text)} characters, the model sees {block_size} at once"
        raise Mistake(Exit.USAGE, what, f"give at most {min(block_size, MOST_TEXT)} characters")
    if len(text) > MOST_TEXT:
        what = f"the text has {len(text)} characters, {MOST_TEXT} is the most"
        raise Mistake(Exit.USAGE, what, f"give at most {MOST_TEXT} characters")
    try:
        checkpoint.tokenizer.encode(text)
    except UnknownCharacter as problem:
        fix = f"use the characters that it learned: {checkpoint.tokenizer.alphabet[:100]}"
        raise Mistake(Exit.USAGE, str(problem), fix) from None
    return text


def default_text(checkpoint: Checkpoint) -> str:
    """The run's own probe text, as much of it as the model can read and a page can show."""
    tokenizer, config = checkpoint.tokenizer, checkpoint.config
    most = min(config.model.block_size, MOST_TEXT)
    return (tokenizer.known(config.log.probe) or tokenizer.alphabet)[:most]


def _snapshots(history: Iterable[Checkpoint], tokens: Tensor) -> Iterator[dict[str, Any]]:
    for other in history:
        with suppress(Mistake):  # one that 16 bits cannot hold costs the page that step alone
            yield snapshot(other, tokens)


def snapshot(checkpoint: Checkpoint, tokens: Tensor) -> dict[str, Any]:
    """The text at another step of the run: weights (L, H, T, T), then logits (T, V)."""
    model = checkpoint.make_model()
    return {
        "step": checkpoint.progress.step,
        "valLoss": checkpoint.progress.val_loss,
        "numbers": pack([*weights_by_layer(model, tokens), logits_of(model, tokens)]),
    }


@torch.no_grad()
def logits_of(model: GPT, tokens: Tensor) -> Tensor:
    """(T, V) for tokens (1, T)."""
    logits: Tensor = model(tokens)
    return logits[0]


def pack(tensors: Iterable[Tensor]) -> str:
    """Numbers as 16-bit floats, deflated, in base64. All low bytes come before all high ones: the
    high bytes hold sign and exponent, are alike, and shrink better among themselves.

    Raises:
        Mistake: with exit code 4 if one is beyond the range of those floats.
    """
    halves = [tensor.detach().flatten().half().numpy().astype("<f2") for tensor in tensors]
    numbers = np.concatenate(halves)
    if not np.isfinite(numbers).all():
        raise beyond_16_bits()
    planes = numbers.view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 9)).decode()


def beyond_16_bits() -> Mistake:
    what = "the model's weights, or what it makes of the text, are beyond 16-bit floats (65,504)"
    fix = "use another checkpoint of the run, or another run: this training has diverged"
    return Mistake(Exit.CHECKPOINT, what, fix)


def digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
