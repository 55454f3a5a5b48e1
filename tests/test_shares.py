"""Several files as one corpus: each keeps its own end for validation, and one file is as before."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import paths
from gpt.config import Config
from gpt.data import text as text_module
from gpt.data.corpus import Corpus, load_corpus
from gpt.data.shares import SEPARATOR, Source, split_at
from gpt.errors import Mistake

Load = Callable[..., Corpus]


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """The corpus of texts, each in a file 1.txt, 2.txt, ..."""

    def of(
        *texts: str | bytes, val_fraction: float = 0.2, say: Callable[[str], None] = ignore
    ) -> Corpus:
        names = [str(tmp_path / f"{number}.txt") for number in range(1, len(texts) + 1)]
        for name, text in zip(names, texts, strict=True):
            Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        data = {"text": names, "val_fraction": val_fraction}
        return load_corpus(Config.model_validate({"model": {"block_size": 2}, "data": data}), say)

    return of


def splits_of(made: Corpus) -> tuple[str, str]:
    return made.tokenizer.decode(made.train_ids), made.tokenizer.decode(made.val_ids)


def test_each_file_keeps_its_own_end_for_validation(load: Load) -> None:
    made = load("abcdefghij", "0123456789" * 2)
    assert splits_of(made) == ("abcdefgh\n\n0123456789012345", "ij\n\n6789")
    assert made.name == "1.txt, 2.txt"
    assert SEPARATOR[0] in made.tokenizer.alphabet


@given(
    st.lists(st.text("aé€\U0001f600\n", max_size=40), min_size=2, max_size=4),
    st.floats(0.05, 0.95),
    st.integers(1, 9),
)
def test_the_shares_are_the_files_cut_by_themselves(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], val_fraction: float, chunk: int
) -> None:
    """Whatever the size of the pieces that are read; an empty share has no separator."""
    folder = tmp_path_factory.mktemp("texts")
    texts = [*texts, "ab" * 20]
    cuts = [split_at(len(text), val_fraction) for text in texts]
    shares = [
        [text[:cut] for text, cut in zip(texts, cuts, strict=True)],
        [text[cut:] for text, cut in zip(texts, cuts, strict=True)],
    ]
    names = [folder / f"{number}.txt" for number in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        name.write_bytes(text.encode())
    data = {"text": [*map(str, names)], "val_fraction": val_fraction}
    config = Config.model_validate({"model": {"block_size": 1}, "data": data})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "CHUNK", chunk)
        patch.setattr(paths, "DATA", folder / "data")
        made = load_corpus(config, ignore)
    assert list(splits_of(made)) == [SEPARATOR.join(filter(None, part)) for part in shares]


def test_one_file_is_the_text_itself_under_its_sha256(load: Load) -> None:
    text = "hello world " * 5
    made = load(text)
    assert made.tokenizer.decode(made.ids) == text
    assert made.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert made.train_length == split_at(60, 0.2)
    assert SEPARATOR[0] not in made.tokenizer.alphabet
    assert load(text, val_fraction=0.5).sha256 == made.sha256, "its preparation serves any split"


def test_the_corpus_of_several_files_is_another_for_any_change(load: Load) -> None:
    texts = ("one " * 9, "two " * 9)
    corpora = [
        load(*texts),
        load(*texts, val_fraction=0.5),
        load(*texts[::-1]),
        load("".join(texts)),
        load(texts[0] + "t", texts[1][1:]),
    ]
    assert len({made.sha256 for made in corpora}) == len(corpora)
    assert load(*texts).sha256 == corpora[0].sha256


def test_a_bom_and_line_ends_are_each_file_s_own(load: Load) -> None:
    made = load(b"\xef\xbb\xbfone two\r\n" * 5, "three four\r" * 5)
    train, val = splits_of(made)
    assert train + val == (
        "one two\n" + "\ufeffone two\n" * 3 + "\n\n" + "three four\n" * 4
        + "\ufeffone two\n" + "\n\n" + "three four\n"
    )  # fmt: skip


def test_several_files_are_said_with_their_order_and_their_copies(load: Load) -> None:
    said: list[str] = []
    load(*("ab" * 9, "cd" * 9, "ab" * 9, "ef" * 9, "gh" * 9), say=said.append)
    names = "1.txt, 2.txt, 3.txt, 4.txt, 5.txt"
    assert said[0].startswith("5 files, in this order, an empty line between two, the end of each ")
    assert said[0].endswith(f"for validation: {names}")
    assert "3.txt holds the same text as " in said[1]
    assert said[2].startswith(f"preparing {names}: 90 characters")
    said.clear()
    load("ab" * 9, say=said.append)
    assert len(said) == 1, "nothing is said of the order of one file"


def test_a_file_that_changes_between_two_readings(tmp_path: Path) -> None:
    texts = [tmp_path / "1.txt", tmp_path / "2.txt"]
    for path in texts:
        path.write_text("abcd" * 9)
    source = Source(texts, 0.1)
    pieces = source.pieces([36, 36]) if source.sha256 else iter(())
    next(pieces)
    texts[1].write_text("abdc" * 9)
    with pytest.raises(Mistake, match="changed while it was read"):
        list(pieces)
