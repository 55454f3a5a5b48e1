"""The judgement on a toy: each figure computed again, slowly and plainly."""

import json
import lzma
import math
import os
import statistics
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gpt.judge.judge
from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit
from gpt.evaluate import exact_loss
from gpt.judge.judge import compressed, copies, judge, verdict
from gpt.judge.report import text_of
from gpt.judge.scores import (
    Scores,
    by_context,
    by_kind,
    calibration,
    costliest,
    score,
    standard_error,
)
from gpt.model import GPT
from gpt.training.run import train_new
from scripts import evaluate


@pytest.fixture
def model(toy_config: Config, toy_corpus: Corpus) -> GPT:
    """A model whose weights are large enough to be sure of something."""
    torch.manual_seed(0)
    model = GPT(toy_config.model, len(toy_corpus.tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture
def scores(model: GPT, toy_corpus: Corpus) -> Scores:
    return score(model, toy_corpus.val_ids)


@pytest.fixture
def judged(model: GPT, toy_corpus: Corpus, scores: Scores) -> dict[str, Any]:
    return dict(judge(model, toy_corpus, scores))


def texts(corpus: Corpus) -> tuple[str, str]:
    """The training text and the validation text."""
    return corpus.tokenizer.decode(corpus.train_ids), corpus.tokenizer.decode(corpus.val_ids)


# --- the exact loss taken apart ----------------------------------------------------------------


def test_the_loss_is_the_exact_loss_bit_by_bit(
    model: GPT, toy_corpus: Corpus, scores: Scores
) -> None:
    assert scores.loss == exact_loss(model, toy_corpus.val_ids)
    assert scores.losses.mean(dtype=np.float64) == pytest.approx(scores.loss, abs=1e-6)
    assert not model._forward_hooks, "nothing is left on the model"


def test_each_character_has_its_own_score(model: GPT, toy_corpus: Corpus, scores: Scores) -> None:
    """One character at a time, as it is seen by the part of its window before it."""
    ids, block = toy_corpus.val_ids.astype(np.int64), model.config.block_size
    model.eval()
    for i in range(1, len(ids)):
        seen = torch.from_numpy(ids[(i - 1) // block * block : i])[None]
        with torch.no_grad():
            chances = model(seen)[0, -1].double().softmax(-1)
        assert scores.losses[i - 1] == pytest.approx(-math.log(chances[ids[i]]), abs=1e-4)
        assert scores.sure[i - 1] == pytest.approx(float(chances.max()), abs=1e-4)
        assert scores.right[i - 1] == (int(chances.argmax()) == ids[i])


@pytest.mark.parametrize("length", [20, 47, 999, 1000, 1234])
def test_the_standard_error_is_that_of_the_blocks_means(length: int) -> None:
    values = np.random.default_rng(0).random(length).cumsum()  # neighbours are alike
    blocks = min(100, length // 10)
    size = length // blocks
    means = [statistics.fmean(values[n * size : (n + 1) * size]) for n in range(blocks)]
    expected = statistics.stdev(means) / math.sqrt(blocks)
    assert standard_error(values) == pytest.approx(expected)


def test_a_text_too_short_for_two_blocks_has_no_standard_error() -> None:
    assert standard_error(np.ones(19)) is None


def test_the_standard_error_is_true_where_neighbours_are_alike() -> None:
    """Means of texts whose characters come in runs of one loss, against their real spread."""
    rng = np.random.default_rng(0)
    made = [np.repeat(rng.random(1000), 10) for _ in range(200)]
    real = statistics.stdev(values.mean() for values in made)
    told = statistics.fmean(standard_error(values) or 0 for values in made)
    assert told == pytest.approx(real, rel=0.15)
    naive = made[0].std() / math.sqrt(10_000)
    assert naive < 0.5 * real


@pytest.mark.parametrize("block_size", [1, 2, 5, 8, 100])
def test_by_context(scores: Scores, block_size: int) -> None:
    found = by_context(scores.losses, block_size)
    most = min(block_size, len(scores.losses))
    assert [row["from"] for row in found] == [1, *(row["to"] + 1 for row in found[:-1])]
    assert found[-1]["to"] == most
    for number, row in enumerate(found):
        assert row["to"] == min(2**number, most)
        own = [
            float(x)
            for i, x in enumerate(scores.losses)
            if row["from"] <= i % block_size + 1 <= row["to"]
        ]
        assert row["loss"] == pytest.approx(statistics.fmean(own), rel=1e-6)
        assert row["characters"] == len(own)


LETTERS = {
    "f": "first letter of a word", "i": "inside a word", "C": "capital letter",
    "s": "space", "l": "line end", "o": "other",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kinds"),  # of each character but the first
    [
        ("\nAy me, o'er 2\t", "Cisfiosfoiisos"),
        ("x ROMEO:\n’tis", "sCCCCColoiii"),
        ("- éa ΣΊσ\u0301 日本\u00a0हिं", "sfisCCiisfisfii"),
    ],
)
def test_the_kind_of_each_character(text: str, kinds: str) -> None:
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    for one, kind in zip(np.eye(len(text) - 1), kinds, strict=True):
        rows = by_kind(one, ids, tokenizer.alphabet)
        assert [row["kind"] for row in rows if row["share_of_loss"]] == [LETTERS[kind]]


def kind_by_hand(text: str, i: int) -> str:
    """With Python's own questions about characters."""
    c, before = text[i], text[i - 1]
    if c == "\n":
        return "line end"
    if c.isspace():
        return "space"
    if c.isupper() or c.istitle():
        return "capital letter"
    if c.isalpha() or unicodedata.category(c).startswith("M"):
        in_word = before.isalpha() or unicodedata.category(before).startswith("M") or before in "'’"
        return "inside a word" if in_word else "first letter of a word"
    return "other"


def test_by_kind(scores: Scores, toy_corpus: Corpus) -> None:
    text = texts(toy_corpus)[1]
    own: dict[str, list[float]] = {}
    for i in range(1, len(text)):
        own.setdefault(kind_by_hand(text, i), []).append(float(scores.losses[i - 1]))
    found = by_kind(scores.losses, toy_corpus.val_ids, toy_corpus.tokenizer.alphabet)
    assert {row["kind"] for row in found} == set(own)
    for row in found:
        assert row["characters"] == len(own[row["kind"]])
        assert row["loss"] == pytest.approx(statistics.fmean(own[row["kind"]]), rel=1e-6)
        share = sum(own[row["kind"]]) / sum(map(float, scores.losses))
        assert row["share_of_loss"] == pytest.approx(share, rel=1e-6)
    assert sum(row["share_of_loss"] for row in found) == pytest.approx(1)


def test_the_costliest_characters(scores: Scores, toy_corpus: Corpus) -> None:
    text = texts(toy_corpus)[1]
    total: Counter[str] = Counter()
    for character, loss in zip(text[1:], scores.losses.tolist(), strict=True):
        total[character] += loss
    found = costliest(scores.losses, toy_corpus.val_ids, toy_corpus.tokenizer.alphabet)
    assert [row["character"] for row in found] == [c for c, _ in total.most_common(10)]
    for row in found:
        assert row["characters"] == text[1:].count(row["character"])
        assert row["loss"] * row["characters"] == pytest.approx(total[row["character"]])


def test_the_calibration(scores: Scores) -> None:
    found = calibration(scores.sure, scores.right)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for sure, right in zip(scores.sure.tolist(), scores.right.tolist(), strict=True):
        bins.setdefault(min(int(sure * 10), 9), []).append((sure, right))
    error = 0.0
    for row, number in zip(found["bins"], sorted(bins), strict=True):
        said, came = (statistics.fmean(column) for column in zip(*bins[number], strict=True))
        assert (row["from"], row["to"]) == (number / 10, (number + 1) / 10)
        assert row["characters"] == len(bins[number])
        assert (row["said"], row["right"]) == pytest.approx((said, came), rel=1e-6)
        error += len(bins[number]) * abs(said - came) / len(scores.sure)
    assert len(bins) > 2
    assert found["error"] == pytest.approx(error, rel=1e-5)


# --- beside it ---------------------------------------------------------------------------------


def counted_by_hand(train: str, text: str, vocab_size: int) -> float:
    """The unigram's loss: Kneser-Ney of order 1, the discounts given to all alike."""
    count = Counter(train)
    once, twice = (sum(n == k for n in count.values()) for k in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    rest = discount * len(count) / len(train) / vocab_size
    chances = [max(count[c] - discount, 0) / len(train) + rest for c in text[1:]]
    return statistics.fmean(-math.log(chance) for chance in chances)


def test_the_baselines(judged: dict[str, Any], toy_corpus: Corpus) -> None:
    """The n-gram's probabilities have their own oracle, in test_ngram.py."""
    train, val = texts(toy_corpus)
    found = {row["name"]: row for row in judged["baselines"]}
    uniform, unigram, xz, counted = found
    assert (uniform, unigram, xz) == ("uniform", "unigram", "xz")
    assert found["uniform"]["perplexity"] == pytest.approx(len(set(train + val)))
    by_hand = counted_by_hand(train, val, len(toy_corpus.tokenizer))
    assert found["unigram"]["loss"] == pytest.approx(by_hand)
    packed = [len(lzma.compress(text.encode(), preset=9)) for text in (train, train + val)]
    assert found["xz"]["bits"] == pytest.approx((packed[1] - packed[0]) * 8 / len(val))
    assert 1 < int(counted.removesuffix("-gram")) <= 8
    for row in found.values():
        assert row["bits"] == pytest.approx(math.log2(row["perplexity"]))
        assert row["loss"] == pytest.approx(math.log(row["perplexity"]))


def test_a_compressor_finds_what_it_has_read_and_no_order_in_noise() -> None:
    rng = np.random.default_rng(0)
    noise = ["".join(map(chr, rng.integers(0x4E00, 0x4E00 + 256, 4000))) for _ in range(2)]
    assert compressed(noise[0], noise[0]) < 0.2
    assert 8 <= compressed(*noise) < 16, "in bits of a character, not of a byte"


def test_the_difference_to_counting_is_that_of_the_characters(
    judged: dict[str, Any], scores: Scores
) -> None:
    counted = judged["baselines"][-1]["loss"]
    found = judged["against_counting"]
    assert found["loss"] == pytest.approx(scores.loss - counted, abs=1e-6)
    assert 0 < found["standard_error"] != judged["standard_error"]


# --- by heart ----------------------------------------------------------------------------------


def test_the_copies_are_those_found_by_search(
    model: GPT, toy_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, np.ndarray]] = []
    written = gpt.judge.judge.written
    monkeypatch.setattr(gpt.judge.judge, "LENGTH", 50)
    monkeypatch.setattr(
        gpt.judge.judge, "written", lambda *args: kept.append(written(*args)) or kept[0]
    )
    found = dict(judge(model, toy_corpus, score(model, toy_corpus.val_ids)))["copies"]
    train, val = texts(toy_corpus)
    (kinds,) = kept
    assert [row["text"] for row in found] == list(kinds) == ["model", [*kinds][1], "held-out"]
    for row, ids in zip(found, kinds.values(), strict=True):
        assert ids.shape == (3, 50)  # val has 150 characters
        rows = [toy_corpus.tokenizer.decode(text) for text in ids]
        runs = (text[i:j] for text in rows for i in range(51) for j in range(i + 1, 51))
        longest = max((run for run in runs if run in train), key=len, default="")
        grams = [text[i : i + 20] for text in rows for i in range(31)]
        assert row["longest"] == len(longest) == len(row["run"])
        assert row["run"] in train
        assert row["share"] == sum(gram in train for gram in grams) / len(grams)
        assert row["characters"] == 150
        assert row["text"] != "held-out" or all(text in val for text in rows)


@pytest.mark.parametrize(
    ("by", "error", "words"),
    [
        (-0.1, 0.04, "better than counting"), (-0.1, 0.06, "no better than counting"),
        (0.1, 0.06, "no better than counting"), (0.1, 0.04, "worse than counting"),
        (-0.1, None, "no better than counting"),
    ],
)  # fmt: skip
def test_the_verdict_on_the_loss(by: float, error: float | None, words: str) -> None:
    found = verdict({"loss": by, "standard_error": error}, copied(31, 0.01, 28, 0.01))
    last = "longest copied run 31 characters, held-out text has 28"
    assert found == f"{words}; not by heart: {last}"


@pytest.mark.parametrize(
    ("longest", "share", "usual", "words"),
    [
        (60, 0.01, 0.01, "not by heart"), (61, 0.01, 0.01, "partly by heart"),
        (31, 0.05, 0.01, "not by heart"), (31, 0.07, 0.01, "partly by heart"),
        (300, 0.5, 0.01, "by heart"), (30, 0.6, 0.6, "not by heart"),
        (30, None, None, "not by heart"),
    ],
)  # fmt: skip
def test_the_verdict_on_the_copies(
    longest: int, share: float | None, usual: float | None, words: str
) -> None:
    difference = {"loss": -0.1, "standard_error": 0.01}
    assert f"; {words}: " in verdict(difference, copied(longest, share, 30, usual))


def test_who_recites_the_training_text_is_found_out() -> None:
    rng = np.random.default_rng(0)
    tokenizer = CharTokenizer(map(chr, range(97, 97 + 26)))
    train, other = (rng.integers(0, 26, 4000) for _ in range(2))
    recited = other[:1000].reshape(2, 500).copy()
    recited[0, 50:] = train[700:1150]
    found = copies(
        {"model": recited, "held-out": other[2000:3000].reshape(2, 500)}, train, tokenizer
    )
    assert found[0]["longest"] >= 450 > 8 > found[1]["longest"]
    words = verdict({"loss": -1.0, "standard_error": 0.1}, found)
    assert words.startswith("better than counting; partly by heart: longest copied run 45")
    recited[1, 50:] = train[1700:2150]
    found[0] = copies({"model": recited}, train, tokenizer)[0]
    assert "; by heart: " in verdict({"loss": -1.0, "standard_error": 0.1}, found)


def copied(own: int, share: float | None, held_out: int, usual: float | None) -> list[dict]:
    return [{"longest": own, "share": share}, {}, {"longest": held_out, "share": usual}]


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def run(toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    train_new(overridden(toy_config, {"run.dir": str(tmp_path / "run")}), "toy")
    capsys.readouterr()
    return tmp_path / "run"


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert evaluate.main([*argv]) == Exit.DONE
    return capsys.readouterr().out


def test_the_json_has_the_loss_and_every_part(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(answer(capsys, str(run), "--json"))
    loss = json.loads(answer(capsys, str(run), "--json", "--loss"))
    assert [*loss] == [
        *("val_loss", "val_bits_per_char", "step", "characters", "corpus", "corpus_sha256")
    ]
    assert loss == {key: found[key] for key in loss}
    assert [*found][len(loss) :] == [
        *("standard_error", "perplexity", "characters_used", "baselines", "against_counting"),
        *("by_context", "by_kind", "costliest", "calibration", "copies", "verdict"),
    ]


def test_the_loss_is_printed_before_the_rest_is_known(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpt.judge.judge, "counted_ngrams", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main([str(run)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" bits per character")
    assert "standard error" in second


def test_a_reader_that_has_gone_ends_it_quietly(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as `head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as ended:
            evaluate.main([str(run)])
    assert ended.value.code == Exit.DONE


def test_a_model_that_is_sure_and_wrong_is_judged_too(model: GPT, toy_corpus: Corpus) -> None:
    """Its perplexity is beyond all floats."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1000
    scores = score(model, toy_corpus.val_ids)
    assert scores.loss > 1000
    found = {"characters": 149, "val_loss": scores.loss, "val_bits_per_char": 0.0}
    for part, value in judge(model, toy_corpus, scores):
        found[part] = value
        assert all(len(line) <= 100 for line in text_of(part, found).splitlines()), part
    assert found["perplexity"] == math.inf
    assert found["verdict"].startswith("worse than counting; ")


def test_the_report_fits_a_page_and_ends_with_the_verdict(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = answer(capsys, str(run)).splitlines()
    assert answer(capsys, str(run), "--loss").splitlines() == lines[:1]
    assert len(lines) <= 45
    assert all(len(line) <= 100 and line.isprintable() for line in lines)
    assert "; not by heart: longest copied run " in lines[-1]


def test_wide_figures_and_control_characters_still_fit() -> None:
    rows = [
        {"from": 2**k, "to": 2**k * 2 - 1, "loss": 12.345, "share_of_loss": 0.5} for k in range(20)
    ]
    strange = [{"character": c, "loss": 1.0, "share_of_loss": 0.1} for c in "\x1b\u202e\n\t a"]
    copies = [
        {"text": "model", "characters": 16_000, "longest": 900, "share": 1.0, "run": "\x1b" * 900},
        {"text": "held-out", "characters": 16_000, "longest": 0, "share": None, "run": ""},
    ]
    result = {"by_context": rows, "costliest": strange, "copies": copies}
    shown = "".join(text_of(part, result) for part in result)
    assert all(len(line) <= 100 and line.isprintable() for line in shown.splitlines())
    assert "▯" in shown


def test_a_large_text_is_counted_in_part_and_that_is_said(
    model: GPT, toy_corpus: Corpus, scores: Scores
) -> None:
    found = dict(judge(model, toy_corpus, scores, most=100))
    assert found["characters_used"] == {"training": 100, "validation": 100, "most": 100}
    train, val = texts(toy_corpus)
    by_hand = counted_by_hand(train[-100:], val[:100], len(toy_corpus.tokenizer))
    assert found["baselines"][1]["loss"] == pytest.approx(by_hand)
    found |= {"characters": 149, "val_loss": 3.0, "val_bits_per_char": 4.0}
    assert "the last 100 characters of the training part" in text_of("baselines", found)
    assert found["by_kind"] == dict(judge(model, toy_corpus, scores))["by_kind"]


def test_tensorboard_gets_the_numbers_in_a_folder_of_their_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    folder = tmp_path / "judged"
    found = json.loads(answer(capsys, str(run), "--json", "--tensorboard", str(folder)))
    shown = EventAccumulator(str(folder)).Reload()
    (event,) = shown.Scalars("judge/val_loss")
    assert (event.step, event.value) == (6, pytest.approx(found["val_loss"]))
    curve = {event.step: event.value for event in shown.Scalars("judge/loss_by_context")}
    assert curve == pytest.approx({row["to"]: row["loss"] for row in found["by_context"]})
    (longest,) = shown.Scalars("judge/copies/model/longest")
    assert longest.value == found["copies"][0]["longest"]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
