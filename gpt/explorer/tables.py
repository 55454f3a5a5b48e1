"""Tables of numbers for a reader: named rows, and no more of them than fit on a screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

MOST_ROWS, MOST_COLUMNS = 12, 6  # of a text and of a vector that are shown
MOST_SUMMANDS = 4  # of a longer sum

Cell = float | str


@dataclass(frozen=True)
class Table:
    """Named rows of numbers.

    Attributes:
        role: query, key, value, weights or none.
        seen: whether the numbers were shown before.
        strong: the name of the row that is followed.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    role: str = ""
    seen: bool = False
    strong: str = ""


@dataclass(frozen=True)
class Group:
    """The children of a group or the characters of a text, in line; the one at `query` asks."""

    who: str
    names: Sequence[str]
    query: int

    @property
    def is_small(self) -> bool:
        """Whether every number fits on a screen."""
        return len(self.names) <= MOST_COLUMNS

    @property
    def asker(self) -> str:
        return self.names[self.query]

    @property
    def shown(self) -> range:
        """All of them, or as many as are shown, up to the one that asks."""
        end = max(self.query + 1, min(MOST_ROWS, len(self.names)))
        return range(max(0, end - MOST_ROWS), end)

    @property
    def asked(self) -> range:
        """Those shown that the one that asks may look at."""
        return range(self.shown.start, self.query + 1)

    @property
    def earlier(self) -> str:
        """A name for those before the ones shown; empty if there are none."""
        return f"the {self.shown.start} before" if self.shown.start else ""

    def vectors(self, name: str, x: Tensor, letter: str = "D", **style: Any) -> Table:
        """x (T, D), a row for each that is shown."""
        return self._vectors(name, x, letter, self.shown, **style)

    def query_vector(self, name: str, q: Tensor, **style: Any) -> Table:
        """q (T, D), of a longer text only the row of the one that asks."""
        return self._vectors(name, q, "D", self.shown if self.is_small else [self.query], **style)

    def _vectors(
        self, name: str, x: Tensor, letter: str, places: Sequence[int], **style: Any
    ) -> Table:
        T, size = x.shape
        part = f"; columns 1 to {MOST_COLUMNS}" if size > MOST_COLUMNS else ""
        rows = [(self.names[t], x[t, :MOST_COLUMNS].tolist()) for t in places]
        title = f"{name}  (T, {letter}) = ({T}, {size}){part}"
        return Table(title, counted(size), rows, strong=self.asker, **style)

    def pairs(self, name: str, x: Tensor, **style: Any) -> Table:
        """x (T, T), row: query, column: key."""
        rows = [(self.names[t], [float(x[t, key]) for key in self.shown]) for t in self.shown]
        title = f"{name}  (T, T) = ({len(x)}, {len(x)}); row: query, column: key"
        columns = [self.names[key] for key in self.shown]
        return Table(title, columns, rows, strong=self.asker, **style)


def dot_product(title: str, a: tuple[str, Tensor], b: tuple[str, Tensor]) -> Table:
    """Two vectors (D,), multiplied number by number and summed: all of few, the largest of many."""
    products = a[1] * b[1]
    D, rest = len(products), []
    top = list(range(D))
    if D > MOST_COLUMNS:
        top = products.abs().topk(MOST_SUMMANDS).indices.tolist()
        title += f", the {MOST_SUMMANDS} largest of {D} products"
        rest = [float(products.sum() - products[top].sum())]
    columns = [f"{d + 1}" for d in top] + [f"other {D - MOST_SUMMANDS}" for _ in rest] + ["sum"]
    blank = [""] * (1 + len(rest))
    rows: list[tuple[str, Sequence[Cell]]] = [
        (name, [*vector[top].tolist(), *blank]) for name, vector in (a, b)
    ]
    rows.append(("product", [*products[top].tolist(), *rest, float(products.sum())]))
    return Table(title, columns, rows, strong="product")


def counted(size: int) -> list[str]:
    return [f"{d + 1}" for d in range(min(size, MOST_COLUMNS))]
