"""The model, held against the notes' snippet, torch's own attention and plainly written twins."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from notes import run_snippet
from torch import Tensor

from gpt.config import ModelConfig
from gpt.model import GPT, Head, MultiHeadAttention, RMSNorm, Rotary, attend, norm

V = 7  # characters in the alphabets of these tests

MODERN: dict[str, Any] = {
    "positions": "rotary",
    "norm": "rms",
    "embedding_norm": True,
    "qk_norm": True,
    "feed_forward": "relu2",
    "bias": False,
    "logit_softcap": 15.0,
}
ONE_HEAD: dict[str, Any] = {
    "n_layer": 1,
    "n_head": 1,
    "feed_forward": "none",
    "residual": False,
    "norm": "none",
}
RUNGS: dict[str, dict[str, Any]] = {  # the ladder, and the variants beside it
    "one head": ONE_HEAD,
    "several heads": {**ONE_HEAD, "n_head": 4},
    "feed-forward": {**ONE_HEAD, "n_head": 4, "feed_forward": "relu"},
    "residual": {"n_layer": 2, "norm": "none"},
    "GPT": {"n_layer": 2},
    "GPT, gelu, no bias": {"n_layer": 2, "feed_forward": "gelu", "bias": False},
}


def sized(**keys: Any) -> ModelConfig:
    return ModelConfig(**{"block_size": 8, "n_layer": 2, "n_head": 4, "n_embd": 16, **keys})


BIGRAM = sized(n_embd=0, n_layer=0, positions="none", norm="none")
VARIANTS = {name: sized(**keys) for name, keys in RUNGS.items()} | {
    "bigram": BIGRAM,
    "no layers": sized(n_layer=0),
    "modern": sized(**MODERN),
    "rotary without a residual": sized(positions="rotary", residual=False),
    "no positions": sized(positions="none"),
    "token shift": sized(**MODERN, token_shift=True),
    "token shift and learned positions": sized(token_shift=True),
}
each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


def made(config: ModelConfig, seed: int = 0) -> GPT:
    """A model in evaluation mode, with weights that leave no part at zero or one."""
    torch.manual_seed(seed)
    model = GPT(config, V).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name == "token_shift":
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def some_tokens(rows: int = 3, length: int = 8, seed: int = 1) -> Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


# --- one head ----------------------------------------------------------------------------------


def test_head_is_the_notes_snippet() -> None:
    theirs = run_snippet()
    torch.manual_seed(1337)
    x = torch.randn(4, 3, 5)
    head = Head(5, 6)  # draws its weights in the notes' order
    torch.testing.assert_close(head(x), theirs["out"], atol=1e-6, rtol=0)
    _, weights = attend(head.query(x), head.key(x), head.value(x))
    torch.testing.assert_close(weights, theirs["wei"], atol=1e-6, rtol=0)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_attend_is_torchs_attention(length: int, size: int, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, length, size, generator=chance) for _ in range(3))
    out, weights = attend(q, k, v)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, length))
    assert (weights.triu(diagonal=1) == 0).all()


# --- heads side by side ------------------------------------------------------------------------


def test_many_heads_are_single_heads_concatenated_and_projected() -> None:
    config = sized()
    attention = MultiHeadAttention(config)
    C, D = config.n_embd, config.head_size
    heads = [Head(C, D) for _ in range(config.n_head)]
    for h, head in enumerate(heads):
        rows = slice(h * D, (h + 1) * D)
        for part in ("query", "key", "value"):
            getattr(head, part).weight.data = getattr(attention, part).weight.data[rows]
    x = torch.randn(2, 8, C)
    side_by_side = torch.cat([head(x) for head in heads], dim=-1)
    torch.testing.assert_close(attention(x), attention.projection(side_by_side))


def test_without_a_residual_stream_heads_are_not_projected() -> None:
    config = sized(residual=False, n_head=1)
    attention, head = MultiHeadAttention(config), Head(config.n_embd, config.n_embd)
    for part in ("query", "key", "value"):
        getattr(head, part).weight = getattr(attention, part).weight
    x = torch.randn(2, 8, config.n_embd)
    torch.testing.assert_close(attention(x), head(x))


def test_modern_heads_are_their_own_q_k_v_attended() -> None:
    attention = MultiHeadAttention(sized(**MODERN))
    x = torch.randn(2, 8, 16)
    out, _ = attend(*attention.qkv(x))
    torch.testing.assert_close(attention(x), attention.projection(out.transpose(1, 2).flatten(2)))


def turned_by_hand(x: Tensor) -> Tensor:
    """RoFormer in complex numbers: dimension i and i + D/2 are one number, multiplied by e^-i t f
    (the sign is a convention: all that counts is the difference of two positions)."""
    T, D = x.shape[-2:]
    frequency = torch.tensor([10000.0 ** (-2 * i / D) for i in range(D // 2)])
    angle = torch.outer(torch.arange(T).float(), frequency)
    turned = torch.complex(x[..., : D // 2], x[..., D // 2 :]) * torch.polar(
        torch.ones_like(angle), -angle
    )
    return torch.cat([turned.real, turned.imag], dim=-1)


@pytest.mark.parametrize("start", [0, 3])
def test_rotary_turns_each_pair_by_position_times_frequency(start: int) -> None:
    x = torch.randn(2, 4, 8, 4, generator=torch.Generator().manual_seed(0))
    got = Rotary(sized(positions="rotary"))(x[..., start:, :], start)
    torch.testing.assert_close(got, turned_by_hand(x)[..., start:, :])


def test_queries_and_keys_of_the_modern_variant() -> None:
    """q = rms(turn(W x)), k likewise, v = W x: nothing turned twice, nothing left out."""
    attention = MultiHeadAttention(sized(**MODERN))
    x = torch.randn(2, 8, 16)
    q, k, v = attention.qkv(x)
    for got, linear in ((q, attention.query), (k, attention.key)):
        plain = linear(x).unflatten(-1, (4, 4)).transpose(1, 2)
        turned = turned_by_hand(plain)
        rms = turned.square().mean(-1, keepdim=True).add(1e-6).sqrt()
        torch.testing.assert_close(got, turned / rms)
    torch.testing.assert_close(v, attention.value(x).unflatten(-1, (4, 4)).transpose(1, 2))


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    rotary = Rotary(sized(positions="rotary", block_size=32))
    q, k = torch.randn(1, 1, 1, 4), torch.randn(1, 1, 1, 4)
    at = {
        (i, j): float((rotary(q, i) * rotary(k, j)).sum()) for i in range(32) for j in range(i + 1)
    }
    for (i, j), score in at.items():
        assert score == pytest.approx(at[i - j, 0], abs=1e-5)
    assert len({round(at[i, 0], 4) for i in range(8)}) == 8  # and it does depend on it
    torch.testing.assert_close(rotary(q, 5).norm(), q.norm())  # a turn keeps the length


def test_norms_are_their_formulas() -> None:
    x = torch.randn(2, 3, 16) * 5 + 1
    torch.testing.assert_close(RMSNorm()(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt())
    layer = norm(sized(norm="layer"))
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(
        layer(x), centred / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    )
    assert torch.equal(norm(sized(norm="none"))(x), x)


# --- the whole model, against a plainly written twin -------------------------------------------


@dataclass
class Lecture:
    """The lecture's model as plain functions of the same weights, one head after the other."""

    weights: dict[str, Tensor]
    config: ModelConfig

    def linear(self, name: str, x: Tensor) -> Tensor:
        out = torch.einsum("oi,bti->bto", self.weights[f"{name}.weight"], x)
        bias = self.weights.get(f"{name}.bias")
        return out if bias is None else out + bias

    def norm(self, name: str, x: Tensor) -> Tensor:
        if self.config.norm == "none":
            return x
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def head(self, name: str, h: int, x: Tensor) -> Tensor:
        size = self.config.n_embd // self.config.n_head
        rows = slice(h * size, h * size + size)
        q, k, v = (
            x @ self.weights[f"{name}.{part}.weight"][rows].T for part in ("query", "key", "value")
        )
        out = torch.zeros_like(v)
        for t in range(x.shape[1]):  # character t mixes the values of 0..t
            scores = torch.einsum("bd,bsd->bs", q[:, t], k[:, : t + 1]) / math.sqrt(size)
            share = scores.exp() / scores.exp().sum(-1, keepdim=True)
            out[:, t] = torch.einsum("bs,bsd->bd", share, v[:, : t + 1])
        return out

    def attention(self, name: str, x: Tensor) -> Tensor:
        heads = [self.head(name, h, x) for h in range(self.config.n_head)]
        out = torch.cat(heads, dim=-1)
        return self.linear(f"{name}.projection", out) if self.config.residual else out

    def think(self, name: str, x: Tensor) -> Tensor:
        x = self.linear(f"{name}.up", x)
        gelu = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        x = gelu if self.config.feed_forward == "gelu" else x.clamp(min=0)
        return self.linear(f"{name}.projection", x) if self.config.residual else x

    def logits(self, tokens: Tensor) -> Tensor:
        w, T = self.weights, tokens.shape[1]
        x = w["token_embedding.weight"][tokens] + w["position_embedding.weight"][:T]
        for i in range(self.config.n_layer):
            attended = self.attention(
                f"blocks.{i}.attention", self.norm(f"blocks.{i}.attention_norm", x)
            )
            x = x + attended if self.config.residual else attended
            if self.config.feed_forward != "none":
                thought = self.think(
                    f"blocks.{i}.feed_forward", self.norm(f"blocks.{i}.feed_forward_norm", x)
                )
                x = x + thought if self.config.residual else thought
        return self.linear("lm_head", self.norm("norm", x))


@pytest.mark.parametrize("name", RUNGS)
def test_each_rung_is_the_lectures(name: str) -> None:
    model = made(sized(**RUNGS[name]))
    tokens = some_tokens()
    logits = model(tokens)
    expected = Lecture(model.state_dict(), model.config).logits(tokens)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_the_modern_variant_step_by_step() -> None:
    model = made(sized(**MODERN))
    tokens = some_tokens()

    def rms(x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    x = rms(model.token_embedding.weight[tokens])
    for block in model.blocks:
        q, k, v = (
            (rms(x) @ part.weight.T).unflatten(-1, (4, 4)).transpose(1, 2)
            for part in (block.attention.query, block.attention.key, block.attention.value)
        )
        scores = rms(turned_by_hand(q)) @ rms(turned_by_hand(k)).mT / 2  # sqrt(head_size) = 2
        scores = scores + torch.full((8, 8), -math.inf).triu(1)
        heads = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + heads @ block.attention.projection.weight.T
        up = (rms(x) @ block.feed_forward.up.weight.T).clamp(min=0) ** 2
        x = x + up @ block.feed_forward.projection.weight.T
    expected = 15 * torch.tanh(rms(x) @ model.lm_head.weight.T / 15)
    torch.testing.assert_close(model(tokens), expected, atol=1e-5, rtol=1e-5)


def test_bigram_logits_are_rows_of_the_table() -> None:
    model, tokens = made(BIGRAM), some_tokens()
    assert torch.equal(model(tokens), model.token_embedding.weight[tokens])
    assert model.token_embedding.weight.shape == (V, V)


@pytest.mark.parametrize("keys", [{}, {"embedding_norm": True}, {"positions": "none"}])
def test_token_shift_adds_a_share_of_the_character_before(keys: dict[str, Any]) -> None:
    """Before the positions are added and the norm is applied; the first character gets none."""
    model, tokens = made(sized(token_shift=True, **keys)), some_tokens()
    table, share = model.token_embedding.weight, model.token_shift
    expected = torch.zeros(*tokens.shape, len(share))
    for row, text in enumerate(tokens.tolist()):
        for t, character in enumerate(text):
            for c in range(len(share)):
                before = table[text[t - 1], c] if t else 0.0
                place = (
                    model.position_embedding.weight[t, c] if model.config.positions != "none" else 0
                )
                expected[row, t, c] = table[character, c] + share[c] * before + place
    torch.testing.assert_close(model.embed(tokens), model.embedding_norm(expected))


def test_token_shift_begins_as_if_it_were_not_there() -> None:
    """The other weights are drawn as without it, and so is what comes of them."""
    torch.manual_seed(0)
    plain = GPT(sized(**MODERN), V)
    torch.manual_seed(0)
    shifted = GPT(sized(**MODERN, token_shift=True), V)
    missing = shifted.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["token_shift"]
    assert torch.equal(shifted(some_tokens()), plain(some_tokens()))


@each_variant
def test_the_walk_gives_the_state_before_each_block_and_the_last(config: ModelConfig) -> None:
    model, tokens = made(config), some_tokens()
    states = list(model.walk(model.embed(tokens)))
    assert len(states) == config.n_layer + 1
    for block, before, after in zip(model.blocks, states, states[1:], strict=False):
        assert torch.equal(block(before), after)
    assert torch.equal(model.read_out(states[-1]), model(tokens))
    for first, state in enumerate(states):
        *_, last = model.walk(state, first)
        assert torch.equal(last, states[-1])


@each_variant
def test_more_characters_than_a_block_are_refused(config: ModelConfig) -> None:
    model = made(config)
    tokens = torch.zeros(1, config.block_size + 1, dtype=torch.long)
    with pytest.raises(
        ValueError, match=f"{config.block_size + 1} .* block_size {config.block_size}"
    ):
        model(tokens)


@each_variant
def test_no_character_sees_a_later_one(config: ModelConfig) -> None:
    model, tokens = made(config), some_tokens()
    before = model(tokens)
    for t in range(config.block_size):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t]), f"character {t} is seen by an earlier one"
        assert not torch.allclose(after[:, t], before[:, t])


@pytest.mark.parametrize("name", ["GPT", "modern", "one head"])
def test_earlier_characters_are_seen(name: str) -> None:
    model, tokens = made(VARIANTS[name]), some_tokens()
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % V
    assert not torch.allclose(model(changed)[:, -1], model(tokens)[:, -1], atol=1e-6)


# --- first weights, gradients, dropout ---------------------------------------------------------


def test_number_of_parameters() -> None:
    def count(config: ModelConfig, vocab_size: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in GPT(config, vocab_size).parameters())

    assert count(BIGRAM, 65) == 65 * 65
    lecture = ModelConfig(block_size=256, n_layer=6, n_head=6, n_embd=384)
    assert count(lecture, 65) == 10_788_929  # the lecture's notebook prints 10.788929 M
    C, modern = 16, sized(**MODERN)
    assert count(modern, V) == 2 * V * C + 2 * 12 * C * C  # tables, and 4 + 8 matrices a block


def test_zero_init_begins_with_identity_and_even_chances() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 16)
    for bias in (False, True):
        model = GPT(sized(**MODERN | {"bias": bias}, zero_init=True), V)
        for block in model.blocks:
            assert torch.equal(block(x), x)
        assert (model(some_tokens()) == 0).all()


@each_variant
def test_zero_init_is_for_projections_and_lm_head_alone(config: ModelConfig) -> None:
    """Also where a model has none of them."""
    torch.manual_seed(0)
    plain = GPT(config, V).state_dict()
    torch.manual_seed(0)
    for name, weight in GPT(config.model_copy(update={"zero_init": True}), V).named_parameters():
        zero = "projection" in name or name.startswith("lm_head")
        assert torch.equal(weight.detach(), plain[name] * (not zero)), name


def test_init_std_is_the_spread_of_the_first_weights() -> None:
    torch.manual_seed(0)
    model = GPT(sized(n_embd=64, init_std=0.02), V)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.25), name
        elif "norm" not in name:
            assert (parameter == 0).all(), name
    torch.manual_seed(0)
    plain = GPT(sized(n_embd=64), V)
    assert float(plain.token_embedding.weight.detach().std()) == pytest.approx(1, rel=0.25)


def test_softcap_bounds_the_logits_and_keeps_their_order() -> None:
    plain, capped = made(sized(bias=False)), made(sized(bias=False, logit_softcap=2.0))
    for model in (plain, capped):
        model.lm_head.weight.data.mul_(50)
    logits, bounded = plain(some_tokens()), capped(some_tokens())
    assert logits.abs().max() > 10
    torch.testing.assert_close(bounded, 2 * torch.tanh(logits / 2))


@each_variant
def test_gradients_reach_every_weight(config: ModelConfig) -> None:
    model = made(config).train()
    logits = model(some_tokens(seed=1))
    F.cross_entropy(logits.flatten(0, 1), some_tokens(seed=2).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_dropout_only_while_training() -> None:
    plain, dropped = made(sized()), made(sized(dropout=0.5))
    tokens = some_tokens()
    assert torch.equal(dropped(tokens), plain(tokens))
    first, second = (dropped.train()(tokens) for _ in range(2))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("part", ["attention", "feed_forward"])
def test_dropout_leaves_the_expectation(part: str) -> None:
    """Of many draws the mean is the undropped output, and about the stated share is off."""
    torch.manual_seed(0)
    module = getattr(GPT(sized(dropout=0.25), V).blocks[0], part)
    x = torch.randn(1, 1, 16).expand(20_000, 1, 16)
    out = module.train()(x)
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(out.mean(0), module.eval()(x[:1])[0], atol=0.03, rtol=0.03)


def test_dropout_is_on_the_weights_of_the_attention_and_on_what_it_writes() -> None:
    """One character has one weight: where it is dropped, nothing is left of the head."""
    torch.manual_seed(0)
    attention = GPT(sized(dropout=0.25, residual=False), V).blocks[0].attention  # no projection
    out = attention.train()(torch.randn(20_000, 1, 16))
    off = float((out == 0).float().mean())
    assert off == pytest.approx(1 - 0.75**2, abs=0.02), "not dropped twice with 0.25"


# --- against Hugging Face transformers ---------------------------------------------------------


def loaded(theirs: Any, weights: dict[str, Tensor]) -> Any:
    """Their model with these weights, each of its parameters given once, in evaluation mode."""
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected
    assert not {name for name, _ in theirs.named_parameters()} & set(missing)
    return theirs.eval()


@pytest.mark.slow
def test_the_modern_variant_is_transformers_nanochat() -> None:
    transformers = pytest.importorskip("transformers")
    model = made(sized(**MODERN))
    config = transformers.NanoChatConfig(
        vocab_size=V, hidden_size=16, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=8,
        hidden_act="relu2", final_logit_softcapping=15.0, rms_norm_eps=1e-6,
        tie_word_embeddings=False,
    )  # fmt: skip
    names = {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.projection": "self_attn.o_proj",
        "feed_forward.up": "mlp.fc1",
        "feed_forward.projection": "mlp.fc2",
    }
    ours = model.state_dict()
    weights = {
        "model.embed_tokens.weight": ours["token_embedding.weight"],
        "lm_head.weight": ours["lm_head.weight"],
    } | {
        f"model.layers.{layer}.{theirs}.weight": ours[f"blocks.{layer}.{name}.weight"]
        for layer in range(2)
        for name, theirs in names.items()
    }
    theirs = loaded(transformers.NanoChatForCausalLM(config), weights)
    with torch.no_grad():
        torch.testing.assert_close(
            model(some_tokens()), theirs(some_tokens()).logits, atol=1e-4, rtol=1e-4
        )


@pytest.mark.slow
def test_the_lectures_variant_is_transformers_gpt2() -> None:
    transformers = pytest.importorskip("transformers")
    model = made(sized())
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=8, n_embd=16, n_layer=2, n_head=4, activation_function="relu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False,
    )  # fmt: skip
    ours = model.state_dict()
    weights = {
        "transformer.wte.weight": ours["token_embedding.weight"],
        "transformer.wpe.weight": ours["position_embedding.weight"],
        "transformer.ln_f.weight": ours["norm.weight"],
        "transformer.ln_f.bias": ours["norm.bias"],
        "lm_head.weight": ours["lm_head.weight"],
    }
    for layer in range(2):
        block = f"blocks.{layer}."
        qkv = [ours[f"{block}attention.{part}.weight"] for part in ("query", "key", "value")]
        weights |= {
            f"transformer.h.{layer}.{name}": tensor
            for name, tensor in {
                "ln_1.weight": ours[f"{block}attention_norm.weight"],
                "ln_1.bias": ours[f"{block}attention_norm.bias"],
                "ln_2.weight": ours[f"{block}feed_forward_norm.weight"],
                "ln_2.bias": ours[f"{block}feed_forward_norm.bias"],
                "attn.c_attn.weight": torch.cat(qkv).T,
                "attn.c_attn.bias": torch.zeros(3 * 16),
                "attn.c_proj.weight": ours[f"{block}attention.projection.weight"].T,
                "attn.c_proj.bias": ours[f"{block}attention.projection.bias"],
                "mlp.c_fc.weight": ours[f"{block}feed_forward.up.weight"].T,
                "mlp.c_fc.bias": ours[f"{block}feed_forward.up.bias"],
                "mlp.c_proj.weight": ours[f"{block}feed_forward.projection.weight"].T,
                "mlp.c_proj.bias": ours[f"{block}feed_forward.projection.bias"],
            }.items()
        }
    theirs = loaded(transformers.GPT2LMHeadModel(config), weights)
    with torch.no_grad():
        expected = theirs(some_tokens()).logits + ours["lm_head.bias"]  # theirs has no bias there
        torch.testing.assert_close(model(some_tokens()), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["GPT", "modern"])
def test_bf16_on_a_cpu_attends_the_written_out_way_and_agrees(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens = made(VARIANTS[name]), some_tokens()
    attended: list[torch.dtype] = []

    def noted(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        attended.append(q.dtype)
        return attend(q, k, v)

    monkeypatch.setattr("gpt.model.attend", noted)
    exact = model(tokens)
    assert attended == []  # in fp32 the fused kernel is faster
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(tokens)
    assert attended == [torch.bfloat16] * len(model.blocks)
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.03 * exact.abs().max()
