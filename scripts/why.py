"""Why is attention as it is? Change one thing, train, and see what it costs.

python scripts/why.py scale    # why are the scores divided by the root of head_size?
python scripts/why.py mask     # why may no character attend to a later one?
python scripts/why.py value    # why a query, a key and a value, and not less?
python scripts/why.py heads    # why several heads?

The models of a question differ in one thing alone: with the same seed they start with the same
weights and read the same batches. All that is not said here is as in configs/ladder/. The answer is
the last sentence; it claims what differs by more than the seeds do.
"""

import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gpt import files, paths
from gpt.attention.figures import INK, LINE, SOFT
from gpt.command.cli import Parser, number, user_path
from gpt.command.config_file import load_config
from gpt.command.process import ending_with_reader, run_command
from gpt.config import Config, ModelConfig
from gpt.data.corpus import Corpus, load_corpus
from gpt.data.sources import settled
from gpt.errors import Exit, say
from gpt.evaluate import evaluating, exact_loss, windows
from gpt.generation.generate import sample_next
from gpt.generation.writer import start_of
from gpt.model import GPT, Block, MultiHeadAttention, attend
from gpt.optim import lr_factor, make_optimizers, set_lr
from gpt.storage.run_directory import for_shell
from gpt.training.event_file import SessionWriter

LOG_EVERY = 25  # steps
# told apart with every kind of colour vision, and by their marks
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
MARKS = {BLUE: "o", ORANGE: "s", GREEN: "D", PURPLE: "^", INK: "*"}

# --- the changes -------------------------------------------------------------------------------
# Each computes what `attend` does: out (B, H, T, D) and the weights (B, H, T, T), of q, k, v and x,
# which are (B, H, T, D). x is what q, k and v are projections of, cut into heads.

Change = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def unchanged(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, v)


def no_scale(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q * q.shape[-1] ** 0.5, k, v)  # undoes the division


def no_mask(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1)
    return weights @ v, weights


def identity_value(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, x)


def query_is_key(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(k, k, v)


def uniform(q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return attend(torch.zeros_like(q), k, v)  # equal scores


class ChangedAttention(MultiHeadAttention):
    """The model's attention with one thing changed; `weights` (B, H, T, T) are the last ones."""

    weights: Tensor

    def __init__(self, config: ModelConfig, change: Change):
        super().__init__(config)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        B, T, C = x.shape
        in_heads = x.view(B, T, self.n_head, self.head_size).transpose(1, 2)
        out, self.weights = self.change(*self.qkv(x), in_heads)
        return self.projection(out.transpose(1, 2).reshape(B, T, C))


def changed_model(config: Config, vocab_size: int, change: Change) -> GPT:
    """The GPT that training would begin with, but for its attention."""
    torch.manual_seed(config.train.seed)
    model = GPT(config.model, vocab_size)
    for block in model.blocks:
        assert isinstance(block, Block)
        attention = ChangedAttention(config.model, change)
        attention.load_state_dict(block.attention.state_dict())
        block.attention = attention
    return model


# --- what is measured --------------------------------------------------------------------------

Numbers = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """A model that is measured, and what it is trained on."""

    model: GPT
    corpus: Corpus
    config: Config

    @property
    def attentions(self) -> list[ChangedAttention]:
        return [block.attention for block in self.model.blocks]  # type: ignore[misc]

    def loss(self, step: int) -> Tensor:
        """Mean loss of the batch of training step `step` [nats a character]."""
        train = self.config.train
        arrays = self.corpus.batch(step, train.seed, train.batch_size, self.config.model.block_size)
        tokens, targets = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return F.cross_entropy(self.model(tokens).flatten(0, 1), targets.flatten())


def nothing(subject: Subject) -> Numbers:
    return {}


def val_loss(subject: Subject) -> Numbers:
    return {"val_loss": exact_loss(subject.model, subject.corpus.val_ids)}


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


def parameters(subject: Subject) -> Numbers:
    """How many numbers are learned: what gets no gradient is not in use."""
    subject.loss(0).backward()
    used = [p for p in subject.model.parameters() if p.grad is not None and p.grad.any()]
    subject.model.zero_grad()
    return {"parameters": sum(p.numel() for p in used)}


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


def looking_back(subject: Subject) -> Numbers:
    """The heads of layer 1 that look least and most far back on average, in characters."""
    attention = subject.attentions[0]
    by_distance(subject)
    T = attention.weights.shape[-1]
    distance = torch.arange(T)[:, None] - torch.arange(T)
    back = (attention.weights * distance).sum(-1).mean((0, 2))  # (H,)
    return val_loss(subject) | {"nearest": float(back.min()), "farthest": float(back.max())}


def by_distance(subject: Subject) -> dict[int, Tensor]:
    """The mean weight of each head of layer 1 (H,) at a distance: 1 is the character before,
    -1 the next one."""
    size = subject.config.model.block_size
    ids = subject.corpus.val_ids[: 100 * size + 1]
    with evaluating(subject.model):
        subject.model(next(windows(ids, size, batch_chars=len(ids)))[0])
    weights = subject.attentions[0].weights.mean(0)  # (H, T, T)
    reach = range(1 - size if weights.triu(1).any() else 0, size)
    return {n: weights.diagonal(-n, dim1=1, dim2=2).mean(-1) for n in reach}


# --- a question --------------------------------------------------------------------------------

Table = dict[str, dict[str, list[float]]]  # name of a variant -> number -> its value for each seed


@dataclass(frozen=True)
class Variant:
    """A model: a rung of configs/ladder/ with `keys` of its config, and a change."""

    name: str  # of its row in the table and its folder
    change: Change = unchanged
    keys: dict[str, Any] = field(default_factory=dict)
    rung: str = "6-norm"


@dataclass(frozen=True)
class Found:
    """What was found of a variant."""

    numbers: dict[str, list[float]]  # each with a value for each seed
    subject: Subject  # of the last seed, trained
    losses: list[float]  # of its training steps [nats a character]


@dataclass(frozen=True)
class Question:
    """What is asked, which models answer it, and how.

    Args:
        keys: of the config, for all variants.
        at_start, at_end: measure a model before and after training.
        columns: number -> its heading in the table, and its format.
        writes: whether a text of each model is shown.
    """

    asks: str
    keys: dict[str, Any]
    variants: Sequence[Variant]
    at_start: Callable[[Subject], Numbers]
    at_end: Callable[[Subject], Numbers]
    columns: dict[str, tuple[str, str]]
    answer: Callable[[Table], str]
    draw: Callable[[Figure, dict[str, Found]], None]
    writes: bool = False

    def config(self, variant: Variant, overrides: dict[str, Any], seed: int = 0) -> Config:
        """The config of a variant; its seed is that of configs/ladder/, plus `seed`."""
        path = paths.CONFIGS / "ladder" / f"{variant.rung}.yaml"
        keys = self.keys | variant.keys | overrides
        return load_config(path, keys | {"train.seed": load_config(path).train.seed + seed})


def find(
    question: Question, variant: Variant, corpus: Corpus, configs: Iterable[Config], folder: Path
) -> Found:
    """Train a variant with each of `configs`; log the loss and every number for TensorBoard."""
    numbers: dict[str, list[float]] = {}
    for config in configs:
        model = changed_model(config, len(corpus.tokenizer), variant.change)
        subject, steps = Subject(model, corpus, config), config.train.max_steps
        place = folder / f"{re.sub('[^a-z0-9]+', '-', variant.name.lower())}-{config.train.seed}"
        files.make_directory(place)
        writer = SessionWriter(place, purge_step=0)  # what an earlier command logged is not shown
        start = question.at_start(subject)
        losses = train(subject, writer)
        end = {"train_loss": mean(losses[-100:]), **question.at_end(subject)}
        for step, measured in ((0, start), (steps, end)):
            for name, value in measured.items():
                writer.add_scalar(f"why/{name}", value, step)
                numbers.setdefault(name, []).append(value)
        writer.events.close()
    return Found(numbers, subject, losses)


def train(subject: Subject, writer: SessionWriter) -> list[float]:
    """Train with the project's optimizer and schedule; the loss of each step."""
    config = subject.config.train
    optimizers = make_optimizers(subject.model, config)
    losses: list[float] = []
    for step in range(config.max_steps):
        set_lr(optimizers, lr_factor(step, config))
        loss = subject.loss(step)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if len(losses) % LOG_EVERY == 0:
            writer.add_scalar("why/training", mean(losses[-LOG_EVERY:]), len(losses))
    return losses


def write(subject: Subject, length: int) -> str:
    """Text that a model writes; `generate` is no use, since its KV cache needs the mask."""
    tokenizer, chance = subject.corpus.tokenizer, np.random.default_rng(subject.config.train.seed)
    text = start_of("", tokenizer)
    with evaluating(subject.model):
        for _ in range(length):
            seen = tokenizer.encode(text[-subject.config.model.block_size :]).astype(np.int64)
            logits = subject.model(torch.from_numpy(seen)[None])[:, -1].numpy()
            text += tokenizer.decode(sample_next(logits, chance.random(1)))
    return text.strip()


# --- the questions: their variants, answers and figures ----------------------------------------
# An answer is a sentence made of the numbers: it says what they show, and no more.


def differ(some: list[float], others: list[float]) -> bool:
    """Whether the seeds show a difference: their ranges do not overlap."""
    return max(some) < min(others) or max(others) < min(some)


def effect(before: list[float], after: list[float]) -> str:
    """By how much a change moves a loss, and whether the seeds show that."""
    moved = f"{mean(after) - mean(before):+z.3f}"
    return moved if differ(before, after) else f"{moved} (within the seeds' spread)"


def listed(parts: Iterable[object]) -> str:
    *most, last = map(str, parts)
    return f"{', '.join(most)} and {last}" if most else last


SIZES = (8, 32, 128)  # of the heads; together they are 128 wide


def divided(size: int) -> str:
    return f"head_size {size}"


def undivided(size: int) -> str:
    return f"head_size {size}, not divided"


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


MASK, NO_MASK = "with the mask", "without it"


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


WHOLE = "query, key and value"


def answer_value(table: Table) -> str:
    whole = table[WHOLE]["val_loss"]
    changed = {name: row["val_loss"] for name, row in table.items() if name != WHOLE}
    costs = listed(f"{effect(whole, losses)} with {name}" for name, losses in changed.items())
    dearest = max(changed, key=lambda name: mean(changed[name]))
    others = [whole, *(losses for name, losses in changed.items() if name != dearest)]
    shown = all(min(changed[dearest]) > max(losses) for losses in others)
    verdict = f"the dearest is {dearest}" if shown else "none is shown to be the dearest"
    return f"Of the changes {verdict}: the loss changes by {costs}, in nats."


def draw_value(figure: Figure, found: dict[str, Found]) -> None:
    dots(figure.subplots(), found)


ONE, FOUR = "one head of 32", "four heads of 8"
PLACES = {"one layer": "2-one-head", "three blocks": "6-norm"}  # where they are -> rung


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


def dots(axes: Axes, found: dict[str, Found]) -> None:
    """A row for each variant: a dot for the loss of each seed, and a bar at their mean."""
    for y, one in enumerate(found.values()):
        losses = one.numbers["val_loss"]
        axes.plot(losses, [y] * len(losses), "o", color=BLUE, alpha=0.5)
        axes.plot(mean(losses), y, "|", color=INK, markersize=16)
        axes.annotate(
            f"{mean(losses):.3f}", (max(losses), y), (8, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    label_axes(axes, "Loss after training, of each seed", "validation loss [nats]", "")
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.margins(x=0.2)


def curve(axes: Axes, x: Sequence[int], y: list[float], colour: str, label: str) -> None:
    axes.plot(x, y, color=colour, marker=MARKS[colour], markersize=5, label=label)


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x, color=SOFT)
    axes.set_ylabel(y, color=SOFT)
    axes.tick_params(labelsize=9, color=LINE, labelcolor=INK)
    axes.grid(color="#ebebeb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


LOSSES = {"train_loss": ("train loss", ".3f"), "val_loss": ("val loss", ".3f")}
SIZE = {
    "model.block_size": 32,
    "train.batch_size": 16,
    "model.n_embd": 64,
    "model.n_layer": 2,
}
QUESTIONS = {
    "scale": Question(
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
    ),
    "mask": Question(
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
    ),
    "value": Question(
        asks="Why a query, a key and a value, and not less?",
        keys=SIZE | {"train.max_steps": 600},
        variants=[
            Variant(WHOLE),
            Variant("V as the identity", identity_value),
            Variant("Q = K", query_is_key),
            Variant("uniform weights", uniform),
        ],
        at_start=parameters,
        at_end=val_loss,
        columns={"parameters": ("parameters in use", ",.0f"), **LOSSES},
        answer=answer_value,
        draw=draw_value,
    ),
    "heads": Question(
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
    ),
}


# --- the command -------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    """Print a table, a row as soon as it is found, and the answer; write a figure and curves."""
    parser = Parser(prog="scripts/why.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    asked = "; ".join(f"{name}: {question.asks}" for name, question in QUESTIONS.items())
    add("question", choices=QUESTIONS, help=asked)
    add("--seeds", type=number(int, 1), default=3, metavar="N", help="trainings of a model [3]")
    steps = "optimizer steps [as many as take two minutes on two cores]"
    add("--steps", type=number(int, 1), metavar="N", help=steps)
    text = "your own UTF-8 text [tinyshakespeare]"
    add("--data.text", dest="text", metavar="X", nargs="+", type=user_path, help=text)
    args = parser.parse_all(argv)
    overrides = {"train.max_steps": args.steps} if args.steps else {}
    if args.text:
        overrides["data.text"] = settled(args.text if len(args.text) > 1 else args.text[0], say)
    folder = paths.RUNS / "why" / args.question
    answer(QUESTIONS[args.question], overrides, args.seeds, folder)
    picture = for_shell(folder / f"{args.question}.png")
    say(f"figure: {picture}; curves: tensorboard --logdir {for_shell(folder)}")
    return Exit.DONE


def answer(
    question: Question, overrides: dict[str, Any], seeds: int, folder: Path
) -> dict[str, Found]:
    """Print the answer to a question, and what it rests on; write a figure."""
    first = question.config(question.variants[0], overrides)
    torch.set_num_threads(first.train.threads)
    corpus = load_corpus(first, say)
    many = f"{seeds} seeds; ± is half of their range" if seeds > 1 else "one seed"
    _print(f"{question.asks} {first.train.max_steps:,} steps, {many}.\n")
    _print(_row("", [heading for heading, _ in question.columns.values()]))
    _print(_row("---", ["---"] * len(question.columns)))
    found = {}
    for variant in question.variants:
        configs = (question.config(variant, overrides, seed) for seed in range(seeds))
        one = found[variant.name] = find(question, variant, corpus, configs, folder)
        cells = [_cell(one.numbers[key], form) for key, (_, form) in question.columns.items()]
        _print(_row(variant.name, cells))
    for name, one in found.items() if question.writes else ():
        _print(f"\n{name}, it writes:\n{write(one.subject, 200)}")
    figure = Figure(figsize=(10, 3.8), layout="constrained", facecolor="white")
    question.draw(figure, found)
    figure.savefig(folder / f"{folder.name}.png", dpi=120)
    caution = "With one seed: " if seeds == 1 else ""
    sentence = question.answer({name: one.numbers for name, one in found.items()})
    _print("\n" + textwrap.fill(caution + sentence, 100))
    return found


def _row(name: str, cells: list[str]) -> str:
    return f"| {name:<29} | {' | '.join(f'{cell:>20}' for cell in cells)} |"


def _cell(values: list[float], form: str) -> str:
    """The mean over the seeds and, where they differ, half of their range."""
    half = (max(values) - min(values)) / 2
    return f"{mean(values):{form}}" + (f" ± {half:{form}}" if half else "")


def _print(text: str) -> None:
    with ending_with_reader(sys.stdout):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
