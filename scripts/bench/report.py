"""What is reported of the measurements: medians, ranges, ratios and goals, in lines of a table."""

from dataclasses import dataclass, field
from statistics import median

from timing import Numbers


@dataclass
class Measured:
    """The raw numbers of a contender, one dictionary per turn, or the error that ended them."""

    row: str
    case: str
    who: str
    runs: list[Numbers] = field(default_factory=list)
    error: str = ""

    def values(self, key: str) -> list[float]:
        return [] if self.error else [run[key] for run in self.runs]


@dataclass(frozen=True)
class Goal:
    """What a number should be; `sign` is ">=" or "<="."""

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
        """Whether the median meets the goal."""
        return self.goal.is_met(self.median) if self.goal else None


def amount(
    one: Measured, key: str, unit: str, goal: Goal | None = None, less: Measured | None = None
) -> Line | None:
    """The line of a number, or of its excess over that of `less`, turn by turn; None if missing."""
    values, what = one.values(key), one.who
    if less:
        what = f"{one.who} - {less.who}"
        values = [a - b for a, b in zip(values, less.values(key), strict=False)]
    if not values:
        return None
    return Line(one.row, one.case, what, unit, median(values), min(values), max(values), goal)


def ratio(top: Measured, bottom: Measured, key: str, goal: Goal | None = None) -> Line | None:
    """The line of a ratio of medians; its range is from the least possible ratio to the most.

    None if either was not measured.
    """
    a, b = top.values(key), bottom.values(key)
    if not a or not b or min(b) <= 0:
        return None
    overlap = max(min(a), min(b)) <= min(max(a), max(b))
    what = f"{top.who} / {bottom.who}"
    middle, low, high = median(a) / median(b), min(a) / max(b), max(a) / min(b)
    return Line(top.row, top.case, what, "x", middle, low, high, goal, overlap)


def shown(value: float) -> str:
    """`value` with about four digits."""
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"


def printed(line: Line) -> str:
    """`line` as the terminal shows it: median, unit, range, goal."""
    span = f"{shown(line.low)} – {shown(line.high)}"
    text = f"    {line.what:<34} {shown(line.median):>9} {line.unit:<8} {span:<19}"
    notes = []
    if line.goal:
        whole_range = line.goal.is_met(line.low) and line.goal.is_met(line.high)
        met = "met" if whole_range else "met by the median" if line.met else "not met"
        notes.append(f"goal {line.goal}: {met}")
    if line.overlap:
        notes.append("the ranges overlap")
    return " ".join([text, ", but ".join(notes)]).rstrip()
