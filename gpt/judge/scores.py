"""The exact loss taken apart: its standard error, by context, by kind of character, calibration."""

import math
import unicodedata
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, from_numpy

from gpt.evaluate import exact_loss
from gpt.model import GPT

Ids = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]
Rows = list[dict[str, Any]]

BLOCKS = 100  # of the text, for the standard error: enough to average over, long enough to differ
SHORTEST_BLOCK = 10  # characters
BINS = 10  # of the calibration
KINDS = ["first letter of a word", "inside a word", "capital letter", "space", "line end", "other"]
FIRST, INSIDE, CAPITAL, SPACE, LINE_END, OTHER = range(len(KINDS))


@dataclass(frozen=True)
class Scores:
    """What a model said of every character of a text but the first.

    Args:
        loss: the exact loss [nats a character].
        losses: (N - 1,) of each character [nats].
        sure: (N - 1,) the probability of the character that the model held most probable.
        right: (N - 1,) whether it was that character.
    """

    loss: float
    losses: npt.NDArray[np.float32]
    sure: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]


def score(model: GPT, ids: npt.NDArray[np.unsignedinteger]) -> Scores:
    """The exact loss of `ids` (N,), the same bits as `exact_loss`, and what it is the mean of.

    One pass: a hook reads the logits from which `exact_loss` computes.
    """
    scores = Scores(0, *(np.empty(len(ids) - 1, dtype=d) for d in (np.float32, np.float32, bool)))
    done = 0

    def note(_: object, __: object, logits: Tensor) -> None:
        nonlocal done
        log_probs = logits.float().flatten(0, 1).log_softmax(-1)  # (n, V), in the text's order
        part = slice(done, done := done + len(log_probs))
        targets = from_numpy(ids[1:][part].astype(np.int64)).to(logits.device)
        best, character = log_probs.max(-1)
        scores.losses[part] = -log_probs.gather(1, targets[:, None])[:, 0].cpu()
        scores.sure[part] = best.exp().cpu()
        scores.right[part] = (character == targets).cpu()

    with model.register_forward_hook(note):
        loss = exact_loss(model, ids)
    return replace(scores, loss=loss)


def standard_error(values: Floats) -> float | None:
    """The standard error of the mean of `values` (N,), one for each character of a text.

    Neighbours are alike, so that N values tell less than N independent ones would. The text is
    cut into blocks, at most 100 and of equal length; their means are nearly independent (batch
    means: Flegal & Jones 2010). None if the text is too short for two blocks.
    """
    blocks = min(BLOCKS, len(values) // SHORTEST_BLOCK)
    if blocks < 2:
        return None
    length = len(values) // blocks
    means = values[: blocks * length].reshape(blocks, length).mean(axis=1, dtype=np.float64)
    return float(means.std(ddof=1) / math.sqrt(blocks))


def by_context(losses: Floats, block_size: int) -> Rows:
    """The mean loss by the number of characters that the model saw: 1, 2, 3-4, 5-8, 9-16, ..."""
    seen = np.arange(len(losses)) % block_size + 1
    most = min(block_size, len(losses))
    ends = [min(2**k, most) for k in range((most - 1).bit_length() + 1)]
    rows = []
    for first, last in zip([1, *(end + 1 for end in ends)], ends, strict=False):
        part = _part(losses, (seen >= first) & (seen <= last))
        rows.append({"from": first, "to": last, **part})
    return rows


def by_kind(losses: Floats, ids: Ids, alphabet: str) -> Rows:
    """The mean loss by kind of character, of the text `ids` (N,) without its first.

    Each character has one kind; those that the text lacks are left out. A capital is one wherever
    it stands. A word goes on through letters, marks and apostrophes.
    """
    kind = np.array([_kind(c) for c in alphabet], dtype=np.int8)[ids]
    word = np.array([_kind(c) in (FIRST, CAPITAL) or c in "'’" for c in alphabet])[ids]
    kinds = np.where((kind[1:] == FIRST) & word[:-1], INSIDE, kind[1:])
    present = [number for number in range(len(KINDS)) if (kinds == number).any()]
    return [{"kind": KINDS[n], **_part(losses, kinds == n)} for n in present]


def _kind(character: str) -> int:
    """The kind of a character where no word goes on."""
    if character.isspace():
        return LINE_END if character == "\n" else SPACE
    category = unicodedata.category(character)
    if category in ("Lu", "Lt"):
        return CAPITAL
    return FIRST if category[0] in "LM" else OTHER


def costliest(losses: Floats, ids: Ids, alphabet: str, most: int = 10) -> Rows:
    """The `most` characters with the largest sums of losses; `ids` (N,) are the text's."""
    targets = ids[1:]
    total = np.bincount(targets, weights=losses, minlength=len(alphabet))
    chosen = [n for n in np.argsort(-total, kind="stable")[:most] if (targets == n).any()]
    return [{"character": alphabet[n], **_part(losses, targets == n)} for n in chosen]


def _part(losses: Floats, chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
    """How many losses are chosen, their mean, and their share of the sum of all."""
    own, total = losses[chosen], losses.sum(dtype=np.float64)
    return {
        "characters": len(own),
        "loss": float(own.mean(dtype=np.float64)),
        "share_of_loss": float(own.sum(dtype=np.float64) / total) if total else 0.0,
    }


def calibration(sure: Floats, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """How often the most probable character is right, by the probability that it was given.

    The error is the mean difference of the two over all characters, by bins of equal width (the
    expected calibration error of Guo et al. 2017). Empty bins are left out.
    """
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    rows, error = [], 0.0
    for number in np.unique(bins):
        own = bins == number
        said, came = float(sure[own].mean(dtype=np.float64)), float(right[own].mean())
        edges = {"from": number / BINS, "to": (number + 1) / BINS}
        rows.append({**edges, "characters": int(own.sum()), "said": said, "right": came})
        error += own.mean() * abs(said - came)
    return {"error": float(error), "bins": rows}
