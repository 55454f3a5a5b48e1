"""One head of self-attention in steps, each with its numbers and the statements that make them.

The example is the notes' classroom, or a head of a trained model on a text. One of the children or
characters asks: its row of every table is the one that is followed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt.attention.glyphs import glyph
from gpt.attention.trace import Ids, LayerTrace, blocks_of, trace
from gpt.explorer.lines import STATEMENTS, find_statement
from gpt.explorer.tables import MOST_COLUMNS, Cell, Group, Table, counted, dot_product
from gpt.model import GPT, Head, MultiHeadAttention, attend

CAPTIONS = {
    "query": ("what am I looking for?", "what it is looking for"),
    "key": ("what do I have?", "what it has"),
    "value": ("what can I share?", "what it can share"),
}

Line = dict[str, Any]  # number and text of a statement of model.py


@dataclass(frozen=True)
class Step:
    """What a step is called and means, the statements that do it, its numbers and remarks."""

    title: str
    sentence: str
    code: Sequence[Line]
    parts: Sequence[Table | str]


# --- the two examples --------------------------------------------------------------------------


def notes_group(query: int | None = None) -> Group:
    """The first of the notes' groups; `query` is counted from 0, by default the last child."""
    return Group("child", [f"child {t + 1}" for t in range(3)], 2 if query is None else query)


@torch.no_grad()
def notes_steps(group: Group) -> Iterator[Step]:
    """The notes' example, computed by `Head` and `attend`."""
    torch.manual_seed(1337)
    B, T, C, head_size = 4, 3, 5, 6
    x = torch.randn(B, T, C)
    head = Head(C, head_size)  # draws its weights in the notes' order
    yield Step(
        "The class",
        f"{B} groups of {T} children stand in line; each child knows {C} things about itself.",
        [_line("embed")],
        [
            "In a model that line makes x. Here it is random, as in the notes: "
            f"torch.manual_seed(1337); torch.randn({B}, {T}, {C}).",
            group.vectors("x of group 1", x[0], "C"),
            "The other three groups go through the same steps at the same time.",
        ],
    )
    made = {}
    for role in CAPTIONS:
        tool = getattr(head, role)
        made[role] = tool(x)[0]
        code = [
            find_statement(Head.__init__, f"self.{role}"),
            find_statement(Head.forward, "out, _ = "),
        ]
        yield _tool(group, role, x[0], tool.weight, made[role], code)
    yield from _attention(group, **made)


def text_group(text: str, query: int | None = None) -> Group:
    """The characters of `text`; `query` is counted from 0, by default the last one."""
    names = [f"{t + 1} {glyph(character)}" for t, character in enumerate(text)]
    return Group("character", names, len(text) - 1 if query is None else query)


@torch.no_grad()
def model_steps(model: GPT, ids: Ids, group: Group, layer: int, head: int) -> Iterator[Step]:
    """A head of a model on the text `ids` (T,), with each part that this model has.

    Args:
        layer, head: counted from 0.
    """
    seen, attention = trace(model, ids).layers[layer], blocks_of(model)[layer].attention
    yield from _stream(group, model, seen, layer)
    D = attention.head_size
    rows = slice(head * D, (head + 1) * D)
    q, k, v = seen.q_content[head], seen.k_content[head], seen.v[head]
    for role, made in {"query": q, "key": k, "value": v}.items():
        code = [find_statement(MultiHeadAttention.__init__, f"self.{role}"), _line("qkv")]
        weight = getattr(attention, role).weight
        own = f"This head's tool: rows {rows.start + 1} to {rows.stop} of {role}.weight."
        yield _tool(group, role, seen.x, weight[rows], made, code, own)
    if attention.rotary:
        q, k = attention.rotary(q), attention.rotary(k)
        yield _positions(group, q, k)
    if model.config.qk_norm:
        q, k = seen.q[head], seen.k[head]
        yield _same_length(group, q, k)
    yield from _attention(group, q, k, v)


# --- from x to query, key and value ------------------------------------------------------------


def _stream(group: Group, model: GPT, seen: LayerTrace, layer: int) -> Iterator[Step]:
    """What the layer reads: the residual stream (T, C), and the same normalised."""
    config, C = model.config, seen.x.shape[1]
    if layer:
        code = [find_statement(GPT.walk, "x = block(x)")]
        sentence = f"Each character is {C} numbers, here as layer {layer} leaves them."
    else:
        code = [_line("embed")]
        sentence = f"Each character is {C} numbers, learned with the model."
        if config.token_shift:
            code += [find_statement(GPT.embed, "before = "), _line("shift")]
            sentence += " They also hold a share of those of the character before."
        if config.positions == "learned":
            code.append(_line("position"))
        if config.embedding_norm:
            code.append(find_statement(GPT.embed, "return "))
    yield Step("The text", sentence, code, [group.vectors("x", seen.before, "C")])
    if config.norm != "none":
        sentence = "The norm brings the numbers of every character to the same scale."
        x = group.vectors("x, normalised", seen.x, "C")
        yield Step("One scale for all", sentence, [_line("norm")], [x])


def _tool(
    group: Group,
    role: str,
    x: Tensor,
    weight: Tensor,
    made: Tensor,
    code: Sequence[Line],
    *remarks: str,
) -> Step:
    """One of query, key and value: x (T, C) through weight (D, C) is made (T, D)."""
    caption, meaning = CAPTIONS[role]
    D, C = weight.shape
    result = group.vectors(role[0], made, role=role)
    parts: list[Table | str] = [*remarks, result]
    if C <= MOST_COLUMNS:
        rows = [(f"thing {c + 1}", weight[:, c].tolist()) for c in range(C)]
        tool = Table(f"{role}.weight.T  (C, D) = ({C}, {D})", counted(D), rows, role)
        example = dot_product(
            f"{role[0]} of {group.asker}, number 1",
            (f"x of {group.asker}", x[group.query]),
            ("column 1 of the tool", weight[0]),
        )
        parts = [group.vectors("x", x, "C", seen=True), tool, result, example]
    sentence = f"With its {role} tool, each {group.who} turns its {C} numbers into {D}: {meaning}."
    return Step(f"{role.capitalize()}: {caption}", sentence, code, parts)


def _positions(group: Group, q: Tensor, k: Tensor) -> Step:
    sentence = (
        "Each pair of numbers of a query and of a key is rotated by an angle that grows with the "
        "position, so that the distance counts; the rotated ones are compared."
    )
    return Step("The position", sentence, [_line("rotary")], _both(group, q, k))


def _same_length(group: Group, q: Tensor, k: Tensor) -> Step:
    sentence = (
        f"Each query and each key is scaled to the length √{q.shape[-1]}, so that only its "
        "direction counts; the scaled ones are compared."
    )
    return Step("One length for all", sentence, [_line("qk_norm")], _both(group, q, k))


def _both(group: Group, q: Tensor, k: Tensor) -> list[Table | str]:
    return [group.query_vector("q", q, role="query"), group.vectors("k", k, role="key")]


# --- from query, key and value to the result ---------------------------------------------------


def _attention(group: Group, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Step]:
    """query, key and value (T, D), as `attend` uses them."""
    out, weights = attend(query, key, value)
    products = query @ key.T
    scores = products * query.shape[-1] ** -0.5
    best = int(weights[group.query].argmax())
    yield _comparison(group, query, key, products, scores, best)
    yield _cover(group, scores)
    yield _shares(group, scores, weights, best)
    yield _mixture(group, weights, value, out)


def _comparison(
    group: Group, q: Tensor, k: Tensor, products: Tensor, scores: Tensor, best: int
) -> Step:
    D, pair = q.shape[-1], (group.query, best)
    asker, answerer = group.asker, group.names[best]
    root = f"{products[pair]:z.4f} / √{D} = {products[pair]:z.4f} / {math.sqrt(D):.4f}"
    parts: list[Table | str] = [
        group.query_vector("q", q, role="query", seen=True),
        group.vectors("k", k, role="key", seen=True),
        *([group.pairs("q · k", products)] if group.is_small else []),
        group.pairs(f"scores = q · k / √{D}", scores),
        dot_product(f"{asker} asks {answerer}: q · k", ("q", q[group.query]), ("k", k[best])),
        f"score of {answerer} for {asker}: {root} = {scores[pair]:z.4f}",
    ]
    sentence = (
        f'Each {group.who} asks everyone, "Do you have what I\'m looking for?": the better its '
        "query matches a key, the higher the score."
    )
    return Step("The comparison", sentence, [_line("score")], parts)


def _cover(group: Group, scores: Tensor) -> Step:
    future = torch.full_like(scores, -math.inf).triu(diagonal=1)
    sentence = (
        f"A {group.who} may ask itself and those before it in line: the answers of those after it "
        "are covered."
    )
    code = [find_statement(attend, "future = "), _line("mask")]
    covered = group.pairs("scores, covered", scores + future, seen=True)
    return Step("The cover over those behind", sentence, code, [covered])


def _shares(group: Group, scores: Tensor, weights: Tensor, best: int) -> Step:
    """Softmax, with the sums that it divides by."""
    powers = scores.double().exp().tril()
    sums = powers.sum(-1)
    t = group.query
    if group.is_small:
        rows = [(group.names[i], [*powers[i].tolist(), float(sums[i])]) for i in group.shown]
        table = Table(
            "e^score; where covered, e^-inf = 0", [*group.names, "sum"], rows, strong=group.asker
        )
    else:
        table = _row_of_shares(group, scores[t], powers[t], weights[t])
    share = f"{powers[t, best]:.4f} / {sums[t]:.4f} = {weights[t, best]:.4f}"
    sentence = (
        f"Each {group.who} decides how much attention to pay to each: e^score, divided by the sum "
        "of its row."
    )
    parts: list[Table | str] = [
        table,
        f"weight of {group.names[best]} for {group.asker}: {share}",
        group.pairs("weights", weights, role="weights"),
    ]
    return Step("The shares", sentence, [_line("softmax")], parts)


def _row_of_shares(group: Group, scores: Tensor, powers: Tensor, weights: Tensor) -> Table:
    """What the one that asks gives to each of those that it may look at."""
    rows: list[tuple[str, Sequence[Cell]]] = [
        (group.names[i], [float(part[i]) for part in (scores, powers, weights)])
        for i in group.asked
    ]
    if group.earlier:
        rest = [float(part[: group.shown.start].sum()) for part in (powers, weights)]
        rows.insert(0, (group.earlier, ["", *rest]))
    rows.append(("sum", ["", float(powers.sum()), float(weights.sum())]))
    return Table(f"{group.asker} asks", ["score", "e^score", "weight"], rows, "weights")


def _mixture(group: Group, weights: Tensor, v: Tensor, out: Tensor) -> Step:
    mine, part = weights[group.query], slice(MOST_COLUMNS)
    rows: list[tuple[str, Sequence[Cell]]] = [
        (f"{mine[i]:.4f} × v of {group.names[i]}", (mine[i] * v[i, part]).tolist())
        for i in group.asked
    ]
    if group.earlier:
        first = group.shown.start
        rows.insert(0, (group.earlier, (mine[:first] @ v[:first, part]).tolist()))
    rows.append(("sum", out[group.query, part].tolist()))
    mixed = Table(
        f"what {group.asker} learns: weight × value, summed",
        counted(v.shape[1]),
        rows,
        strong="sum",
    )
    parts: list[Table | str] = [group.vectors("v", v, role="value", seen=True), mixed]
    if group.is_small:
        parts.append(group.vectors("out", out, role="weights"))
    sentence = (
        f"As at a party, each {group.who} gathers what the others can share, most of it from those "
        "to whom it listens most."
    )
    return Step("The mixture", sentence, [_line("mix")], parts)


def _line(name: str) -> Line:
    return find_statement(*STATEMENTS[name])
