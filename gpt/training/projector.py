"""The embeddings, with what TensorBoard's projector writes beside each vector and colours it by."""

import unicodedata
from typing import NamedTuple

from torch import Tensor

from gpt.attention.glyphs import UNKNOWN, glyph
from gpt.data.tokenizer import CharTokenizer
from gpt.model import GPT


class EmbeddingTable(NamedTuple):
    """Vectors with what a projector writes and colours them by."""

    vectors: Tensor  # (N, C) on the CPU
    labels: list[str]  # N of them, none blank and none with a tab or a line break in it
    categories: list[str]  # N of them


def embedding_table(model: GPT, tokenizer: CharTokenizer) -> EmbeddingTable:
    """The row of each character in the token table; for the bigram table these are logits."""
    vectors = model.token_embedding.weight.detach().float().cpu()
    alphabet = tokenizer.alphabet
    return EmbeddingTable(vectors, [label(c) for c in alphabet], [category(c) for c in alphabet])


def position_embedding_table(model: GPT) -> EmbeddingTable | None:
    """The row of each position, counted from 1, by eighths of a block; None: none are learned."""
    if model.config.positions != "learned":
        return None
    vectors = model.position_embedding.weight.detach().float().cpu()
    places = range(len(vectors))
    eighths = [f"eighth {8 * place // len(vectors) + 1}" for place in places]
    return EmbeddingTable(vectors, [str(place + 1) for place in places], eighths)


def label(character: str) -> str:
    """The character as a label: white space by its sign, what cannot be shown by its number."""
    shown = glyph(character)
    return f"U+{ord(character):04X}" if shown == UNKNOWN else shown


def category(character: str) -> str:
    """vowel, consonant, capital, letter (of another script), digit, punctuation, white space or
    other; an accent changes nothing."""
    if character.isspace():
        return "white space"
    if character.isupper():
        return "capital"
    base = unicodedata.normalize("NFD", character)[0]
    if "a" <= base <= "z":
        return "vowel" if base in "aeiou" else "consonant"
    kinds = {"L": "letter", "N": "digit", "P": "punctuation", "S": "punctuation"}
    return kinds.get(unicodedata.category(character)[0], "other")
