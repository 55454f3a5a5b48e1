"""Characters to ids and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data.tokenizer import CharTokenizer, UnknownCharacter

any_text = st.text(st.characters())  # all of Unicode, surrogates among it


@given(any_text)
def test_decode_undoes_encode(text: str) -> None:
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.decode(iter(ids.tolist())) == text


@given(any_text)
def test_ids_are_ranks_in_the_sorted_alphabet(text: str) -> None:
    tokenizer = CharTokenizer(text)
    ranks = {c: i for i, c in enumerate(sorted(set(text)))}
    assert tokenizer.encode(text).tolist() == [ranks[c] for c in text]
    assert tokenizer.alphabet == "".join(ranks)
    assert len(tokenizer) == len(ranks)
    assert CharTokenizer(tokenizer.alphabet).alphabet == tokenizer.alphabet


@given(any_text, any_text)
def test_the_first_unknown_character_is_named(known: str, text: str) -> None:
    tokenizer = CharTokenizer(known)
    unknown = [(i, c) for i, c in enumerate(text) if c not in known]
    assert tokenizer.known(text) == "".join(c for c in text if c in known)
    if not unknown:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        return
    with pytest.raises(UnknownCharacter) as caught:
        tokenizer.encode(text)
    assert (caught.value.position, caught.value.character) == unknown[0]


def test_the_message_has_code_point_and_place() -> None:
    with pytest.raises(UnknownCharacter, match=r"'é' \(U\+00E9\), character 3 of the text"):
        CharTokenizer("caf").encode("café"[1:])


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65_535, "uint16"), (65_537, "uint32")],
)
def test_ids_are_of_the_narrowest_type(size: int, dtype: str) -> None:
    tokenizer = CharTokenizer(map(chr, range(0x20, 0x20 + size)))
    ids = tokenizer.encode(tokenizer.alphabet)
    assert ids.dtype == tokenizer.dtype == np.dtype(dtype)
    assert ids.tolist() == [*range(size)]


@pytest.mark.parametrize("size", [255, 256, 257, 65_535, 65_536])
def test_a_stranger_is_noticed_where_the_type_is_full(size: int) -> None:
    tokenizer = CharTokenizer(map(chr, range(0x20, 0x20 + size)))
    for stranger in (chr(0x1F), chr(0x20 + size), chr(0x10FFFF)):
        with pytest.raises(UnknownCharacter) as caught:
            tokenizer.encode(tokenizer.alphabet + stranger)
        assert (caught.value.position, caught.value.character) == (size, stranger)


def test_an_empty_alphabet_knows_nothing() -> None:
    tokenizer = CharTokenizer("")
    assert tokenizer.encode("").tolist() == []
    with pytest.raises(UnknownCharacter):
        tokenizer.encode("\0")
