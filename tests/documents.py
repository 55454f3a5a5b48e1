"""The parts of a Markdown document."""

import re

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str = "") -> list[str]:
    """What stands between fences, of one language."""
    return [block for name, block in _FENCED.findall(text) if name == language]


def prose(text: str) -> str:
    """All that stands outside of fences."""
    return _FENCED.sub("", text)


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose heading begins with the cell `first`, row by row."""
    heading = rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n"
    table = re.split(heading, text, flags=re.MULTILINE)[1].partition("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
