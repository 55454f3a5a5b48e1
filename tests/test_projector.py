"""The projector's tables hold the embeddings, under labels that its files can hold."""

import pytest
import torch
from attention_models import VARIANTS, T, V, build

from gpt.config import ModelConfig
from gpt.data.tokenizer import CharTokenizer
from gpt.model import GPT
from gpt.training.projector import category, embedding_table, label, position_embedding_table


def test_embedding_table():
    tokenizer = CharTokenizer("\n\t aB,1\u2028éя_")
    model = GPT(ModelConfig(block_size=T), len(tokenizer))
    table = embedding_table(model, tokenizer)
    assert torch.equal(table.vectors, model.token_embedding.weight)
    assert not table.vectors.requires_grad
    rows = dict(zip(table.labels, table.categories, strict=True))
    assert rows == {
        "⇥": "white space",
        "↵": "white space",
        "·": "white space",
        "U+2028": "white space",
        ",": "punctuation",
        "_": "punctuation",
        "1": "digit",
        "B": "capital",
        "a": "vowel",
        "é": "vowel",
        "я": "letter",
    }
    assert table.labels[tokenizer.encode("B")[0]] == "B"
    bigram = embedding_table(build(VARIANTS["bigram"]), CharTokenizer("abcdefghijk"))
    assert bigram.vectors.shape == (V, V)


def test_no_label_breaks_a_metadata_file():
    for point in [*range(0x300), 0x2000, 0x2028, 0x2029, 0x3000, 0xFEFF, 0x1F642]:
        shown = label(chr(point))
        assert shown.strip() == shown != ""
        assert len(shown.splitlines()) == 1
        assert category(chr(point))


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        ("y", "consonant"),
        ("z", "consonant"),
        ("$", "punctuation"),
        ("\x00", "other"),
        ("汉", "letter"),
    ],
)
def test_categories(character, kind):
    assert category(character) == kind


def test_position_embedding_table():
    model = build(VARIANTS["gpt"])
    table = position_embedding_table(model)
    assert torch.equal(table.vectors, model.position_embedding.weight)
    assert table.labels[0] == "1"
    assert table.labels[-1] == str(T)
    assert table.categories[0] == "eighth 1"
    assert table.categories[-1] == "eighth 8"
    assert position_embedding_table(build(VARIANTS["rotary"])) is None
