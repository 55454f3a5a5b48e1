"""The command that measures how two texts differ."""

from pathlib import Path

import pytest

from gpt.errors import Exit, Mistake
from scripts.compare_corpora import main

Output = pytest.CaptureFixture[str]


def compare(folder: Path, output: Output, rendered: str, reference: str) -> str:
    (folder / "rendered.txt").write_text(rendered, encoding="utf-8")
    (folder / "reference.txt").write_text(reference, encoding="utf-8")
    assert main([str(folder / "rendered.txt"), str(folder / "reference.txt")]) == Exit.DONE
    return output.readouterr().out


def test_equal_texts_are_kept_whole(tmp_path: Path, capsys: Output) -> None:
    report = compare(tmp_path, capsys, "a\nb\n", "a\nb\n")
    assert "lines kept in order: 2 of 2 (100.00%)" in report
    assert "->" not in report


def test_each_difference_has_its_kind(tmp_path: Path, capsys: Output) -> None:
    report = compare(
        tmp_path, capsys, "1\na b\n2\nki ng\n3\nX\n4\n", "1\na  b\n2\nking\n3\nx\n4\nlost\n"
    )
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


@pytest.mark.parametrize(
    ("arguments", "what", "code"),
    [
        (["nowhere", "text.txt"], "cannot read nowhere: No such file", Exit.CORPUS),
        (["text.txt", "latin.txt"], "latin.txt is not UTF-8: byte 1 is 0xe9", Exit.CORPUS),
        (["text.txt", "text.txt", "--examples", "-1"], "must be at least 0", Exit.USAGE),
        (["text.txt"], "required: reference", Exit.USAGE),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str, code: Exit
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("a\n")
    Path("latin.txt").write_bytes(b"h\xe9")
    with pytest.raises(Mistake, match=what) as caught:
        main(arguments)
    assert caught.value.exit_code == code
