"""A picture of the attention weights of a layer, one matrix a head, for TensorBoard.

matplotlib is slow with a text artist for each tick label. So one set of axes spans the figure, in
pixels, and the characters beside all matrices are one path, made of cached outlines.
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
# one hue, darker with the weight: readable with every kind of colour vision
RAMP = LinearSegmentedColormap.from_list(
    "weight", ["#ffffff", "#cfe1f2", "#86b6dc", "#3b7fbd", "#154a8c", "#071d49"]
)
TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)  # weights beside the colour bar


@dataclass(frozen=True)
class Layout:
    """Where everything is, in pixels from the top left corner."""

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
        """Font size of the characters above a matrix; 0 if there is no room for them."""
        return min(1.4 * self.cell, 15) if self.cell > 6 else 0

    @property
    def pitch(self) -> tuple[int, int]:
        """From a matrix to the next one on the right, and to the one below."""
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


def layer_figure(weights: Tensor, text: str, layer: int, notes: Sequence[str]) -> Figure:
    """The weights of every head of a layer; rows are queries, columns are keys.

    Colour follows the square root of the weight, so that 2 % is visible too. What the mask hides
    is grey, unlike a weight of zero. Texts of more than 78 characters are drawn without the
    characters beside the matrices.

    Args:
        weights: (H, T, T), rows sum to one; on any device.
        text: the T characters.
        layer: counted from 0.
        notes: H of them, a few words on each head, shown in its masked corner if there is room.

    Raises:
        ValueError: if the shapes do not fit.
    """
    H, T = len(weights), len(text)
    if weights.shape != (H, T, T) or not H * T or len(notes) != H:
        raise ValueError(
            f"{tuple(weights.shape)} weights and {len(notes)} notes for {T} characters"
        )
    layout = Layout(H, T)
    figure, axes = open_page(layout.size)
    values = weights.detach().float().cpu().numpy()
    for head in range(H):
        draw_head(axes, layout, head, values[head])
        x, y = layout.corner(head)
        y_title = y - round(layout.letter) - 9
        axes.text(x, y_title, head_name(layer, head), color=INK, fontsize=9.5, fontweight="bold")
        if layout.panel > 200:
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
    """A white figure; its only axes measure pixels from the top left corner."""
    width, height = size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
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
    """The title, and what rows and columns are."""
    x, y = layout.left + round(layout.letter), layout.corner(0)[1]
    axes.text(x, 20, f"Layer {layer + 1}", color=INK, fontsize=13, fontweight="bold")
    axes.text(x, 42, "column: key", color=SOFT, fontsize=9)
    style: Any = {"color": SOFT, "fontsize": 9, "ha": "center", "va": "top", "rotation": 90}
    axes.text(10, y, "row: query", **style)


def draw_colour_bar(axes: Axes, layout: Layout) -> None:
    """The colour scale, and what grey means."""
    x, y = layout.size[0] - layout.right + 24, layout.corner(0)[1]
    long = 200
    ramp = RAMP(np.linspace(1, 0, 256), bytes=True)[:, None]
    axes.imshow(ramp, extent=(x, x + 16, y + long, y), aspect="auto")
    axes.add_patch(Rectangle((x, y), 16, long, fill=False, edgecolor=LINE, linewidth=0.6))
    for weight in TICKS:
        label_y = y + long * (1 - sqrt(weight))
        axes.text(x + 22, label_y, f"{weight:.0%}", color=INK, fontsize=8, va="center_baseline")
    axes.text(x, y - 9, "weight", color=SOFT, fontsize=9)
    below = y + long + 18
    axes.add_patch(Rectangle((x, below), 16, 16, facecolor=MASKED, edgecolor=LINE, linewidth=0.6))
    style: Any = {"color": INK, "fontsize": 8, "va": "center_baseline"}
    axes.text(x + 22, below + 8, "masked:\nthe future", **style)


def letters(layout: Layout, text: str) -> PathPatch:
    """The text above and to the left of every matrix, as one path."""
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
    """Vertices (N, 2) [em, y downwards] and path codes (N,) of a character; the origin is the
    middle of a capital letter."""
    known = get_font(font_manager.findfont(FONT)).get_char_index(ord(character))
    path = TextPath((0, 0), character if known else UNKNOWN, size=100, prop=FONT)
    advance, capital = 0.602, 0.729  # of DejaVu Sans Mono, in ems
    vertices = np.asarray(path.vertices, dtype=np.float64) / 100 - (advance / 2, capital / 2)
    return vertices * (1, -1), np.asarray(path.codes, dtype=np.uint8)
