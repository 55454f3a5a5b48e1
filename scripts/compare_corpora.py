"""Compare two texts line by line, and count the kinds of differences.

The numbers in `data/README.md` come from here. The comparison is exact, so it takes time: about 15
seconds for two texts of 40,000 lines.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from gpt.command.cli import Parser, number, user_path
from gpt.command.process import run_command
from gpt.errors import Exit, not_utf8, reading


class Difference(NamedTuple):
    """Lines of the reference, from line `line` on, and what the rendered text has instead."""

    line: int
    reference: list[str]
    rendered: list[str]

    @property
    def kind(self) -> str:
        """What the lines differ in."""
        if not self.rendered:
            return "only in the reference"
        if not self.reference:
            return "only in the rendered text"
        if " ".join(self.reference).split() == " ".join(self.rendered).split():
            return "other width of a space"
        if _without_spaces(self.reference) == _without_spaces(self.rendered):
            return "other place of a space"
        return "other words"


def compare(rendered: Sequence[str], reference: Sequence[str]) -> tuple[int, list[Difference]]:
    """The number of lines that the texts share in the same order, and every difference."""
    matcher = SequenceMatcher(None, reference, rendered, autojunk=False)
    kept = sum(block.size for block in matcher.get_matching_blocks())
    differences = [
        Difference(i + 1, list(reference[i:i_end]), list(rendered[j:j_end]))
        for tag, i, i_end, j, j_end in matcher.get_opcodes()
        if tag != "equal"
    ]
    return kept, differences


def _without_spaces(lines: list[str]) -> str:
    return "".join("".join(lines).split())


def _describe(name: str, text: str) -> str:
    sizes = f"{len(text.splitlines()):,} lines, {len(text):,} characters"
    return f"{name + ':':<11}{sizes}, {len(set(text))} distinct"


def _print_kinds(differences: list[Difference], examples: int) -> None:
    kinds: dict[str, list[Difference]] = defaultdict(list)
    for difference in differences:
        kinds[difference.kind].append(difference)
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lost = sum(len(difference.reference) for difference in found)
        new = sum(len(difference.rendered) for difference in found)
        print(f"\n{kind}: {len(found)} in all ({lost} lines of the reference, {new} rendered)")
        for difference in found[:examples]:
            print(f"  line {difference.line}: {difference.reference} -> {difference.rendered}")


def _read(name: str) -> str:
    try:
        with reading(name, Exit.CORPUS, "give the path of a text"):
            return Path(name).read_text("utf-8")
    except UnicodeDecodeError as problem:
        byte, fix = problem.object[problem.start], "save the text as UTF-8"
        raise not_utf8(name, problem.start, byte, Exit.CORPUS, fix) from None


def main(argv: list[str]) -> int:
    """Print sizes, alphabets, the share of lines kept, and each kind of difference."""
    parser = Parser(prog="scripts/compare_corpora.py", description=__doc__)
    add = parser.add_argument
    add("rendered", type=user_path, help="the text that is judged")
    add("reference", type=user_path, help="the text that it should equal")
    add("--examples", type=number(int, 0), default=5, metavar="N", help="of each kind [5]")
    args = parser.parse_all(argv)
    rendered, reference = _read(args.rendered), _read(args.reference)

    print(_describe("rendered", rendered))
    print(_describe("reference", reference))
    print("characters only rendered:        ", sorted(set(rendered) - set(reference)))
    print("characters only in the reference:", sorted(set(reference) - set(rendered)))
    lines = reference.splitlines()
    kept, differences = compare(rendered.splitlines(), lines)
    share = kept / max(len(lines), 1)
    print(f"lines kept in order: {kept:,} of {len(lines):,} ({share:.2%})")
    _print_kinds(differences, args.examples)
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
