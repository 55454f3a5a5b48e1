"""Why may no character attend to a later one?"""

from statistics import mean

import torch
import torch.nn.functional as F
from changes import no_mask
from drawing import BLUE, ORANGE, curve, label_axes
from matplotlib.figure import Figure
from measures import Numbers, Subject, by_distance, nothing, val_loss
from question import LOSSES, SIZE, Found, Question, Table, Variant
from training import LOG_EVERY

from gpt.evaluate import evaluating, windows

MASK, NO_MASK = "with the mask", "without it"


def cheating(subject: Subject) -> Numbers:
    """What a look at the future is worth: the loss with the text in sight, and without.

    `writing_loss` is that of a character when nothing after the one before it is there yet, as when
    the model writes; `next` the share of the attention that goes to the next character, which is
    the answer.
    """
    size = subject.config.model.block_size
    ids = subject.corpus.val_ids[: 500 * size + 1]
    with evaluating(subject.model):
        tokens, targets = next(windows(ids, size, batch_chars=len(ids)))
        logits = [subject.model(tokens[:, : t + 1])[:, -1] for t in range(size)]
        loss = F.cross_entropy(torch.stack(logits, 1).flatten(0, 1), targets.flatten())
    share = by_distance(subject)
    ahead = share[-1].mean() if -1 in share else torch.zeros(())
    return val_loss(subject) | {"writing_loss": float(loss), "next": float(ahead)}


def answer_mask(table: Table) -> str:
    mask, none = table[MASK], table[NO_MASK]
    falls = max(none["val_loss"]) < min(mask["val_loss"])
    fails = min(none["writing_loss"]) > max(mask["writing_loss"])
    numbers = (
        f"{mean(none['val_loss']):.2f} nats instead of {mean(mask['val_loss']):.2f} with the text "
        f"in sight, {mean(none['writing_loss']):.2f} instead of {mean(mask['writing_loss']):.2f} "
        f"when it writes and no future is there"
    )
    if falls and fails:
        return (
            f"Without the mask the model cheats: {mean(none['next']):.0%} of layer 1's attention "
            f"is on the next character, which is the answer, and its loss is {numbers}."
        )
    return f"These runs do not show that the model cheats: without the mask its loss is {numbers}."


def draw_mask(figure: Figure, found: dict[str, Found]) -> None:
    left, right = figure.subplots(1, 2)
    for (name, one), colour in zip(found.items(), (BLUE, ORANGE), strict=True):
        losses = [mean(one.losses[max(0, i - LOG_EVERY) : i + 1]) for i in range(len(one.losses))]
        left.plot(losses, color=colour, label=f"{name}: in training")
        writing = mean(one.numbers["writing_loss"])
        left.axhline(writing, color=colour, linestyle="--", label=f"{name}: when it writes")
        share = {-back: float(w.mean()) for back, w in by_distance(one.subject).items()}
        places = [place for place in range(-8, 9) if place in share]
        curve(right, places, [share[place] for place in places], colour, name)
    label_axes(left, "Loss", "training step", "nats a character")
    label_axes(right, "Attention of layer 1", "place of the key, from the query's", "mean weight")
    left.set_ylim(bottom=0)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)


QUESTION = Question(
    asks="Why may no character attend to a later one?",
    keys=SIZE | {"train.max_steps": 1000},
    variants=[Variant(MASK), Variant(NO_MASK, no_mask)],
    at_start=nothing,
    at_end=cheating,
    columns={
        **LOSSES,
        "writing_loss": ("loss when it writes", ".3f"),
        "next": ("weight on the next", ".1%"),
    },
    answer=answer_mask,
    draw=draw_mask,
    writes=True,
)
