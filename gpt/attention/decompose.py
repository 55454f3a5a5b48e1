"""Where a score or a logit came from, exactly, and what a head is worth.

Whatever stands in the residual stream was written there by someone: the character's embedding,
its position's, a head, a feed-forward layer. Queries, keys and logits are linear in the stream
once the normalisations hold the scale they had on this text (`frozen`), so that each score is a
sum over pairs of writers, one on the query's and one on the key's side, and each logit a sum over
writers (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").

Letters in the shapes: P parts, T characters, C n_embd, H heads, D head_size, V vocab_size,
L layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt.attention.frozen import FrozenNorm, freeze
from gpt.attention.trace import Trace, blocks_of, device_of, head_name
from gpt.evaluate import evaluating, windows
from gpt.model import GPT


@dataclass(frozen=True)
class Parts:
    """Named vectors that sum to the whole."""

    names: tuple[str, ...]
    vectors: Tensor  # (P, ..., C): the sum over P is what was decomposed


@dataclass(frozen=True)
class ScoreParts:
    """One score as a sum over pairs: what wrote the query's side, what wrote the key's."""

    names: tuple[str, ...]  # of the P parts, the same on both sides
    pairs: Tensor  # (P, P) row: part of the query, column: part of the key; sums to the score
    score: float  # q.k / sqrt(D), before the mask

    @property
    def of_query(self) -> Tensor:
        """(P,): how much each part of the query's side adds, whatever the key's side is."""
        return self.pairs.sum(1)

    @property
    def of_key(self) -> Tensor:
        """(P,): how much each part of the key's side adds, whatever the query's side is."""
        return self.pairs.sum(0)


def stream_parts(model: GPT, trace: Trace, layer: int) -> Parts:
    """What wrote the residual stream that layer `layer` finds, vectors (P, T, C).

    Parts, where there are such: "character", "position", "embedding norm's bias", and for each
    earlier layer "L1H1" and so on, "L1 projection's bias" and "L1 feed-forward", which has its
    biases in it. Without a residual stream each of them replaces what stood there before.

    Args:
        trace: of this model, as it is now.
        layer: counted from 0; n_layer for the last state, from which the logits are read.
    """
    config, norm = model.config, trace.embedding_norm
    parts = {"character": norm(trace.character)}
    if trace.position is not None:
        parts["position"] = norm(trace.position)
    if norm.bias is not None:
        parts["embedding norm's bias"] = norm.bias
    for number, seen in enumerate(trace.layers[:layer]):
        parts = parts if config.residual else {}
        parts |= {head_name(number, h): write for h, write in enumerate(seen.head_writes)}
        if config.residual and config.bias:
            parts[f"L{number + 1} projection's bias"] = seen.attention_bias
        if seen.feed_forward is not None:
            parts = parts if config.residual else {}
            parts[f"L{number + 1} feed-forward"] = seen.feed_forward
    return _parts(parts, like=trace.embedded)


def score_parts(
    model: GPT, trace: Trace, layer: int, head: int, query: int, key: int
) -> ScoreParts:
    """The score of the character at `query` on the one at `key`, decomposed exactly.

    The scales of the layer's normalisation and of QK-norm are held at what they were in `trace`;
    rotary positions turn each part alike. The parts are those of `stream_parts` and the bias of
    the layer's normalisation, if it has one.

    Args:
        trace: of this model, as it is now.
        layer, head, query, key: counted from 0; key > query is a score that the mask hides.

    Raises:
        ValueError: if there is no such head.
    """
    check_head(model, layer, head)
    attention, seen = blocks_of(model)[layer].attention, trace.layers[layer]
    parts = _through(seen.attention_norm, stream_parts(model, trace, layer), "norm's bias")
    rows = slice(head * attention.head_size, (head + 1) * attention.head_size)

    def side(linear: nn.Linear, content: Tensor, place: int) -> Tensor:  # content (T, D)
        vectors = F.linear(parts.vectors[:, place : place + 1], linear.weight[rows])  # (P, 1, D)
        whole = content[place : place + 1]  # (1, D)
        if attention.rotary:
            vectors, whole = (attention.rotary(part, place) for part in (vectors, whole))
        return freeze(attention.qk_norm, whole)(vectors)[:, 0]  # (P, D)

    with evaluating(model):
        q = side(attention.query, seen.q_content[head], query)
        k = side(attention.key, seen.k_content[head], key)
    pairs = q @ k.T * attention.head_size**-0.5  # (P, P)
    return ScoreParts(parts.names, pairs, float(seen.scores[head, query, key]))


def logit_parts(model: GPT, trace: Trace) -> Parts:
    """What each part of the last stream adds to the logits of the next character, (P, T, V).

    The final norm's scale is held; its bias and that of the read-out are parts of their own. The
    sum is `trace.logits_uncapped`: a soft cap is no sum of parts.
    """
    parts = _through(
        trace.final_norm,
        stream_parts(model, trace, model.config.n_layer),
        "final norm's bias",
    )
    if not isinstance(model.lm_head, nn.Linear):
        return parts
    with torch.no_grad():
        logits = F.linear(parts.vectors, model.lm_head.weight)  # (P, T, V)
    vectors = dict(zip(parts.names, logits, strict=True))
    if model.lm_head.bias is not None:
        vectors["read-out's bias"] = model.lm_head.bias.detach()
    return _parts(vectors, like=trace.logits_uncapped)


def _through(norm: FrozenNorm, parts: Parts, bias_name: str) -> Parts:
    """The parts behind a normalisation, its bias a part of its own."""
    vectors = dict(zip(parts.names, norm(parts.vectors), strict=True))
    if norm.bias is not None:
        vectors[bias_name] = norm.bias
    return _parts(vectors, like=parts.vectors[0])


def _parts(vectors: dict[str, Tensor], like: Tensor) -> Parts:
    """Vectors of one text, or the same for all its characters, stacked: (P, T, C)."""
    return Parts(tuple(vectors), torch.stack([part.expand_as(like) for part in vectors.values()]))


@contextmanager
def mute(model: GPT, layer: int, head: int) -> Iterator[None]:
    """Inside, the head writes nothing: its output is zero where the projection reads it.

    Args:
        layer, head: counted from 0.

    Raises:
        ValueError: if there is no such head.
    """
    check_head(model, layer, head)
    D = model.config.head_size

    def silence(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        out = inputs[0].clone()  # (B, T, C): the heads' outputs side by side
        out[..., head * D : (head + 1) * D] = 0
        return out

    projection = blocks_of(model)[layer].attention.projection
    handle = projection.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


def mute_losses(
    model: GPT, ids: npt.NDArray[np.unsignedinteger], batch_chars: int = 2**13
) -> Tensor:
    """What it costs to mute each head: loss without it - loss, (L, H), in nats a character.

    Exact on `ids`, each of whose characters but the first is foretold once, as in
    `gpt.evaluate.exact_loss`. What stands before the muted head is computed once. A head that
    does harm costs less than nothing.

    Args:
        ids: (N,) with N >= 2.
        batch_chars: characters that go through the model at once.
    """
    config = model.config
    costs = torch.zeros(config.n_layer, config.n_head, dtype=torch.float64)
    with evaluating(model):
        for batch in windows(ids, config.block_size, batch_chars):
            tokens, targets = (part.to(device_of(model)) for part in batch)
            streams = list(model.walk(model.embed(tokens)))  # (B, T, C) that each layer finds
            heard = _loss_from(model, streams[-1], config.n_layer, targets)
            for layer in range(config.n_layer):
                for head in range(config.n_head):
                    with mute(model, layer, head):
                        muted = _loss_from(model, streams[layer], layer, targets)
                    costs[layer, head] += muted - heard
    return costs / (len(ids) - 1)


def _loss_from(model: GPT, stream: Tensor, layer: int, targets: Tensor) -> float:
    """Summed loss of targets (B, T) if layer `layer` finds the stream (B, T, C)."""
    *_, stream = model.walk(stream, first=layer)
    logits = model.read_out(stream)  # (B, T, V)
    return float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))


def check_head(model: GPT, layer: int, head: int) -> None:
    """Refuse, with a ValueError, a layer or head (counted from 0) that the model does not have."""
    config = model.config
    if not (0 <= layer < config.n_layer and 0 <= head < config.n_head):
        raise ValueError(
            f"there is no {head_name(layer, head)}: the model has {config.n_layer} layers "
            f"of {config.n_head} heads"
        )
