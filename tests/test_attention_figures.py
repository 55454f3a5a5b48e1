"""The pictures are read back: the colour of a cell is where and what it should be."""

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from gpt.attention.figures import MASKED, RAMP, Layout, figure_image, layer_figure, outline
from gpt.attention.glyphs import UNKNOWN, glyph

TEXT = "ROMEO:\nBut soft, what light through yonder window"


def some_weights(n_head: int, length: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(n_head, length, length, generator=draw)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1)


def drawn(weights: torch.Tensor, text: str) -> Figure:
    return layer_figure(weights, text, 0, notes=[""] * len(weights))


def cell(image: np.ndarray, layout: Layout, head: int, i: int, j: int) -> tuple[int, ...]:
    """Colour in the middle of a weight's square, read from the picture."""
    x, y = layout.corner(head)
    half = layout.cell / 2
    return tuple(image[int(y + i * layout.cell + half), int(x + j * layout.cell + half)].tolist())


def colour(share: float) -> tuple[int, ...]:
    return tuple(RAMP(np.sqrt(share), bytes=True)[:3])


def close(a, b):
    return np.abs(np.array(a, int) - np.array(b, int)).max() <= 2


@pytest.mark.parametrize(("n_head", "length"), [(1, 8), (3, 20), (6, 49), (12, 30), (2, 90)])
def test_each_cell_has_the_colour_of_its_weight(n_head, length):
    weights = some_weights(n_head, length)
    image = figure_image(drawn(weights, (TEXT * 2)[:length]))
    layout = Layout(n_head, length)
    assert image.shape == (layout.size[1], layout.size[0], 3)
    assert image.dtype == np.uint8
    for head in range(n_head):
        for i in range(0, length, 3):
            for j in range(length):
                masked = tuple(round(255 * part) for part in to_rgb(MASKED))
                expected = masked if j > i else colour(float(weights[head, i, j]))
                assert close(cell(image, layout, head, i, j), expected), (head, i, j)


def test_masked_is_another_colour_than_no_weight():
    assert not close(np.array(to_rgb(MASKED)) * 255, colour(0))
    lightness = [sum(RAMP(x)[:3]) for x in np.linspace(0, 1, 20)]
    assert all(a > b for a, b in pairwise(lightness))


def test_words_and_names():
    figure = layer_figure(some_weights(4, 9), TEXT[:9], layer=1, notes=["a $1", "b", "c", "d"])
    words = [text.get_text() for text in figure.axes[0].texts]
    for expected in (
        "Layer 2",
        "L2H1",
        "L2H4",
        "a $1",
        "weight",
        "50%",
        "row: query",
        "column: key",
    ):
        assert expected in words
    figure_image(figure)


def test_the_letters_of_the_text_stand_at_their_rows_and_columns():
    layout = Layout(1, 3)
    image = figure_image(drawn(some_weights(1, 3), "I \n")).min(-1)
    x, y = layout.corner(0)
    side = round(layout.letter)
    for index in range(3):
        begin, end = index * layout.cell, (index + 1) * layout.cell
        assert image[y - side : y - 1, x + begin : x + end].min() < 140
        assert image[y + begin : y + end, x - side : x - 1].min() < 140
    no_letters = figure_image(drawn(some_weights(1, 90), "x" * 90))
    x, y = Layout(1, 90).corner(0)
    assert (no_letters[y : y + 400, x - 10 : x - 2] == 255).all()


def test_odd_characters_are_drawn_without_a_warning():
    text = "\t\n\r \u00a0$\\${}^_é汉🙂\u2028\x00"
    figure_image(drawn(some_weights(1, len(text)), text))
    shapes = [outline(c)[0].tolist() for c in ("汉", UNKNOWN, "x")]
    assert shapes[0] == shapes[1] != shapes[2]
    assert glyph(" ") == "·"
    assert glyph("\n") == "↵"
    assert glyph("\t") == "⇥"
    assert glyph("\x00") == UNKNOWN
    assert glyph("a") == "a"


@pytest.mark.parametrize(
    ("shape", "text", "notes"),
    [
        ((2, 3, 3), "ab", ["x", "y"]),
        ((3, 3), "abc", ["x", "y", "z"]),
        ((2, 3, 3), "abc", ["x"]),
        ((2, 3, 3), "abc", []),
        ((0, 0, 0), "", []),
    ],
)
def test_what_does_not_fit_is_refused(shape, text, notes):
    with pytest.raises(ValueError, match="weights"):
        layer_figure(torch.zeros(shape), text, layer=0, notes=notes)


def test_the_number_of_artists_does_not_grow_with_the_text():
    short, long = (drawn(some_weights(4, length), TEXT[:length]) for length in (8, 49))
    assert len(short.axes[0].get_children()) == len(long.axes[0].get_children()) < 50


def test_it_is_cheap():
    weights = some_weights(4, 49)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        figure_image(drawn(weights, TEXT))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.25
