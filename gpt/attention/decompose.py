"""Where a score or a logit came from, exactly, and what a head is worth.

The residual stream is a sum: the character's embedding, a share of that of the character before
(with token_shift), the position's, the output of each head and of each feed-forward layer. With the
scale of each normalisation held at what it was on this text (`frozen`), queries, keys and logits
are linear in the stream. So a score is a sum over pairs of parts, one on the query's and one on the
key's side, and a logit is a sum over parts (Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits").

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

BATCH_CHARS = 2**13  # characters in a forward pass of `mute_losses`


@dataclass(frozen=True)
class Parts:
    """Named vectors that sum to the whole."""

    names: tuple[str, ...]
    vectors: Tensor  # (P, T, C), or (P, T, V) for logits


@dataclass(frozen=True)
class ScoreParts:
    """One score as a sum over pairs: a part of the query's side, a part of the key's side."""

    names: tuple[str, ...]  # of the P parts, the same on both sides
    pairs: Tensor  # (P, P) row: part of the query, column: part of the key; sums to the score
    score: float  # q.k / sqrt(D), before the mask

    @property
    def of_query(self) -> Tensor:
        """(P,): what each part of the query's side adds, over all parts of the key's."""
        return self.pairs.sum(1)

    @property
    def of_key(self) -> Tensor:
        """(P,): what each part of the key's side adds, over all parts of the query's."""
        return self.pairs.sum(0)


def stream_parts(model: GPT, trace: Trace, layer: int) -> Parts:
    """What wrote the residual stream that layer `layer` reads, vectors (P, T, C).

    The parts, where the model has them: "character", "character before" (zeros for the first
    character), "position", "embedding norm's bias", and for each earlier layer "L1H1" and so on,
    "L1 projection's bias" and "L1 feed-forward", biases included. Without a residual stream each
    part replaces those before it.

    Args:
        trace: of this model.
        layer: counted from 0; n_layer for the last state, from which the logits are read.

    Raises:
        ValueError: if there is no such layer.
    """
    n_layer = model.config.n_layer
    if not 0 <= layer <= n_layer:
        raise ValueError(f"layer {layer}: 0 to {n_layer}; at {n_layer} the logits are read")
    residual = model.config.residual
    parts = _embedding_parts(model, trace.tokens)
    steps = zip(blocks_of(model)[:layer], trace.layers, strict=False)
    for number, (block, seen) in enumerate(steps):
        parts = parts if residual else {}
        parts |= {head_name(number, h): write for h, write in enumerate(seen.head_writes)}
        projection = block.attention.projection
        if isinstance(projection, nn.Linear) and projection.bias is not None:
            parts[f"L{number + 1} projection's bias"] = projection.bias.detach()
        if seen.feed_forward is not None:
            parts = parts if residual else {}
            parts[f"L{number + 1} feed-forward"] = seen.feed_forward
    return _parts(parts, like=trace.embedded)


def _embedding_parts(model: GPT, tokens: Tensor) -> dict[str, Tensor]:
    """The parts (T, C) of the residual stream's first state."""
    with torch.no_grad():
        rows = {"character": model.token_embedding(tokens)}
        if model.config.token_shift:
            none, before = torch.zeros_like(rows["character"][:1]), rows["character"][:-1]
            rows["character before"] = model.token_shift * torch.cat([none, before])
        if model.config.positions == "learned":
            rows["position"] = model.position_embedding.weight[: len(tokens)]
        norm = freeze(model.embedding_norm, torch.stack([*rows.values()]).sum(0))
        parts = {name: norm(row) for name, row in rows.items()}
    return parts if norm.bias is None else parts | {"embedding norm's bias": norm.bias}


def score_parts(
    model: GPT, trace: Trace, layer: int, head: int, query: int, key: int
) -> ScoreParts:
    """The score of the character at `query` on the one at `key`, decomposed exactly.

    The scales of the layer's normalisation and of QK-norm are held at what they were on this text;
    rotary positions rotate each part alike. The parts are those of `stream_parts` and the bias of
    the layer's normalisation, if it has one.

    Args:
        trace: of this model.
        layer, head, query, key: counted from 0; key > query is a score that the mask hides.

    Raises:
        ValueError: if there is no such head or character.
    """
    check_head(model, layer, head)
    for name, place in (("query", query), ("key", key)):
        if not 0 <= place < len(trace.tokens):
            raise ValueError(
                f"{name} {place}: the text's characters are 0 to {len(trace.tokens) - 1}"
            )
    block, seen = blocks_of(model)[layer], trace.layers[layer]
    attention, norm = block.attention, freeze(block.attention_norm, seen.before)
    parts = _through(norm, stream_parts(model, trace, layer), "norm's bias")
    rows = slice(head * attention.head_size, (head + 1) * attention.head_size)

    def side(linear: nn.Linear, place: int) -> Tensor:
        vectors = F.linear(parts.vectors[:, place : place + 1], linear.weight[rows])  # (P, 1, D)
        if attention.rotary:
            vectors = attention.rotary(vectors, place)
        return freeze(attention.qk_norm, vectors.sum(0))(vectors)[:, 0]  # (P, D)

    with evaluating(model):
        q, k = side(attention.query, query), side(attention.key, key)
    pairs = q @ k.T * attention.head_size**-0.5  # (P, P)
    return ScoreParts(parts.names, pairs, float(seen.scores[head, query, key]))


def logit_parts(model: GPT, trace: Trace) -> Parts:
    """What each part of the last state adds to the logits, (P, T, V): direct logit attribution.

    The final norm's scale is held; its bias and lm_head's are parts of their own. The sum is the
    logits before the soft cap, which is not linear.
    """
    stream = stream_parts(model, trace, model.config.n_layer)
    parts = _through(trace.final_norm, stream, "final norm's bias")
    if not isinstance(model.lm_head, nn.Linear):
        return parts
    with torch.no_grad():
        logits = F.linear(parts.vectors, model.lm_head.weight)  # (P, T, V)
    vectors = dict(zip(parts.names, logits, strict=True))
    if model.lm_head.bias is not None:
        vectors["lm_head's bias"] = model.lm_head.bias.detach()
    return _parts(vectors, like=trace.logits)


def _through(norm: FrozenNorm, parts: Parts, bias_name: str) -> Parts:
    """The parts behind a normalisation, with its bias as one more part."""
    vectors = dict(zip(parts.names, norm(parts.vectors), strict=True))
    if norm.bias is not None:
        vectors[bias_name] = norm.bias
    return _parts(vectors, like=parts.vectors[0])


def _parts(vectors: dict[str, Tensor], like: Tensor) -> Parts:
    """Vectors stacked to (P, T, C); those that are the same for all characters are repeated."""
    return Parts(tuple(vectors), torch.stack([part.expand_as(like) for part in vectors.values()]))


@contextmanager
def mute(model: GPT, layer: int, head: int) -> Iterator[None]:
    """Inside, the head's output is zero where the projection reads it (zero ablation).

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


def mute_losses(model: GPT, ids: npt.NDArray[np.unsignedinteger]) -> Tensor:
    """What muting each head costs: loss without it - loss, (L, H) [nats a character].

    Exact on `ids`, as `gpt.evaluate.exact_loss`. The layers before a muted head are computed once.
    The cost is negative for a head that does harm.

    Args:
        ids: (N,) of a text, N >= 2, as `tokenizer.encode` gives them.
    """
    config = model.config
    costs = torch.zeros(config.n_layer, config.n_head, dtype=torch.float64)
    with evaluating(model):
        for batch in windows(ids, config.block_size, BATCH_CHARS):
            tokens, targets = (part.to(device_of(model)) for part in batch)
            states = list(model.walk(model.embed(tokens)))  # (B, T, C) that each layer reads
            whole = _loss_from(model, states[-1], config.n_layer, targets)
            for layer in range(config.n_layer):
                for head in range(config.n_head):
                    with mute(model, layer, head):
                        muted = _loss_from(model, states[layer], layer, targets)
                    costs[layer, head] += muted - whole
    return costs / (len(ids) - 1)


def _loss_from(model: GPT, state: Tensor, layer: int, targets: Tensor) -> float:
    """Summed loss of targets (B, T) if layer `layer` reads `state` (B, T, C)."""
    *_, last = model.walk(state, first=layer)
    logits = model.read_out(last)  # (B, T, V)
    return float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))


def check_head(model: GPT, layer: int, head: int) -> None:
    """Refuse, with a ValueError, a layer or head (counted from 0) that the model does not have."""
    config = model.config
    if not (0 <= layer < config.n_layer and 0 <= head < config.n_head):
        raise ValueError(
            f"there is no {head_name(layer, head)}: the model has {config.n_layer} layers "
            f"of {config.n_head} heads"
        )
