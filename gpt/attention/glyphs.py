"""Visible signs for white space."""

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\u00a0": "⍽"}
UNKNOWN = "▯"


def glyph(character: str) -> str:
    """One visible character for `character`: white space gets a sign of its own.

    >>> [glyph(c) for c in "a \\n"]
    ['a', '·', '↵']
    """
    return VISIBLE.get(character, character if character.isprintable() else UNKNOWN)
