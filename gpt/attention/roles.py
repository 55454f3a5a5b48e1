"""What a head attends to, as numbers, each beside the value of uniform attention.

On natural text chance is high: with 65 characters a copy of the same one is never far, and uniform
attention of the third character puts a third of its weight on the previous one. So each measure is
also computed for uniform attention on the same text.

The first character of a text is left out everywhere: it can attend to itself alone.

Letters in the shapes: B texts, T characters, V vocab_size; `...` stands for heads, or nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.attention.trace import Ids, in_blocks, weights_by_layer
from gpt.model import GPT

SHARES = {  # share of the weight that goes to ...
    "previous": "previous character",
    "self": "itself",
    "first": "first character of the text",
    "same": "earlier copies of itself",
    "induction": "what followed it last time (induction)",
}
MEASURES = (*SHARES, "entropy", "distance")
CLEAR = 0.25  # lift from which on a head is said to have a role
NEAR = 0.6  # of the mean distance of uniform attention
STRINGS = 8  # random strings that induction is measured on
LONGEST = 256  # characters of each: memory grows with the square


@dataclass(frozen=True)
class Measure:
    """A measure of a head, and of uniform attention on the same text.

    NaN where the text offers nothing to measure, such as no character that occurs twice.
    """

    value: float
    uniform: float

    @property
    def lift(self) -> float:
        """Of a share: 0 at chance, 1 for a head that does nothing else."""
        return (self.value - self.uniform) / (1 - self.uniform) if self.uniform < 1 else 0.0


Roles = dict[str, Measure]


def head_roles(model: GPT, ids: Ids) -> list[list[Roles]]:
    """Every measure of every head: head_roles(model, ids)[layer][head]["previous"].value.

    Induction is measured on random strings that occur twice, `repeated_strings`, since on natural
    text a head can score by other means; all else on `ids`.

    Args:
        ids: (N,) of a text; one longer than a block is cut into blocks, the rest left out.

    Raises:
        ValueError: if ids is not one text of at least one character.
    """
    if not model.config.n_layer:
        return []
    tokens = in_blocks(ids, model.config.block_size).cpu()  # (B, T)
    repeated = repeated_strings(model.vocab_size, min(model.config.block_size, LONGEST))
    on_text = measures_of(model, tokens)
    on_text["induction"] = measures_of(model, repeated)["induction"]
    by_chance = measure(uniform_weights(tokens.shape[1]), tokens)
    by_chance["induction"] = measure(uniform_weights(repeated.shape[1]), repeated)["induction"]

    def roles(layer: int, head: int) -> Roles:
        return {
            name: Measure(float(on_text[name][layer, head]), float(by_chance[name]))
            for name in MEASURES
        }

    config = model.config
    return [[roles(layer, h) for h in range(config.n_head)] for layer in range(config.n_layer)]


def measures_of(model: GPT, tokens: Tensor) -> dict[str, Tensor]:
    """`measure` (L, H) of every head of the model on tokens (B, T), on any device."""
    layers = [
        measure(weights.transpose(0, 1), tokens)  # (H, B, T, T)
        for weights in weights_by_layer(model, tokens)
    ]
    return {name: torch.stack([layer[name] for layer in layers]) for name in MEASURES}


def measure(weights: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Each of MEASURES (...), the mean over all characters of all texts but the first of each.

    Shares of weight are in [0, 1]; `same` and `induction` count only those characters that have
    an earlier copy, which for `induction` is not the character just before. `entropy` is in
    [0, 1], 1 for uniform: it is divided by the logarithm of the number of allowed keys. `distance`
    is in characters back. Induction: Olsson et al. 2022, "In-context Learning and Induction Heads".

    Args:
        weights: (..., B, T, T), or (T, T) for the same weights in every text; on any device.
        tokens: (B, T); the measures are on their device.
    """
    weights = weights.to(tokens.device, torch.float)
    weights = weights.expand(*weights.shape[:-3], *tokens.shape, tokens.shape[1])
    places = torch.arange(tokens.shape[1], device=tokens.device)  # (T,)
    rows = places > 0  # (T,)
    found = {}
    for name, keys in key_sets(tokens).items():
        asking = keys.any(-1) & rows  # (B, T)
        share = (weights * keys).sum(-1)  # (..., B, T)
        found[name] = share[..., asking].mean(-1)
    allowed = places + 1  # (T,) number of allowed keys
    entropy = torch.special.entr(weights).sum(-1) / allowed.log()  # (..., B, T)
    found["entropy"] = entropy[..., rows].flatten(-2).mean(-1)
    back = (allowed[:, None] - allowed).float()  # (T, T) characters from key to query
    found["distance"] = (weights * back).sum(-1)[..., rows].flatten(-2).mean(-1)
    return found


def key_sets(tokens: Tensor) -> dict[str, Tensor]:
    """(B, T, T) bool for each of SHARES: True at the keys whose weight counts for a query."""
    B, T = tokens.shape
    keys = torch.arange(T, device=tokens.device)
    here = keys[:, None]
    before = torch.cat([tokens.new_full((B, 1), -1), tokens[:, :-1]], dim=1)  # (B, T)
    return {
        "previous": (keys == here - 1).expand(B, T, T),
        "self": (keys == here).expand(B, T, T),
        "first": (keys == 0).expand(B, T, T),
        "same": (tokens[:, None, :] == tokens[:, :, None]) & (keys < here),
        "induction": (before[:, None, :] == tokens[:, :, None]) & (keys < here),
    }


def uniform_weights(length: int) -> Tensor:
    """(T, T) on the CPU: the same weight for every allowed key."""
    past = torch.ones(length, length, device="cpu").tril()
    return past / past.sum(-1, keepdim=True)


def repeated_strings(vocab_size: int, block_size: int) -> Tensor:
    """Random strings of half a block that occur twice, (STRINGS, block_size or one less).

    On the CPU, and the same at each call. No character occurs twice in a half, if the alphabet is
    large enough.
    """
    draw = torch.Generator().manual_seed(0)
    half = block_size // 2
    if half == 0:
        return torch.zeros(STRINGS, 1, dtype=torch.long, device="cpu")
    likely = torch.ones(STRINGS, vocab_size, device="cpu")
    once = torch.multinomial(likely, half, replacement=half > vocab_size, generator=draw)
    return torch.cat([once, once], dim=1)


def role_in_words(roles: Roles) -> str:
    """The clearest pattern beside chance, such as "previous character: 83 %, uniform 3.5 %"."""
    name = max(SHARES, key=lambda name: _or_zero(roles[name].lift))
    if roles[name].lift >= CLEAR:
        return f"{SHARES[name]}: {beside_chance(roles[name])}"
    entropy, distance = roles["entropy"], roles["distance"]
    if entropy.value >= 0.9:
        return f"spread evenly: entropy {beside_chance(entropy)}"
    habit = "nearby characters" if distance.value < NEAR * distance.uniform else "mixed"
    return f"{habit}: {distance.value:.1f} back, uniform {distance.uniform:.1f}"


def beside_chance(share: Measure) -> str:
    """A share and its chance level: "83 %, uniform 3.5 %"."""
    return f"{percent(share.value)}, uniform {percent(share.uniform)}"


def percent(share: float) -> str:
    """Two figures: 83 %, 3.5 %."""
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def _or_zero(number: float) -> float:
    return 0.0 if math.isnan(number) else number
