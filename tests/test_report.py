"""The look at a text: what is odd is said, what is normal is not."""

import difflib
import random
import tracemalloc
import typing
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpt import paths
from gpt.config import Config
from gpt.data.corpus import load_corpus
from gpt.data.survey import survey_text

Look = Callable[..., tuple[str, ...]]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """The report on texts, each in its own file; the first line by itself, then what is odd."""

    def at(*texts: str | bytes, val_fraction: float = 0.1) -> tuple[str, ...]:
        names = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.txt"
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            names.append(str(path))
        config = {"model": {"block_size": 2}, "data": {"text": names, "val_fraction": val_fraction}}
        return load_corpus(Config.model_validate(config), lambda line: None).report

    return at


def prose(letters: str, size: int, seed: int = 0) -> str:
    """Lines of made-up words, in which no passage comes twice."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(2000)]
    text = ""
    while len(text) < size:
        text += " ".join(chance.choices(words, k=9)) + ".\n"
    return text[: size - 1] + "\n"


ENGLISH = prose("etaoinshrdlucmfwyp", 30_000)


def test_of_a_normal_text_the_size_alone_is_said(look: Look) -> None:
    (line,) = look(ENGLISH)
    assert line == (
        f"0.txt: 30,000 characters, {len(set(ENGLISH))} distinct, {ENGLISH.count(chr(10)):,} "
        "lines; the last 3,000 are kept for validation"
    )


def test_of_several_files_all_is_counted_and_nothing_odd_is_found(look: Look) -> None:
    (line,) = look(ENGLISH, prose("abcdefgh", 10_000))
    assert line.startswith("0.txt, 1.txt: 40,004 characters")
    assert line.endswith("at the end of each file, in all 4,002 are kept for validation")


def test_the_line_ends_between_files_are_shown_in_training_too(look: Look) -> None:
    texts = [prose("abcdefgh", 9000, seed).replace("\n", " ") for seed in range(3)]
    first, *odd = look(*texts)
    assert "8 lines" in first
    assert odd == ["hardly a line end: 8 in 27,008 characters"]


greek = prose("αβγδεζηθικλμνξοπρστυφχψωάέήίόύώ", 200_000)
hindi = prose("कखगघचछजझटठडढणतथदधनपफबभमयरलवशसह", 150_000).replace("क", "क्षि").replace("त", "तं")
japanese = prose("".join(map(chr, range(0x3041, 0x3097))) + "日本語学生先生大小中国", 200_000)
SCRIPTS = {
    "Greek": greek,
    "Cyrillic": prose("абвгдежзийклмнопрстуфхцчшщъыьэюя", 200_000),
    "Devanagari": hindi,
    "Japanese": japanese.replace(" ", "").replace(".", "。"),
    "Python": "".join(Path(module.__file__).read_text("utf-8") for module in (typing, difflib)),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_normal_text_of_any_script_is_not_odd(look: Look, script: str) -> None:
    text = SCRIPTS[script]
    first, *odd = look(text)
    assert f"{len(text):,} characters, {len(set(text))} distinct" in first
    assert odd == []


ODD = {  # text -> what its report says
    "a BOM": ("\ufeff" + ENGLISH, ["a byte order mark (BOM) at the start is left out"]),
    "CR LF": (
        ENGLISH.replace("\n", "\r\n"),
        [f"{ENGLISH.count(chr(10)):,} line ends of CR LF, as on Windows: read as line ends alone"],
    ),
    "control characters": (
        "a\0b\0\x07" + ENGLISH,
        ["control characters are kept, as any other: U+0000 (2), U+0007 (1)"],
    ),
    "a BOM inside": (
        ENGLISH[:9000] + "\ufeff" + ENGLISH[9000:],
        ["control characters are kept, as any other: U+FEFF (1)"],
    ),
    "lost characters": (
        "Stra\ufffde " + ENGLISH,
        [
            "U+FFFD stands 1 time for what an earlier conversion lost; it is kept: better convert "
            "the text anew"
        ],
    ),
    "two spellings": (
        "café " * 9 + unicodedata.normalize("NFD", "café ") * 9 + ENGLISH,
        [
            "é is there as one character, and letters as e + U+0301: two spellings of the same are "
            "kept; better normalise the text to NFC"
        ],
    ),
    "one character": (ENGLISH + "=" * 40_000, ["= makes up 57% of the text"]),
    "no lines": (
        ENGLISH.replace("\n", " "),
        ["hardly a line end: 0 in 30,000 characters"],
    ),
    "new characters": (
        ENGLISH + "ß☃☃",
        ["the validation part has 2 characters that training never shows: ☃ (2), ß (1)"],
    ),
    "rare characters": (
        "".join(map(chr, range(0x4E00, 0x4E00 + 500))) + ENGLISH,
        [
            "500 of the 521 characters are rare, below 10 times in training: the model learns "
            "little of them"
        ],
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_said_with_what_is_done(look: Look, case: str) -> None:
    text, lines = ODD[case]
    said = look(text)[1:]
    if case == "one character":
        said = tuple(line for line in said if "stands in the training" not in line)
    assert list(said) == lines


def test_decomposed_text_alone_is_one_spelling(look: Look) -> None:
    """Of accents that compose with nothing, and of text that is decomposed all through."""
    stressed = "".join(f"{word}\u0301 " for word in prose("бвгдж", 9000).split(" "))
    assert look("é" * 20 + stressed)[1:] == ()
    assert look("café \u0301" * 20 + ENGLISH)[1:] == (), "the accent stands by itself"
    assert look(unicodedata.normalize("NFD", "élève " * 2 + ENGLISH))[1:] == ()


def test_validation_that_stands_in_the_training_part_is_said(look: Look) -> None:
    (line,) = look(ENGLISH[:20_000] + ENGLISH[:4000], val_fraction=1 / 6)[1:]
    assert line.startswith("about 100% of the validation part stands in the training part too")
    (line,) = look(ENGLISH, ENGLISH[10_000:], val_fraction=0.2)[1:]
    assert "of the validation part stands in the training part too" in line
    assert look(ENGLISH + ENGLISH[-2000:], val_fraction=0.5)[1:] == (), "both are in one part"


def test_of_several_files_the_odd_ones_are_counted(look: Look) -> None:
    marked = b"\xef\xbb\xbf" + ENGLISH.replace("\n", "\r\n").encode()
    said = look(marked, prose("abcdefgh", 9000), marked[:-900])
    ends = ENGLISH.count("\n") + marked[:-900].count(b"\r\n")
    assert said[1] == "a byte order mark (BOM) at the start of 2 files is left out"
    assert said[2].startswith(f"{ends:,} line ends of CR LF")


def test_a_known_text_gets_the_same_report_without_being_counted_again(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\0b\ufffd" + ENGLISH + ENGLISH[-3000:]
    said = look(text)
    monkeypatch.setattr("gpt.data.corpus.survey_text", None)
    assert look(text) == said
    assert len(said) == 4
    assert len(look(text.replace("\n", "\r\n"))) == 5, "the file has other line ends now"


def test_of_little_text_the_rare_characters_are_not_said(look: Look) -> None:
    assert look("".join(map(chr, range(0x4E00, 0x4E20))) + ENGLISH[:9000])[1:] == ()


def test_a_letter_in_two_characters_is_seen_in_any_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.data.text.CHUNK", 64)
    for text in ("e\u0301" + "a" * 300, "a" * 300 + "e\u0301"):
        (tmp_path / "text").write_text(text, "utf-8")
        assert survey_text([tmp_path / "text"]).composes


def test_a_survey_counts_what_python_counts(tmp_path: Path) -> None:
    texts = ["aé€\U0001f600\n" * 9, "ab\n" * 5]
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(text, "utf-8")
    survey = survey_text([tmp_path / "0", tmp_path / "1"])
    assert survey.lengths == [45, 15]
    assert survey.alphabet == "".join(sorted(set("".join(texts))))
    assert survey.counts == ["".join(texts).count(c) for c in survey.alphabet]


def test_the_report_on_a_large_text_takes_little_memory(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its validation part is counted in pieces: numpy would take eight bytes a character."""
    text = ENGLISH * 200
    look(text)
    tracemalloc.start()
    look(text, val_fraction=0.9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(text) + 20 * 2**20, "6 MB are this test's own"
    assert not list(paths.DATA.rglob("*.tmp"))
    assert np.fromfile(next(paths.DATA.rglob("passages.bin")), np.int64).size < 2**15
