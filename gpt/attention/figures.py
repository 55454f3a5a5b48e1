"""One picture a layer: what each of its heads looks at. Drawn at every evaluation while training.

What is slow in matplotlib is a text artist for each tick label, one for each character, side and
head. Here one set of axes spans the figure, in pixels, and all those characters are one path made
of outlines that are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from torch import Tensor

from gpt.attention.glyphs import UNKNOWN, glyph
from gpt.attention.trace import head_name

DPI = 100
FONT = FontProperties(family="DejaVu Sans Mono")
INK, SOFT, LINE, MASKED = "#1a1a1a", "#5f5f5f", "#9a9a9a", "#e3e3e3"
# one hue that only grows darker: it reads the same for every kind of colour vision
RAMP = LinearSegmentedColormap.from_list(
    "weight", ["#ffffff", "#cfe1f2", "#86b6dc", "#3b7fbd", "#154a8c", "#071d49"]
)
SHARES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)  # marked beside the colour bar


@dataclass(frozen=True)
class Layout:
    """Where things stand, in pixels from the top left corner."""

    n_head: int
    length: int  # characters of the text, T

    top, left, bottom, right, gap, title = 58, 34, 16, 128, 26, 20

    @property
    def columns(self) -> int:
        return ceil(sqrt(self.n_head))

    @property
    def cell(self) -> int:
        """Side of the square of one weight."""
        return min(36, max(1, round(512 / self.length)))

    @property
    def panel(self) -> int:
        return self.cell * self.length

    @property
    def letter(self) -> float:
        """Font size of the characters along the upper side; 0 where there is no room for them."""
        return min(1.4 * self.cell, 15) if self.cell > 6 else 0

    @property
    def pitch(self) -> tuple[int, int]:
        """From a panel to its neighbour on the right, and to the one below."""
        side = self.panel + self.gap + round(self.letter)
        return side, side + self.title

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the figure."""
        rows = ceil(self.n_head / self.columns)
        x, y = self.corner(self.columns * rows - 1)
        return max(x + self.panel + self.right, 400), max(y + self.panel + self.bottom, 350)

    def corner(self, head: int) -> tuple[int, int]:
        """x and y of the top left corner of a head's matrix."""
        row, column = divmod(head, self.columns)
        side = round(self.letter)
        x = self.left + side + column * self.pitch[0]
        return x, self.top + self.title + side + row * self.pitch[1]


def layer_figure(
    weights: Tensor, text: str, layer: int, notes: Sequence[str] | None = None
) -> Figure:
    """Every head of a layer as a matrix: rows are the characters that ask, columns those looked at.

    The colour grows with the square root of the weight, so that one part in fifty is seen too.
    What a row may not look at, the future, is grey: that is another thing than a weight of zero.
    Texts of more than 78 characters are drawn without the characters at the sides.

    Args:
        weights: (H, T, T), rows sum to one; on any device.
        text: the T characters.
        layer: counted from 0.
        notes: a few words on each head, shown in its masked corner if there is room; H of them.

    Raises:
        ValueError: if the shapes do not fit.
    """
    H, T = len(weights), len(text)
    if weights.shape != (H, T, T) or not H * T or (notes and len(notes) != H):
        raise ValueError(
            f"{tuple(weights.shape)} weights and {len(notes or ())} notes for {T} characters"
        )
    layout = Layout(H, T)
    figure, axes = open_page(layout.size)
    values = weights.detach().float().cpu().numpy()
    for head in range(H):
        draw_head(axes, layout, head, values[head])
        x, y = layout.corner(head)
        y_title = y - round(layout.letter) - 9
        axes.text(x, y_title, head_name(layer, head), color=INK, fontsize=9.5, fontweight="bold")
        if notes and layout.panel > 200:
            style: Any = {"color": SOFT, "fontsize": 8, "ha": "right", "va": "top"}
            axes.text(x + layout.panel - 7, y + 8, notes[head], parse_math=False, **style)
    if layout.letter:
        axes.add_artist(letters(layout, text))  # add_patch would walk along every curve
    draw_words(axes, layout, layer)
    draw_colour_bar(axes, layout)
    return figure


def figure_image(figure: Figure) -> npt.NDArray[np.uint8]:
    """The figure's pixels, (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def open_page(size: tuple[int, int]) -> tuple[Figure, Axes]:
    """A white figure whose only axes count pixels from the top left corner."""
    width, height = size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def draw_head(axes: Axes, layout: Layout, head: int, values: npt.NDArray[np.floating]) -> None:
    x, y = layout.corner(head)
    side = layout.panel
    box = (x, x + side, y + side, y)
    axes.imshow(painted(values), extent=box, aspect="auto", interpolation="nearest")
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=LINE, linewidth=0.6))


def painted(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colours (T, T, 4) of one head's weights (T, T)."""
    colours = RAMP(np.sqrt(values.clip(0, 1)), bytes=True)
    future = ~np.tri(len(values), dtype=bool)
    colours[future] = np.round(np.array(to_rgba(MASKED)) * 255)
    return np.asarray(colours, dtype=np.uint8)


def draw_words(axes: Axes, layout: Layout, layer: int) -> None:
    """What the picture shows, and what its rows and columns are."""
    x, y = layout.left + round(layout.letter), layout.corner(0)[1]
    axes.text(x, 20, f"Layer {layer + 1}", color=INK, fontsize=13, fontweight="bold")
    axes.text(x, 42, "column: the character looked at (key)", color=SOFT, fontsize=9)
    style: Any = {"color": SOFT, "fontsize": 9, "ha": "center", "va": "top", "rotation": 90}
    axes.text(10, y, "row: the character that asks (query)", **style)


def draw_colour_bar(axes: Axes, layout: Layout) -> None:
    """The ramp with its weights, and what grey means."""
    x, y = layout.size[0] - layout.right + 24, layout.corner(0)[1]
    long = 200
    ramp = RAMP(np.linspace(1, 0, 256), bytes=True)[:, None]
    axes.imshow(ramp, extent=(x, x + 16, y + long, y), aspect="auto")
    axes.add_patch(Rectangle((x, y), 16, long, fill=False, edgecolor=LINE, linewidth=0.6))
    for share in SHARES:
        label_y = y + long * (1 - sqrt(share))
        axes.text(x + 22, label_y, f"{share:.0%}", color=INK, fontsize=8, va="center_baseline")
    axes.text(x, y - 9, "weight", color=SOFT, fontsize=9)
    below = y + long + 18
    axes.add_patch(Rectangle((x, below), 16, 16, facecolor=MASKED, edgecolor=LINE, linewidth=0.6))
    style: Any = {"color": INK, "fontsize": 8, "va": "center_baseline"}
    axes.text(x + 22, below + 8, "masked:\nthe future", **style)


def letters(layout: Layout, text: str) -> PathPatch:
    """The text along the upper and the left side of every head, as one path."""
    shapes = [outline(glyph(character)) for character in text]
    away = 0.5 * layout.letter + 1  # from the matrix to the middle of its letters
    placed = []
    for head in range(layout.n_head):
        x, y = layout.corner(head)
        for index, (vertices, _) in enumerate(shapes):
            middle = (index + 0.5) * layout.cell
            placed.append(vertices * layout.letter + (x + middle, y - away))
            placed.append(vertices * layout.letter * 0.85 + (x - away, y + middle))
    codes = np.concatenate([codes for _, codes in shapes for _ in ("upper", "left")])
    path = Path(np.concatenate(placed), np.tile(codes, layout.n_head))
    return PathPatch(path, facecolor=INK, linewidth=0)


@cache
def outline(character: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Vertices (N, 2) and path codes (N,) of a character, an em high, y downwards, around the
    middle of a capital letter."""
    known = get_font(font_manager.findfont(FONT)).get_char_index(ord(character))
    path = TextPath((0, 0), character if known else UNKNOWN, size=100, prop=FONT)
    advance, capital = 0.602, 0.729  # of DejaVu Sans Mono, in ems
    vertices = np.asarray(path.vertices, dtype=np.float64) / 100 - (advance / 2, capital / 2)
    return vertices * (1, -1), np.asarray(path.codes, dtype=np.uint8)
