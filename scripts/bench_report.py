"""What `bench.py` says of its measurements: medians, ranges, ratios, goals, table and plot."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass
class Measured:
    """What one contender did, a dictionary of raw numbers a turn; or why there is none."""

    row: str
    case: str
    who: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def values(self, key: str) -> list[float]:
        return [] if self.error else [run[key] for run in self.runs]


@dataclass(frozen=True)
class Goal:
    """`sign` is ">=" or "<="."""

    sign: str
    number: float

    def is_met(self, value: float) -> bool:
        return value >= self.number if self.sign == ">=" else value <= self.number

    def __str__(self) -> str:
        return f"{self.sign} {self.number:g}"


@dataclass(frozen=True)
class Line:
    """A line of the table. `unit` is "x" for a ratio."""

    row: str
    case: str
    what: str
    unit: str
    median: float
    low: float
    high: float
    goal: Goal | None = None
    overlap: bool = False  # of a ratio: the two ranges share values

    @property
    def met(self) -> bool | None:
        """By the median."""
        return self.goal.is_met(self.median) if self.goal else None

    @property
    def met_throughout(self) -> bool | None:
        """By the whole range."""
        if self.goal is None:
            return None
        return self.goal.is_met(self.low) and self.goal.is_met(self.high)


def amount(
    one: Measured, key: str, unit: str, goal: Goal | None = None, less: Measured | None = None
) -> Line | None:
    """What was measured itself, or how much more than `less` it is, turn by turn.

    None where either is missing.
    """
    values, what = one.values(key), one.who
    if less:
        what = f"{one.who} - {less.who}"
        values = [a - b for a, b in zip(values, less.values(key), strict=False)]
    if not values:
        return None
    return Line(one.row, one.case, what, unit, median(values), min(values), max(values), goal)


def ratio(top: Measured, bottom: Measured, key: str, goal: Goal | None = None) -> Line | None:
    """The ratio of two medians; its range reaches from the least possible to the most."""
    a, b = top.values(key), bottom.values(key)
    if not a or not b or min(b) <= 0:
        return None
    overlap = max(min(a), min(b)) <= min(max(a), max(b))
    what = f"{top.who} / {bottom.who}"
    middle, low, high = median(a) / median(b), min(a) / max(b), max(a) / min(b)
    return Line(top.row, top.case, what, "x", middle, low, high, goal, overlap)


# --- on the terminal ---------------------------------------------------------------------------


def shown(value: float) -> str:
    """Four digits or so, in the form a person reads."""
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"


def printed(line: Line) -> str:
    span = f"{shown(line.low)} – {shown(line.high)}"
    text = f"    {line.what:<34} {shown(line.median):>9} {line.unit:<8} {span:<19}"
    notes = []
    if line.goal:
        met = "met" if line.met_throughout else "met by the median" if line.met else "not met"
        notes.append(f"goal {line.goal}: {met}")
    if line.overlap:
        notes.append("the ranges overlap")
    return " ".join([text, ", but ".join(notes)]).rstrip()


# --- as a picture ------------------------------------------------------------------------------


def plot(lines: list[Line], path: Path) -> None:
    """A bar a ratio, from 1 to its median, with its range, and its goal as a mark."""
    from matplotlib.figure import Figure

    ratios = [line for line in lines if line.unit == "x"]
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(ratios)), layout="constrained")
    axes = figure.subplots()
    for y, line in enumerate(ratios):
        colour = {True: "tab:green", False: "tab:red", None: "tab:grey"}[line.met]
        axes.barh(y, line.median - 1, left=1, height=0.6, color=colour, alpha=0.6)
        axes.plot([line.low, line.high], [y, y], color="black", linewidth=1.2)
        axes.text(line.high, y, f"  {shown(line.median)}", va="center", fontsize=8)
        if line.goal:
            axes.plot(line.goal.number, y, "|", color="black", markersize=15)
    names = [f"{one.row}: {one.what}\n{one.case.split(';')[0]}".strip() for one in ratios]
    axes.set_yticks(range(len(ratios)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_xlabel(
        "ratio of medians; line: range, mark: goal; green: met, red: not, grey: no goal"
    )
    figure.savefig(path, dpi=120)
