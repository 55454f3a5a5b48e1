"""What the figures of all questions share: colours, marks, axes."""

from collections.abc import Sequence
from statistics import mean

from matplotlib.axes import Axes
from question import Found

from gpt.attention.figures import INK, LINE, SOFT

# told apart with every kind of colour vision, and by their marks
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
MARKS = {BLUE: "o", ORANGE: "s", GREEN: "D", PURPLE: "^", INK: "*"}


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
