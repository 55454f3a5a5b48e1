"""Why are the scores divided by the root of head_size?"""

from statistics import mean

import torch
from changes import no_scale, unchanged
from drawing import BLUE, MARKS, ORANGE, curve, label_axes
from matplotlib.figure import Figure
from measures import Numbers, Subject, val_loss
from question import LOSSES, SIZE, Found, Question, Table, Variant, effect, listed

SIZES = (8, 32, 128)  # of the heads; together they are 128 wide


def divided(size: int) -> str:
    return f"head_size {size}"


def undivided(size: int) -> str:
    return f"head_size {size}, not divided"


def saturation(subject: Subject) -> Numbers:
    """How near to one-hot the weights are, and the gradient that reaches queries and keys.

    `entropy` is the weights' as a share of that of uniform attention, 1 to 0; a first character,
    which has no choice, is left out. `gradient` is the norm over all matrices of queries and keys.
    """
    subject.loss(0).backward()
    matrices = [linear.weight.grad for a in subject.attentions for linear in (a.query, a.key)]
    gradient = torch.stack([g.norm() for g in matrices if g is not None]).norm()
    subject.model.zero_grad()
    weights = torch.stack([attention.weights for attention in subject.attentions]).detach()
    entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1)[..., 1:]
    most = torch.arange(2, weights.shape[-1] + 1).log()
    return {"entropy": float((entropy / most).mean()), "gradient": float(gradient)}


def answer_scale(table: Table) -> str:
    pairs = [(table[divided(size)], table[undivided(size)]) for size in SIZES]
    soft, sharp = (listed(f"{mean(p[i]['entropy']):.0%}" for p in pairs) for i in (0, 1))
    with_it, without = pairs[-1]
    saturated = max(without["entropy"]) < min(with_it["entropy"])
    by_size = [mean(plain["entropy"]) for _, plain in pairs]
    more = ", the more the larger the head" * (sorted(by_size, reverse=True) == by_size)
    starts = f"starts saturated{more}" if saturated else "does not start saturated"
    growth = mean(without["gradient"]) / mean(with_it["gradient"])
    root = SIZES[-1] ** 0.5  # by which it would grow without saturation
    costs = listed(effect(a["val_loss"], b["val_loss"]) for a, b in pairs)
    compared = f"{'less than' if growth < root else 'not less than'} the {root:.1f} times"
    return (
        f"Without the division the softmax {starts}: at head_size {listed(SIZES)} its weights have "
        f"{sharp} of uniform attention's entropy instead of {soft}; at {SIZES[-1]} the gradient of "
        f"q and k is {growth:.1f} times as large, {compared} that the factor alone makes; and the "
        f"loss after training changes by {costs} nats."
    )


def draw_scale(figure: Figure, found: dict[str, Found]) -> None:
    left, right = figure.subplots(1, 2)
    for axes, measured in ((left, "entropy"), (right, "val_loss")):
        for name, colour, label in (
            (divided, BLUE, "divided by √head_size"),
            (undivided, ORANGE, "not divided"),
        ):
            values = [found[name(size)].numbers[measured] for size in SIZES]
            curve(axes, SIZES, [mean(seeds) for seeds in values], colour, label)
            for size, seeds in zip(SIZES, values, strict=True):
                axes.plot([size] * len(seeds), seeds, MARKS[colour], color=colour, alpha=0.4)
        axes.set_xscale("log", base=2)
        axes.set_xticks(SIZES, [str(size) for size in SIZES])
    label_axes(
        left,
        "How soft the weights are before training",
        "head_size",
        "share of uniform attention's entropy",
    )
    label_axes(right, "Loss after training", "head_size", "validation loss [nats]")
    left.set_ylim(0, 1.05)
    left.legend(frameon=False, fontsize=9, loc="lower left")


QUESTION = Question(
    asks="Why are the scores divided by the root of head_size?",
    keys=SIZE | {"model.n_embd": 128, "model.n_layer": 1, "train.max_steps": 400},
    variants=[
        Variant(name(size), change, {"model.n_head": 128 // size})
        for size in SIZES
        for name, change in ((divided, unchanged), (undivided, no_scale))
    ],
    at_start=saturation,
    at_end=val_loss,
    columns={
        "entropy": ("entropy at the start", ".1%"),
        "gradient": ("gradient of q and k", ".4f"),
        **LOSSES,
    },
    answer=answer_scale,
    draw=draw_scale,
)
