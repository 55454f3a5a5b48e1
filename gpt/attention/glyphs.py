"""Visible signs for white space."""

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\u00a0": "⍽"}
UNKNOWN = "▯"


def glyph(character: str) -> str:
    """One visible character for `character`: white space gets a sign of its own.

    >>> [glyph(c) for c in "a \\n"]
    ['a', '·', '↵']
    """
    return VISIBLE.get(character, character if character.isprintable() else UNKNOWN)


def on_one_line(text: str) -> str:
    """`text` without line breaks or control characters; only spaces stay as they are.

    >>> on_one_line("to be,\\nor")
    'to be,↵or'
    """
    return "".join(c if c == " " else glyph(c) for c in text)
