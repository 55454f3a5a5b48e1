"""How near one text is to another, line by line: `compare_corpora.py RENDERED REFERENCE`.

`data/README.md` has its numbers from here. The comparison is exact, so it takes time: some 15
seconds for two texts of 40,000 lines.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple


class Difference(NamedTuple):
    """Lines of the reference, from line `number` on, and what the rendered text has instead."""

    number: int
    reference: list[str]
    rendered: list[str]

    @property
    def kind(self) -> str:
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
    """How many lines of the reference are kept, in order, and every difference."""
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
            print(f"  line {difference.number}: {difference.reference} -> {difference.rendered}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How near one text is to another.")
    parser.add_argument("rendered", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--examples", type=int, default=5, help="shown of each kind of difference")
    args = parser.parse_args(argv)
    rendered = args.rendered.read_text(encoding="utf-8")
    reference = args.reference.read_text(encoding="utf-8")

    print(_describe("rendered", rendered))
    print(_describe("reference", reference))
    print("characters only rendered:        ", sorted(set(rendered) - set(reference)))
    print("characters only in the reference:", sorted(set(reference) - set(rendered)))
    lines = reference.splitlines()
    kept, differences = compare(rendered.splitlines(), lines)
    share = kept / max(len(lines), 1)
    print(f"lines kept in order: {kept:,} of {len(lines):,} ({share:.2%})")
    _print_kinds(differences, args.examples)


if __name__ == "__main__":
    main()
