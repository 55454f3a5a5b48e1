"""What a learner asks of a model: the right answer stands on the page, at most three clicks away.

Two of the questions are about causes over two layers. Other answers, such as weights, scores and
probabilities, are read off without a click; test_explorer_numbers.py has them all.
"""

import re
from typing import Any

import pytest
import torch
from explorer_pages import TEXT, exhibit_of, rounded, settle, tokens_of

from gpt.attention.decompose import mute, mute_losses, score_parts
from gpt.attention.trace import Trace, trace
from gpt.explorer import export
from gpt.model import GPT

pytestmark = pytest.mark.browser
QUERY, KEY = 7, 4  # of head L2H2, which the page opens with
HEADS = [(layer, head) for layer in (0, 1) for head in (0, 1)]


class Reader:
    """Reads a page of the variant `modern`, and counts the clicks."""

    def __init__(self, open_page: Any):
        exhibit = exhibit_of("modern")
        self.page = open_page(export.html(exhibit), f"#head=L2H2&query={QUERY + 1}&key={KEY + 1}")
        self.model: GPT = rounded(exhibit.checkpoint)
        self.seen: Trace = trace(self.model, tokens_of(exhibit))
        self.clicks = 0

    def click(self, selector: str) -> None:
        self.page.click(selector)
        self.clicks += 1
        assert self.clicks <= 3
        settle(self.page)

    def read(self, selector: str) -> str:
        text = self.page.locator(selector).first.text_content()
        return text.replace("\u00a0", " ").replace("−", "-")

    def loss(self, *muted: tuple[int, int]) -> str:
        """Nats per character, with heads muted, as the page writes it."""
        logits = self.without(*muted).logits[:-1]
        return f"{torch.nn.functional.cross_entropy(logits, self.seen.tokens[1:]):.3f}"

    def without(self, *muted: tuple[int, int]) -> Trace:
        if not muted:
            return trace(self.model, self.seen.tokens)
        with mute(self.model, *muted[0]):
            return self.without(*muted[1:])


@pytest.fixture
def reader(open_page):
    return Reader(open_page)


def percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def test_by_what_does_the_softmax_divide(reader):
    scores = reader.seen.layers[1].scores[1, QUERY, : QUERY + 1]
    assert f"{scores.exp().sum():.2f}" in reader.read("#steps li:has(h3:text('Softmax')) > p + p")


def test_who_looks_at_this_character_most_and_how_much(reader):
    reader.click("[value=to]")
    weights = reader.seen.layers[1].weights[1, :, QUERY]
    looks = int(weights.argmax())
    answer = reader.read("#looks li")
    assert (
        answer == f"{TEXT[looks].replace(' ', '·')} at {looks + 1}{percent(float(weights[looks]))}"
    )


def test_which_head_costs_most_on_this_text_and_which_here(reader):
    reader.page.locator("#worth", has_text="After").wait_for()
    costs = mute_losses(reader.model, reader.seen.tokens.numpy()).flatten()
    target = reader.seen.tokens[QUERY + 1]
    odds = [float(reader.without(head).logits[QUERY].softmax(-1)[target]) for head in HEADS]
    names = [f"L{layer + 1}H{head + 1}" for layer, head in HEADS]
    most, least = (names[int(n)] for n in (costs.argmax(), costs.argmin()))
    here = names[min(range(4), key=odds.__getitem__)]
    assert re.findall(r"muting (L\dH\d)", reader.read("#worth")) == [most, least, here]
    assert f"→ {percent(min(odds))}" in reader.read("#worth")


def test_what_two_muted_heads_cost_together(reader):
    assert reader.loss() in reader.read("#odds .note >> nth=1")
    reader.click("#try [value=mute]")
    assert f"{reader.loss()} → {reader.loss((1, 1))}" in reader.read("#try p")
    reader.click("#grid button:has-text('L1H1')")
    reader.click("#try [value=mute]")
    assert f"{reader.loss()} → {reader.loss((1, 1), (0, 0))}" in reader.read("#try p")


def test_shapes_and_what_their_letters_mean(reader):
    step = reader.read("#steps li:has(h3:text('Three linear maps')) .source-line")
    assert "Wq, Wk, Wv (D, C) = (8, 16); q, k, v (T, D) = (10, 8)" in step
    assert "C = n_embd, D = head_size" in reader.read("#steps > p")


def test_from_where_characters_and_ids_are_counted(reader):
    assert "are counted from 1" in reader.read("#text > p")
    assert "rows are counted from 0" in reader.read("#steps li > p + p")


def test_is_a_head_that_wrote_the_query_a_cause_of_the_weight(reader):
    """A cause over two layers: what the head looked at there, and the weight without it."""
    reader.click("#source a:text('L1H1')")
    weights = reader.seen.layers[0].weights[0, QUERY]
    assert reader.read("#why tbody tr").startswith(f"{int(weights.argmax()) + 1}")
    assert percent(float(weights.max())) in reader.read("#why tbody tr")
    reader.click("#try [value=mute]")
    reader.click("#back")
    before, now = (
        percent(float(seen.layers[1].weights[1, QUERY, KEY]))
        for seen in (reader.seen, reader.without((0, 0)))
    )
    assert f"{now} (unchanged model: {before})" in reader.read("#sentence")


def test_is_a_key_looked_at_for_what_it_is_or_for_what_was_written_there(reader):
    """A cause over two layers: the rule, the two characters' pair and the score in one sum."""
    parts = score_parts(reader.model, reader.seen, 1, 1, QUERY, KEY)
    words = reader.read("#rule-content > div:nth-last-child(2)")
    alone = float(parts.pairs[0, 0])
    assert f"of the match, {alone:+.2f} is left" in words
    assert f"the rest{parts.score - alone:+.2f}the score{parts.score:+.2f}" in words


def test_does_the_largest_weight_bring_most_of_the_mix(reader):
    block = reader.seen.layers[1]
    shares = block.weights[1, QUERY, : QUERY + 1, None] * block.v[1, : QUERY + 1]
    first = int(block.weights[1, QUERY].argmax())
    answer = reader.read("#steps li:has(h3:text('Mix')) .strip")
    assert f"length {shares[first].norm():.2f}" in answer
