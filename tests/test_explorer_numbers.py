"""Every number that a view of the page shows, held against torch, one by one."""

import itertools
import math
import re
from typing import Any

import pytest
import torch
from attention_models import WITH_HEADS
from explorer_pages import TEXT, exhibit_of, is_rounded, rounded, settle, tokens_of, wait_for_length
from torch import Tensor

from gpt.attention.circuits import distance_table, ov_table, position_table, qk_table
from gpt.attention.decompose import mute, mute_losses, score_parts
from gpt.attention.roles import SHARES, measure
from gpt.attention.trace import Trace, trace
from gpt.explorer import export
from gpt.model import GPT

pytestmark = pytest.mark.browser

# rotary, RMSNorm, QK-norm; learned positions, LayerNorm, biases; no residual stream; no positions
KINDS = ["modern", "gpt", "two layers of heads", "no positions"]
SHIFTED = ["token shift", "token shift and learned positions"]
QUERY, KEY = 7, 4
SELECTED = f"&query={QUERY + 1}&key={KEY + 1}"
NUMBER = r"<\u00a00\.1\u00a0%|−∞|[+−]?\d+(?:\.\d+)?(?:\u00a0?%)?"


# --- what the page shows -----------------------------------------------------------------------


def assert_shown(texts: list[str], expected: Tensor | list[float]) -> None:
    values = expected.flatten().tolist() if isinstance(expected, Tensor) else expected
    assert len(texts) == len(values), f"{texts} shown, {values} expected"
    wrong = [pair for pair in zip(texts, values, strict=True) if not is_rounded(*pair)]
    assert not wrong, f"{len(wrong)} of {len(values)} numbers are wrong: {wrong[:5]}"


def assert_table(rows: list[list[str]], expected: Tensor) -> None:
    """Each cell of a table (n, m) that has a head, and a name before each row."""
    assert (len(rows) - 1, len(rows[0]) - 1) == expected.shape
    assert_shown([cell for row in rows[1:] for cell in row[1:]], expected)


def numbers_in(text: str) -> list[str]:
    return re.findall(NUMBER, text)


def tables(page: Any, section: str, selections: list[dict]) -> list[list[list[list[str]]]]:
    """For each selection, the rows of every table of numbers that a section shows."""
    return page.evaluate(
        """async ({ section, selections }) => {
          const frames = async () => {
            for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
          };
          document.getElementById(section).scrollIntoView();
          await frames();
          const found = [];
          for (const selection of selections) {
            explorer.select(selection);
            await frames();
            const all = [...document.querySelectorAll(`#${section} .numbers-table`)];
            found.push(all.filter((table) => table.checkVisibility()).map((table) => {
              table.open = true;
              table.refresh();
              const rows = [...table.querySelectorAll("tr")];
              return rows.map((row) => [...row.cells].map((cell) => cell.textContent));
            }));
          }
          return found;
        }""",
        {"section": section, "selections": selections},
    )


def bars(page: Any, list_: str) -> list[tuple[str, str]]:
    """Names and numbers of the bars in a list."""
    return page.eval_on_selector_all(
        f"{list_} li",
        "lines => lines.map(line => [line.children[0].textContent, line.children[2].textContent])",
    )


def open_kind(open_page: Any, variant: str, head: str, history: int = 0) -> tuple[Any, GPT, Trace]:
    """A page about a variant with a head open, the model that it has, and torch's trace."""
    exhibit = exhibit_of(variant, history)
    model = rounded(exhibit.checkpoint)
    page = open_page(export.html(exhibit), f"#head={head}{SELECTED}")
    return page, model, trace(model, tokens_of(exhibit))


def glyphs(seen: Trace) -> list[str]:
    return ["↵·abcdefghi"[id] for id in seen.tokens]


# --- the text, the matrix, why -----------------------------------------------------------------


@pytest.mark.parametrize("variant", ["bigram", *KINDS])
def test_probabilities_and_facts_are_torch_s(open_page, variant):
    page, model, seen = open_kind(open_page, variant, "L1H1")
    odds = seen.logits[QUERY].softmax(-1)
    shown = bars(page, "#odds")
    assert_shown([text for _, text in shown], odds.sort(descending=True).values[:8])
    assert [name for name, _ in shown] == [
        "↵·abcdefghi"[id] for id in odds.argsort(descending=True)[:8]
    ]
    [truth] = re.findall(NUMBER, page.text_content("#odds .note"))
    assert is_rounded(truth, float(odds[seen.tokens[QUERY + 1]]))
    facts = page.text_content("#facts").removeprefix(variant)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert {"100", "2.500", f"{parameters}"} <= set(numbers_in(facts.replace(",", "")))
    difference = float(page.text_content("#badge").split()[-1])
    assert difference < 1e-5


@pytest.mark.parametrize("variant", KINDS)
def test_those_who_look_at_a_character_are_torch_s(open_page, variant):
    page, _, seen = open_kind(open_page, variant, "L2H2")
    assert page.is_hidden("#looks")
    page.check("[value=to]")
    page.evaluate("explorer.select({ query: 0 })")
    settle(page)
    weights = seen.layers[1].weights[1, :, 0]  # of every character on the first
    order = weights.argsort(descending=True)
    shown = bars(page, "#looks")
    assert [name for name, _ in shown] == [place_of(t) for t in order[:8].tolist()]
    assert_shown([text for _, text in shown], weights[order[:8]])
    sums = [len(TEXT), weights.sum(), len(TEXT) - 8, weights[order[8:]].sum()]
    assert_shown(numbers_in(page.text_content("#looks .note")), sums)


@pytest.mark.parametrize("variant", ["bigram", *KINDS])
def test_loss_of_the_text_is_torch_s(open_page, variant):
    page, _, seen = open_kind(open_page, variant, "L1H1")
    loss = torch.nn.functional.cross_entropy(seen.logits[:-1], seen.tokens[1:])
    assert_shown(numbers_in(page.text_content("#odds .note >> nth=1")), [loss])


def test_a_changed_weight_stands_beside_the_model_s_own(open_page):
    page, model, seen = open_kind(open_page, "modern", "L1H2")
    page.check("#try [value=mute]")
    page.evaluate("explorer.select({ layer: 1, head: 0, query: 7, key: 4 })")
    settle(page)
    with mute(model, 0, 1):
        changed = trace(model, seen.tokens).layers[1].weights[0, QUERY, KEY]
    before = seen.layers[1].weights[0, QUERY, KEY]
    shown = re.findall(NUMBER, page.text_content("#sentence"))[1:3]
    assert_shown(shown, [changed, before])


@pytest.mark.parametrize("variant", KINDS)
@pytest.mark.parametrize("layer", [0, 1])
def test_matrix_is_torch_s_at_each_stage(open_page, variant, layer):
    page, _, seen = open_kind(open_page, variant, f"L{layer + 1}H2")
    scores, weights = (part[1] for part in (seen.layers[layer].scores, seen.layers[layer].weights))
    stages = {
        "scores": scores,
        "masked": scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf),
        "weights": weights,
    }
    names = [f"{place} {glyph}" for place, glyph in enumerate(glyphs(seen), 1)]
    for stage, expected in stages.items():
        [[table]] = tables(page, "matrix", [{"stage": stage}])
        assert table[0][1:] == [row[0] for row in table[1:]] == names
        assert_table(table, expected)
    score, weight, uniform = numbers_in(page.text_content("#matrix-reading").split("score")[1])
    assert_shown(
        [score, weight, uniform], [scores[QUERY, KEY], weights[QUERY, KEY], 1 / (QUERY + 1)]
    )
    sentence = page.text_content("#sentence")
    assert is_rounded(numbers_in(sentence)[1], float(weights[QUERY, KEY]))
    _, *lines = page.evaluate("explorer.rowAsText()").splitlines()
    found = torch.tensor([[float(cell) for cell in line.split("\t")[2:]] for line in lines])
    expected = torch.stack([scores[QUERY, : QUERY + 1], weights[QUERY, : QUERY + 1]], dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", KINDS)
def test_ranked_keys_and_the_score_s_dimensions_are_torch_s(open_page, variant):
    page, model, seen = open_kind(open_page, variant, "L2H2")
    layer, D = seen.layers[1], model.config.head_size
    scores, weights = layer.scores[1, QUERY, : QUERY + 1], layer.weights[1, QUERY, : QUERY + 1]
    order = scores.argsort(descending=True)
    ranking = page.eval_on_selector_all(
        "#why .ranking tbody tr", "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
    )
    *ranking, (_, _, _, _, divisor, whole, _) = ranking
    assert is_rounded(divisor, float((scores - scores.max()).exp().sum()))
    assert is_rounded(whole, 1.0)
    assert [int(place) for place, *_ in ranking] == [key + 1 for key in order.tolist()]
    columns = [scores * D**0.5, scores, (scores - scores.max()).exp(), weights]
    expected = torch.stack([*columns, weights * (QUERY + 1)], dim=-1)[order]
    assert_shown([cell for row in ranking for cell in row[2:]], expected)

    q, k = layer.q[1, QUERY], layer.k[1, KEY]
    products = q * k / D**0.5
    largest = products.abs().argsort(descending=True)
    [[table]] = tables(page, "why", [{}])
    dimensions = torch.arange(1.0, D + 1)
    expected = torch.stack([dimensions, q, k, products], dim=-1)[largest]
    assert_shown([cell for row in table[1:] for cell in row], expected)
    plus = products.clamp(min=0).sum()
    count = float((products > 0).sum())
    sums = [float(D), count, plus, scores[KEY] - plus, scores[KEY]]
    assert_shown(numbers_in(page.text_content("#why-content > .numbers")), sums)


# --- where a score comes from ------------------------------------------------------------------


@pytest.mark.parametrize("variant", WITH_HEADS)
def test_parts_of_a_score_are_torch_s_and_sum_to_it(open_page, variant):
    n_layer, n_head = WITH_HEADS[variant]["n_layer"], WITH_HEADS[variant]["n_head"]
    page, model, seen = open_kind(open_page, variant, f"L{n_layer}H{n_head}")
    expected = score_parts(model, seen, n_layer - 1, n_head - 1, QUERY, KEY)
    [[table]] = tables(page, "source", [{}])
    assert table[0][1:] == [row[0] for row in table[1:]] == list(expected.names)
    assert_table(table, expected.pairs)
    lists = {"#source .columns > :first-child": expected.of_query}
    lists["#source .columns > :last-child"] = expected.of_key
    for list_, scores in lists.items():
        shown = dict(bars(page, list_))
        assert_shown([shown[name] for name in expected.names], scores)
    sums = re.findall(r"[+−]?\d+\.\d{4}", page.text_content("#source .numbers"))
    assert_shown(sums, [expected.score, expected.score])
    strongest = expected.pairs.flatten().abs().sort(descending=True).values[:6]
    pairs = page.text_content("#source-content p:last-of-type").split("pairs: ")[1]
    assert_shown(re.findall(r" [+−]?(\d+\.\d\d)(?=[,.])", pairs), strongest)


# --- the rule ----------------------------------------------------------------------------------


def at_places(model: GPT, places: list[int]) -> GPT:
    """A model of a context of len(places): the positions of `model` that are named, in order."""
    weights = model.state_dict()
    if model.config.positions == "learned":
        table = weights["position_embedding.weight"]
        weights["position_embedding.weight"] = table[places]
    config = model.config.model_copy(update={"block_size": len(places)})
    made = GPT(config, model.vocab_size)
    made.load_state_dict(weights)
    return made.eval()


def rule(model: GPT, layer: int, head: int, query: int, key: int) -> Tensor:
    """Scores (V, V) of each character at position `query` on each character at `key`."""
    if model.config.positions == "learned":
        return qk_table(at_places(model, [key, query]), layer, distance=1)[head]
    return qk_table(model, layer, distance=query - key)[head]


def rises(model: GPT, seen: Trace, layer: int, head: int, query: int, key: int) -> Tensor:
    """Effects (V, V) on the logits of each character at `key`, at the final norm of `query`."""
    there = at_places(model, [key])
    text = seen.tokens[:1]
    held = trace(there, text).final_norm.scale
    return ov_table(there, layer, text)[head] / held * seen.final_norm.scale[query]


SELECTIONS = [(7, 4), (7, 3), (4, 4), (9, 0)]  # the second: the same character twice


@pytest.mark.parametrize(
    ("variant", "layer"),
    [("heads", 0), *((kind, layer) for kind in (*KINDS, *SHIFTED) for layer in (0, 1))],
)
def test_rule_over_the_alphabet_is_torch_s(open_page, variant, layer):
    page, model, seen = open_kind(open_page, variant, f"L{layer + 1}H2")
    config = model.config
    told = "share of the character before. It is left out" in page.text_content("#rule .note")
    assert told == config.token_shift
    if layer and not config.residual:
        assert page.is_hidden("#rule table")
        assert "does not read the embedding" in page.text_content("#rule .note")
        return
    reaches = config.residual or config.n_layer == 1
    selections = [{"query": query, "key": key} for query, key in SELECTIONS]
    for (query, key), found in zip(SELECTIONS, tables(page, "rule", selections), strict=True):
        scores = rule(model, layer, 1, query, key)
        assert_table(found.pop(0), scores)
        if reaches:
            assert_table(found.pop(0), rises(model, seen, layer, 1, query, key))
        pair = seen.tokens[query], seen.tokens[key]
        if config.positions == "learned":
            assert_table(found.pop(0), grid(model, layer, pair))
        if config.positions == "rotary":
            assert_shown([row[1] for row in found[0][1:]], strip(model, layer, pair))
            assert [row[0] for row in found.pop(0)[1:]] == [str(n) for n in range(12)]
        assert found == []


def grid(model: GPT, layer: int, pair: tuple[Tensor, Tensor]) -> Tensor:
    """Scores (T, T) of two characters at each pair of positions."""
    places = range(len(TEXT))
    scores = torch.tensor([[rule(model, layer, 1, i, j)[pair] for j in places] for i in places])
    if pair[0] == pair[1]:  # the same from the other table
        table = position_table(model, layer, one_hot(model, pair[0]))[1]
        seen = table[: len(TEXT), : len(TEXT)].nan_to_num()
        torch.testing.assert_close(scores.tril(), seen, rtol=0, atol=1e-4)
    return scores


def strip(model: GPT, layer: int, pair: tuple[Tensor, Tensor]) -> Tensor:
    """Scores (block_size,) of two characters at each distance."""
    distances = range(model.config.block_size)
    scores = torch.tensor([rule(model, layer, 1, distance, 0)[pair] for distance in distances])
    if pair[0] == pair[1]:
        table = distance_table(model, layer, one_hot(model, pair[0]))[1]
        torch.testing.assert_close(scores, table, rtol=0, atol=1e-4)
    return scores


def one_hot(model: GPT, id: Tensor) -> Tensor:
    return torch.eye(model.vocab_size)[id]


@pytest.mark.parametrize("variant", ["heads", *KINDS])
def test_rule_in_words_is_torch_s(open_page, variant):
    page, model, seen = open_kind(open_page, variant, "L1H2")
    asks, answers = seen.tokens[QUERY], seen.tokens[KEY]
    scores = rule(model, 0, 1, QUERY, KEY)[asks]
    matches, effects = page.eval_on_selector_all(
        "#rule .columns p:not(.numbers)", "lines => lines.map(line => line.textContent)"
    )
    assert_shown(re.findall(r"[+−]?\d+\.\d", matches), scores.sort(descending=True).values[:5])
    if model.config.residual or model.config.n_layer == 1:
        order = rises(model, seen, 0, 1, QUERY, KEY)[answers].sort(descending=True).values
        assert_shown(re.findall(r"[+−]?\d+\.\d", effects), [*order[:4], *order[-4:].flip(0)])
    if model.config.positions == "rotary":
        line = page.text_content("#rule-content > div:last-child p")
        by_distance = strip(model, 0, (asks, answers))
        last, best, distance, score = numbers_in(line.split("distances 0")[1])
        assert [int(last), int(best), int(distance)] == [11, int(by_distance.argmax()), QUERY - KEY]
        assert is_rounded(score, float(by_distance[QUERY - KEY]))


@pytest.mark.parametrize("variant", ["modern", "gpt", "no positions", "gelu", *SHIFTED])
@pytest.mark.parametrize("layer", [0, 1])
def test_rule_and_score_are_one_sum(open_page, variant, layer):
    page, model, seen = open_kind(open_page, variant, f"L{layer + 1}H2")
    match = float(rule(model, layer, 1, QUERY, KEY)[seen.tokens[QUERY], seen.tokens[KEY]])
    parts = score_parts(model, seen, layer, 1, QUERY, KEY)
    sum_ = page.locator("#rule-content > div:nth-last-child(2)")
    if layer == 0 and not model.config.token_shift:
        assert match == pytest.approx(parts.score, abs=1e-5)
        assert is_rounded(numbers_in(sum_.text_content())[-1], parts.score)
        return
    others = ("L1", "character before")
    alone = [n for n, name in enumerate(parts.names) if not name.startswith(others)]
    in_text = float(parts.pairs[alone][:, alone].sum())
    shown = sum_.locator(".amount").all_text_contents()
    assert_shown(shown, [match, in_text - match, parts.score - in_text, parts.score])
    words = sum_.locator("p").text_content()
    assert_shown(numbers_in(words), [match, in_text])


def test_a_cell_of_the_rule_s_picture_is_read_out_under_the_pointer(open_page):
    page, model, _ = open_kind(open_page, "gpt", "L1H2")
    canvas = page.locator("#rule canvas").first
    canvas.scroll_into_view_if_needed()
    settle(page)
    edge, width = 34, canvas.bounding_box()["width"]
    cell = (width - edge - 1) / model.vocab_size
    for row, column in ((3, 8), (10, 0)):
        x, y = (edge + (place + 0.5) * cell for place in (column, row))
        canvas.hover(position={"x": x, "y": y})
        text = page.locator("#rule .numbers").first.text_content()
        assert is_rounded(text.split(": ")[1], float(rule(model, 0, 1, QUERY, KEY)[row, column]))


# --- every step --------------------------------------------------------------------------------

Rows = list[tuple[str, Tensor]]  # what the name of a row begins with; its numbers
Steps = list[tuple[Rows, list[float]]]  # what a step shows: rows, and the numbers in its words


def making_of(model: GPT, seen: Trace, layer: int, query: int, key: int) -> Steps:
    """How the query of one character and the key and value of another are made."""
    config, block, attention = model.config, seen.layers[layer], model.blocks[layer].attention
    head = 1
    places = [query] if query == key else [query, key]
    origins = []
    for place in places:
        before = [float(seen.tokens[place - 1])] if config.token_shift else []
        row = [float(place)] if config.positions == "learned" else []
        origins += [place + 1, *2 * [float(seen.tokens[place])], *before, *row]
    shares = shares_of(model, seen, places) if config.token_shift else []
    steps: Steps = [([*shares, *rows_at(places, x=seen.embedded)], [*origins, 0, 1])]
    if config.norm != "none":
        steps.append((rows_at(places, before=block.before, x=block.x), []))
    q, k = block.q_content[head, query], block.k_content[head, key]
    made = [(f"query of {place_of(query)}", q)]
    others = [
        (f"{what} of {place_of(key)}", row)
        for what, row in (("key", k), ("value", block.v[head, key]))
    ]
    [asks, *answers] = rows_at(places, x=block.x)
    steps.append(([asks, *made, *answers, *others], [query + 1, key + 1]))
    if config.positions == "rotary":
        q, k = (attention.rotary(part[None], place)[0] for part, place in ((q, query), (k, key)))
        steps.append(([("query", q), ("key", k)], [query + 1, key + 1, query - key]))
    if config.qk_norm:
        normed = [("query", block.q[head, query]), ("key", block.k[head, key])]
        steps.append((normed, [q.norm(), k.norm(), config.head_size**0.5]))
    return steps


def shares_of(model: GPT, seen: Trace, places: list[int]) -> Rows:
    """What each place gets of the character before."""
    rows = model.token_embedding.weight[seen.tokens]
    return [(f"share for {place_of(p)}", model.token_shift * rows[p - 1]) for p in places]


def place_of(position: int) -> str:
    return f"{TEXT[position].translate({10: '↵', 32: '·'})} at {position + 1}"


def rows_at(places: list[int], **states: Tensor) -> Rows:
    """Rows of states (T, C) at places."""
    return [
        (f"{name} of {place_of(place)}", state[place])
        for name, state in states.items()
        for place in places
    ]


def steps_of(model: GPT, seen: Trace, layer: int) -> Steps:
    """Every step of the selected pair."""
    block, D, head = seen.layers[layer], model.config.head_size, 1
    steps = making_of(model, seen, layer, QUERY, KEY)
    asks, answers = block.q[head, QUERY], block.k[head, KEY]
    product, scores = asks @ answers, block.scores[head, QUERY, : QUERY + 1]
    weights, values = block.weights[head, QUERY, : QUERY + 1], block.v[head]
    shares = weights[:, None] * values[: QUERY + 1]  # (T, D)
    order = weights.argsort(descending=True).tolist()
    summands = [(percent_of(weights[[j]], place_of(j)), shares[j]) for j in order[:4]]
    summands.append((percent_of(weights[order[4:]], "the other 4"), shares[order[4:]].sum(0)))
    odds = seen.logits[QUERY].softmax(-1)
    best = odds.sort(descending=True).values[:3]
    steps += [
        (
            [("query", asks), ("key", answers), ("q × k", asks * answers)],
            [QUERY + 1, KEY + 1, product, D**0.5, scores[KEY]],
        ),
        ([("scores", scores)], [len(TEXT), QUERY + 1, len(TEXT) - QUERY - 1, -math.inf]),
        (
            [("weights", weights)],
            [scores[KEY], scores[KEY].exp(), QUERY + 1, scores.exp().sum(), weights[KEY], 1.0],
        ),
        ([*summands, ("sum", block.mixed[head, QUERY])], [QUERY + 1]),
        (
            [
                (f"L{layer + 1}H2 writes", block.head_writes[head, QUERY]),
                (f"stream after layer {layer + 1}", block.after[QUERY]),
            ],
            [],
        ),
        ([("probabilities", odds)], best.tolist()),
    ]
    return steps


def percent_of(weights: Tensor, name: str) -> str:
    return f"{percent(float(weights.sum()))} × {name}"


def percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f}\u00a0%"


@pytest.mark.parametrize("variant", [*KINDS, *SHIFTED, "gelu", "rotary"])
@pytest.mark.parametrize("layer", [0, 1])
def test_every_step_shows_torch_s_numbers(open_page, variant, layer):
    page, model, seen = open_kind(open_page, variant, f"L{layer + 1}H2")
    steps = steps_of(model, seen, layer)
    [found] = tables(page, "steps", [{}])
    words = page.eval_on_selector_all(
        "#steps-content > li", "steps => steps.map(step => step.children[2].textContent)"
    )
    attention, D = model.blocks[layer].attention, model.config.head_size
    matrices = [
        linear.weight[D : 2 * D] for linear in (attention.query, attention.key, attention.value)
    ]
    for (vectors, in_words), text in zip(steps, words, strict=True):
        if any(name.startswith("value") for name, _ in vectors):
            for matrix in matrices:
                assert_table(found.pop(0), matrix)
        _, *rows = found.pop(0)
        for row, (name, vector) in zip(rows, vectors, strict=True):
            assert row[0].startswith(name)
            assert_shown(row[1:], vector)
        assert_shown(numbers_in(text.replace(f"L{layer + 1}H2", "")), in_words)
    assert found == []


def test_the_first_character_has_no_share_of_one_before(open_page):
    page, _, _ = open_kind(open_page, "token shift", "L1H1")
    [[table, *_]] = tables(page, "steps", [{"query": 0, "key": 0}])
    assert [name for name, *_ in table[1:]] == [f"x of {place_of(0)}"]
    assert "share" not in page.text_content("#steps-content > li")


@pytest.mark.parametrize("variant", ["modern", "gpt"])
def test_a_character_that_looks_at_itself_is_made_once(open_page, variant):
    page, model, seen = open_kind(open_page, variant, "L2H2")
    steps = making_of(model, seen, 1, QUERY, QUERY)
    [found] = tables(page, "steps", [{"query": QUERY, "key": QUERY}])
    shown = [table for table in found if "value" not in table[0]][: len(steps)]
    for (rows, _), table in zip(steps[:2], shown, strict=False):
        assert [row[0] for row in table[1:]] == [name for name, _ in rows]


def test_rows_of_the_mix_have_one_scale(open_page):
    page, _, seen = open_kind(open_page, "modern", "L2H2")
    block = seen.layers[1]
    weights, values = block.weights[1, QUERY, : QUERY + 1], block.v[1, : QUERY + 1]
    shares = weights[:, None] * values
    order = weights.argsort(descending=True)
    rows = [*shares[order[:4]], shares[order[4:]].sum(0), block.mixed[1, QUERY]]
    strips = "#steps-content > li:has(h3:text('Mix')) .strip"
    lengths = page.locator(f"{strips} .amount").all_text_contents()
    assert_shown([text.removeprefix("length ") for text in lengths], [row.norm() for row in rows])
    heights = page.eval_on_selector_all(
        f"{strips} canvas",
        """pictures => pictures.map(({ width, height, ...picture }, n) => {
          const { data } = pictures[n].getContext("2d").getImageData(0, 0, width, height);
          const lines = Array.from({ length: height }, (_, y) => y).filter((y) =>
            data.subarray(4 * y * width, 4 * (y + 1) * width).some((value) => value > 0));
          return Math.max(height / 2 - lines[0], lines.at(-1) + 1 - height / 2);
        })""",
    )
    most = max(float(row.abs().max()) for row in rows)
    assert heights == pytest.approx([15 * float(row.abs().max()) / most for row in rows], abs=1.1)


# --- weights changed by hand, other checkpoints ------------------------------------------------


@pytest.mark.parametrize("variant", KINDS)
def test_probabilities_and_loss_of_changed_weights_are_torch_s(open_page, variant):
    page, model, seen = open_kind(open_page, variant, "L1H2")
    page.check("#try [value=mute]")
    settle(page)
    with mute(model, 0, 1):
        muted = trace(model, seen.tokens).logits
    before, now = (logits[QUERY].softmax(-1) for logits in (seen.logits, muted))
    order = (now - before).abs().argsort(descending=True)[:8]
    expected = torch.stack([before, now], dim=-1)[order]
    shown = [number for _, text in bars(page, "#try") for number in text.split(" → ")]
    assert_shown(shown, expected)
    targets = seen.tokens[1:]
    losses = [
        torch.nn.functional.cross_entropy(logits[:-1], targets) for logits in (seen.logits, muted)
    ]
    assert_shown(re.findall(r"\d+\.\d{3}", page.text_content("#try p")), torch.stack(losses))


def wait_for_costs(page: Any) -> tuple[list[str], list[str]]:
    """What muting costs, under every head's square, once all of it is computed: the rises of the
    loss, and what is left of the probability of the next character."""
    for _ in range(100):
        shown = page.eval_on_selector_all(
            "#heads .cost",
            "costs => costs.map(cost => [...cost.childNodes].map(n => n.textContent))",
        )
        if not any("…" in rise for rise, _ in shown):
            return [rise.removeprefix("muting costs ") for rise, _ in shown], [
                left for _, left in shown
            ]
        page.wait_for_timeout(50)
    pytest.fail(f"only these costs were found: {shown}")


def own_odds_of(logits: Tensor, seen: Trace) -> float:
    """The probability of the text's next character at the query."""
    return float(logits[QUERY].softmax(-1)[seen.tokens[QUERY + 1]])


def own_odds(model: GPT, seen: Trace) -> Tensor:
    """(L, H): the same with each head muted."""
    left = torch.zeros(model.config.n_layer, model.config.n_head)
    for layer, head in itertools.product(*map(range, left.shape)):
        with mute(model, layer, head):
            left[layer, head] = own_odds_of(trace(model, seen.tokens).logits, seen)
    return left


@pytest.mark.parametrize("variant", KINDS)
def test_costs_of_muting_each_head_are_torch_s(open_page, variant):
    page, model, seen = open_kind(open_page, variant, "L1H2")
    costs = mute_losses(model, seen.tokens.numpy())
    rises, left = wait_for_costs(page)
    assert_shown(rises, costs)
    odds = own_odds(model, seen)
    shown = [re.findall(NUMBER, text.split(": ")[1]) for text in left]
    assert_shown([after for _, after in shown], odds)
    assert_shown([before for before, _ in shown], len(shown) * [own_odds_of(seen.logits, seen)])
    order = costs.flatten().argsort(descending=True)
    H = model.config.n_head
    names = [f"L{n // H + 1}H{n % H + 1}" for n in order[[0, -1]].tolist()]
    names.append(f"L{int(odds.argmin()) // H + 1}H{int(odds.argmin()) % H + 1}")
    assert re.findall(r"muting (L.H.)", page.text_content("#worth")) == names
    shown = re.findall(r"\(([^)L]*)\)", page.text_content("#worth"))
    assert_shown(shown, costs.flatten()[order[[0, -1]]])
    [table] = tables(page, "heads", [{}])[0]
    assert_shown([row[-1] for row in table[1:]], costs)


def test_costs_of_muting_follow_the_text_and_not_the_reader_s_changes(open_page):
    page, model, _ = open_kind(open_page, "modern", "L1H2")
    first = wait_for_costs(page)
    page.check("#try [value=uniform]")
    settle(page)
    assert wait_for_costs(page) == first
    page.click("#typing summary")
    page.fill("#own-text", "cab bad")
    wait_for_length(page, 7)
    settle(page)
    tokens = tokens_of(exhibit_of("modern"), "cab bad")
    assert_shown(wait_for_costs(page)[0], mute_losses(model, tokens.numpy()))


def test_costs_that_take_long_are_computed_on_demand(open_page):
    exhibit = exhibit_of("modern")
    data = export.page_data(exhibit) | {"parameters": 10**9}
    page = open_page(export.assemble(export.json_for_html(data)))
    assert page.locator("#heads .cost:visible").count() == 0
    page.click("#heads button:has-text('compute what muting')")
    costs = mute_losses(rounded(exhibit.checkpoint), tokens_of(exhibit).numpy())
    assert_shown(wait_for_costs(page)[0], costs)


@pytest.mark.parametrize("variant", KINDS)
def test_every_checkpoint_shows_torch_s_numbers(open_page, variant):
    page, _, seen = open_kind(open_page, variant, "L2H2", history=2)
    exhibit = exhibit_of(variant, history=2)
    models = [other.make_model() for other in reversed(exhibit.history)]
    traces = [*(trace(model, seen.tokens) for model in models), seen]
    shares = [
        [
            float(measure(then.layers[1].weights[1, None], seen.tokens[None])[name])
            for name in SHARES
        ]
        for then in traces
    ]
    [[table]] = tables(page, "learning", [{}])
    assert [row[0] for row in table] == ["step", "80", "90", "100"]
    for row, expected in zip(table[1:], shares, strict=True):
        assert percents(row[1:]) == pytest.approx([100 * share for share in expected], abs=0.51)
    for moment, then in enumerate(traces):
        page.fill("#moment", str(moment))
        odds = then.logits[QUERY].softmax(-1).sort(descending=True).values[:6]
        shown = page.locator("#learning ul >> nth=0 >> .amount").all_text_contents()
        assert percents(shown) == pytest.approx((100 * odds).tolist(), abs=0.51)
        shown = page.locator("#learning ul >> nth=1 >> .amount").all_text_contents()
        title = page.text_content("#learning h4 >> nth=1")
        [role] = [place for place, words in enumerate(SHARES.values()) if title.endswith(words)]
        assert percents(shown) == pytest.approx([100 * row[role] for row in shares], abs=0.51)
        assert page.text_content("#learning .numbers") == "validation loss 2.500 nats per character"


def percents(texts: list[str]) -> list[float]:
    """Rounded twice, for numbers of other checkpoints travel in 16 bits: good to half a percent."""
    return [float(text.removeprefix("<\u00a0").removesuffix("\u00a0%")) for text in texts]
