"""Why several heads?"""

from statistics import mean

import torch
from changes import unchanged
from drawing import BLUE, GREEN, ORANGE, PURPLE, curve, dots, label_axes
from matplotlib.figure import Figure
from measures import Numbers, Subject, by_distance, parameters, val_loss
from question import LOSSES, Found, Question, Table, Variant, effect, listed

from gpt.attention.figures import INK

ONE, FOUR = "one head of 32", "four heads of 8"
PLACES = {"one layer": "2-one-head", "three blocks": "6-norm"}  # where they are -> rung


def looking_back(subject: Subject) -> Numbers:
    """The heads of layer 1 that look least and most far back on average, in characters."""
    attention = subject.attentions[0]
    by_distance(subject)
    T = attention.weights.shape[-1]
    distance = torch.arange(T)[:, None] - torch.arange(T)
    back = (attention.weights * distance).sum(-1).mean((0, 2))  # (H,)
    return val_loss(subject) | {"nearest": float(back.min()), "farthest": float(back.max())}


def answer_heads(table: Table) -> str:
    pairs = {place: (table[f"{place}, {ONE}"], table[f"{place}, {FOUR}"]) for place in PLACES}
    moved = listed(
        f"{effect(one['val_loss'], four['val_loss'])} in {place}"
        for place, (one, four) in pairs.items()
    )
    place, (one, four) = next(iter(pairs.items()))
    return (
        f"Four heads of 8 instead of one of 32, as many parameters, change the loss by {moved}, in "
        f"nats; in {place} the one looks back {mean(one['nearest']):.1f} characters on average, "
        f"the four {mean(four['nearest']):.1f} to {mean(four['farthest']):.1f}."
    )


def draw_heads(figure: Figure, found: dict[str, Found]) -> None:
    left, right = figure.subplots(1, 2, width_ratios=[5, 4])
    dots(left, found)
    place = next(iter(PLACES))
    one, four = (by_distance(found[f"{place}, {heads}"].subject) for heads in (ONE, FOUR))
    curve(right, list(one), [float(w[0]) for w in one.values()], INK, ONE)
    for head, colour in enumerate((BLUE, ORANGE, GREEN, PURPLE)):
        weights = [float(w[head]) for w in four.values()]
        curve(right, list(four), weights, colour, f"head {head + 1} of the four")
    label_axes(right, f"Where the heads look ({place})", "characters back", "mean weight")
    right.legend(frameon=False, fontsize=8)


QUESTION = Question(
    asks="Why several heads?",
    keys={"train.max_steps": 2000},
    variants=[
        Variant(f"{place}, {heads}", unchanged, {"model.n_head": number_of_heads}, rung)
        for place, rung in PLACES.items()
        for heads, number_of_heads in ((ONE, 1), (FOUR, 4))
    ],
    at_start=parameters,
    at_end=looking_back,
    columns={
        "parameters": ("parameters", ",.0f"),
        **LOSSES,
        "nearest": ("nearest head", ".2f"),
        "farthest": ("farthest", ".2f"),
    },
    answer=answer_heads,
    draw=draw_heads,
)
