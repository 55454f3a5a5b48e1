"""What training logs about attention: a number for each head, and the embeddings with labels."""

import math
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gpt.attention.decompose import mute_losses
from gpt.attention.glyphs import UNKNOWN, glyph
from gpt.attention.roles import MEASURES, Roles, head_roles
from gpt.attention.trace import head_name
from gpt.data.tokenizer import CharTokenizer
from gpt.model import GPT

MUTE_CHARS = 256  # enough to rank heads; each costs most of an evaluation of so many characters


def head_scalars(
    model: GPT,
    probe: Tensor,
    val_ids: npt.NDArray[np.unsignedinteger],
    mute_chars: int = MUTE_CHARS,
    roles: list[list[Roles]] | None = None,
) -> dict[str, float]:
    """A flat dictionary of scalars; empty for a model without heads.

    `per_head/previous/L1H2` and so on for each of `roles.MEASURES` and each head, and beside them
    `per_head/previous/uniform`, what uniform attention scores on the same text. Then
    `per_head/mute_loss/L1H2`: nats a character that switching the head off costs on the first
    `mute_chars` characters of val_ids. What a text has no place to measure is left out.

    Args:
        probe: (N,) ids of the text whose attention is drawn; if it is longer than a block, it
            is cut into blocks, the rest left out.
        val_ids: (N,) ids of the validation split.
        mute_chars: characters to measure the cost of muting on; 0: not measured. The work is that
            of about n_head * (n_layer + 1) / 2 evaluations of so many characters.
        roles: those of the model on the probe, if they are known already.
    """
    if not model.config.n_layer:
        return {}
    found = {}
    roles = roles or head_roles(model, in_blocks(probe, model.config.block_size))
    for name in MEASURES:
        found[f"per_head/{name}/uniform"] = roles[0][0][name].uniform
        for layer, heads in enumerate(roles):
            for head, measured in enumerate(heads):
                found[f"per_head/{name}/{head_name(layer, head)}"] = measured[name].value
    ids = val_ids[: mute_chars + 1]
    if mute_chars and len(ids) > 1:
        for layer, costs in enumerate(mute_losses(model, ids).tolist()):
            for head, cost in enumerate(costs):
                found[f"per_head/mute_loss/{head_name(layer, head)}"] = cost
    return {name: value for name, value in found.items() if math.isfinite(value)}


def in_blocks(tokens: Tensor, block_size: int) -> Tensor:
    """tokens (N,) as texts that a model can read, (B, T) with T <= block_size."""
    T = min(len(tokens), block_size)
    return tokens[: len(tokens) // T * T].view(-1, T)


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
