"""The command that measures how near two texts are."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_corpora.py"


def compare(folder: Path, rendered: str, reference: str) -> str:
    (folder / "rendered.txt").write_text(rendered, encoding="utf-8")
    (folder / "reference.txt").write_text(reference, encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "rendered.txt", "reference.txt"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_equal_texts_are_kept_whole(tmp_path: Path) -> None:
    report = compare(tmp_path, "a\nb\n", "a\nb\n")
    assert "lines kept in order: 2 of 2 (100.00%)" in report
    assert "->" not in report


def test_each_difference_has_its_kind(tmp_path: Path) -> None:
    report = compare(tmp_path, "1\na b\n2\nki ng\n3\nX\n4\n", "1\na  b\n2\nking\n3\nx\n4\nlost\n")
    assert "lines kept in order: 4 of 8 (50.00%)" in report
    assert "characters only rendered:         ['X']" in report
    for kind, reference, rendered in [
        ("other width of a space", ["a  b"], ["a b"]),
        ("other place of a space", ["king"], ["ki ng"]),
        ("other words", ["x"], ["X"]),
        ("only in the reference", ["lost"], []),
    ]:
        _, _, found = report.partition(f"\n{kind}: 1 in all ")
        assert f"{reference} -> {rendered}" in found.split("\n\n")[0]
