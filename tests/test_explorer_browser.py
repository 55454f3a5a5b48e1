"""The page in a real browser: torch's numbers, the reader's keys and pointer, and nothing else.

`python -m pytest -m browser`; the fixture `browser` says what it needs.
"""

import re

import pytest
import torch
from attention_models import VARIANTS, build
from explorer_pages import (
    LETTERS,
    TEXT,
    TORTURE_TEXT,
    axe_violations,
    checkpoint_of,
    exhibit_of,
    numbers,
    rounded,
    settle,
    tokens_of,
    torture_exhibit,
    wait_for_length,
)

from gpt.attention.decompose import mute
from gpt.attention.roles import MEASURES, SHARES, Measure, measure, role_in_words, uniform_weights
from gpt.attention.trace import trace
from gpt.explorer import export

pytestmark = pytest.mark.browser
CLOSE = {"rtol": 0, "atol": 1e-4}


def selection(page) -> dict:
    return page.evaluate("explorer.app.state")


# --- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_page_computes_what_torch_computes(open_page, variant):
    exhibit = exhibit_of(variant)
    page = open_page(export.html(exhibit))
    expected = trace(rounded(exhibit.checkpoint), tokens_of(exhibit))
    for number, layer in enumerate(expected.layers):
        for head in range(len(layer.q)):
            here = f"explorer.app.trace.layers[{number}].heads[{head}]"
            for name, tensor in {
                "q": layer.q,
                "k": layer.k,
                "v": layer.v,
                "out": layer.mixed,
            }.items():
                found = numbers(page, f"{here}.{name}").view_as(tensor[head])
                torch.testing.assert_close(found, tensor[head], **CLOSE)
            for name, tensor in {"scores": layer.scores, "weights": layer.weights}.items():
                found = numbers(page, f"{here}.{name}").view_as(tensor[head])
                torch.testing.assert_close(found, tensor[head], **CLOSE)
            weights = numbers(page, f"{here}.weights").view(len(TEXT), len(TEXT))
            torch.testing.assert_close(weights.sum(-1), torch.ones(len(TEXT)))
            assert not weights.triu(1).any()
    logits = numbers(page, "explorer.app.trace.logits").view_as(expected.logits)
    torch.testing.assert_close(logits, expected.logits, **CLOSE)
    assert page.get_attribute("#badge", "class") == "good"


def test_one_broken_weight_turns_the_badge_red(open_page):
    exhibit = exhibit_of("modern")
    data = export.page_data(exhibit)
    model = rounded(exhibit.checkpoint)
    with torch.no_grad():
        model.blocks[1].attention.value.weight[3, 5] += 0.5
    data["weights"]["numbers"] = export.pack(model.parameters())
    page = open_page(export.assemble(export.json_for_html(data)))
    assert page.get_attribute("#badge", "class") == "bad"
    assert "disagree" in page.text_content("#badge")


@pytest.mark.parametrize("variant", ["gpt", "modern", "one head"])
def test_habits_are_named_as_the_analysis_names_them(open_page, variant):
    exhibit = exhibit_of(variant)
    page = open_page(export.html(exhibit))
    tokens = tokens_of(exhibit)
    chance = measure(uniform_weights(len(tokens)), tokens[None])
    words = []
    for layer in trace(rounded(exhibit.checkpoint), tokens).layers:
        found = measure(layer.weights[:, None], tokens[None])
        words += [
            role_in_words({m: Measure(float(found[m][h]), float(chance[m])) for m in MEASURES})
            for h in range(len(layer.weights))
        ]
    shown = page.eval_on_selector_all(
        ".habit", "habits => habits.map(habit => [...habit.childNodes].map(n => n.textContent))"
    )
    assert [", ".join(habit).replace("\u00a0", " ") for habit in shown] == words


def test_roles_are_those_of_the_analysis(open_page):
    exhibit = exhibit_of("gpt")
    page = open_page(export.html(exhibit))
    tokens = tokens_of(exhibit)
    layer = trace(rounded(exhibit.checkpoint), tokens).layers[1]
    expected = measure(layer.weights[:, None], tokens[None])
    page.click("#heads summary")
    page.wait_for_selector("#heads td")
    head, *rows = page.eval_on_selector_all(
        "#heads tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [name.removesuffix(" (uniform)") for name in head[1:6]] == list(SHARES.values())
    for number in range(2):
        shown = [float(re.match(r"[\d.]+", cell)[0]) for cell in rows[2 + number][1:7]]
        values = [100 * float(expected[name][number]) for name in (*SHARES, "entropy")]
        assert shown == pytest.approx(values, abs=0.51)


def test_muting_a_head_does_what_muting_it_in_torch_does(open_page):
    exhibit = exhibit_of("modern")
    model = rounded(exhibit.checkpoint)
    page = open_page(export.html(exhibit), "#head=L1H2&query=8")
    page.check("#try [value=mute]")
    settle(page)
    with mute(model, 0, 1):
        expected = export.logits_of(model, tokens_of(exhibit)[None])
    logits = numbers(page, "explorer.app.trace.logits").view_as(expected)
    torch.testing.assert_close(logits, expected, **CLOSE)
    assert "L1H2 muted" in page.text_content("#try")
    page.click("#undo")
    settle(page)
    assert page.evaluate("explorer.app.trace === explorer.app.untouched")


@pytest.mark.parametrize("kind", ["uniform", "self", "previous", "set"])
def test_changed_weights_still_share_out_one_whole(open_page, kind):
    page = open_page(export.html(exhibit_of("gpt")), "#head=L2H1&query=8&key=5")
    if kind == "set":
        page.fill("#one-weight", "90")
    else:
        page.check(f"#try [value={kind}]")
    settle(page)
    weights = numbers(page, "explorer.app.trace.layers[1].heads[0].weights").view(len(TEXT), -1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(TEXT)))
    if kind == "set":
        assert float(weights[7, 4]) == pytest.approx(0.9)
    if kind == "previous":
        assert weights.diagonal(-1).tolist() == [1.0] * (len(TEXT) - 1)


# --- the text ----------------------------------------------------------------------------------


def test_odd_characters_are_shown_literally(open_page):
    page = open_page(export.html(torture_exhibit()))
    shown = page.eval_on_selector_all(
        "#characters [role=option]", "options => options.map(option => option.textContent)"
    )
    special = {"\u2028": "U+2028", "\u202e": "U+202E", "\t": "⇥"}
    assert shown == [special.get(character, character) for character in TORTURE_TEXT]
    assert page.title() == "Attention of </script><b>&amp;"
    assert page.text_content("#facts").startswith("</script><b>&amp;")


def test_typed_text_is_read(open_page):
    exhibit = exhibit_of("modern")
    page = open_page(export.html(exhibit))
    page.click("#typing summary")
    page.fill("#own-text", "x bad cab")
    wait_for_length(page, 8)
    expected = trace(rounded(exhibit.checkpoint), tokens_of(exhibit, " bad cab")).logits
    logits = numbers(page, "explorer.app.trace.logits").view_as(expected)
    torch.testing.assert_close(logits, expected, **CLOSE)
    assert "'x'" in page.text_content("#own-text-problem")
    page.fill("#own-text", "xxxxx" + "abcdefghi")
    wait_for_length(page, 9)
    assert "last 12" not in page.text_content("#own-text-problem")
    page.fill("#own-text", "abcdefghi" * 2)
    wait_for_length(page, 12)
    assert "last 12" in page.text_content("#own-text-problem")
    page.fill("#own-text", "")
    page.wait_for_timeout(400)
    assert "at least one" in page.text_content("#own-text-problem")
    page.fill("#own-text", "a")
    wait_for_length(page, 1)


# --- the selection -----------------------------------------------------------------------------


def test_keyboard_walks_through_characters_heads_and_layers(open_page):
    page = open_page(export.html(exhibit_of("gpt")), "#head=L1H1&query=4&key=2")
    page.focus("#characters")
    for key, change in {
        "ArrowRight": {"query": 4},
        "ArrowDown": {"head": 1},
        "PageDown": {"layer": 1},
        "ArrowUp": {"head": 0},
        "PageUp": {"layer": 0},
        "ArrowLeft": {"query": 3},
        "Home": {"query": 0},
        "End": {"query": len(TEXT) - 1},
        "Enter": {"locked": True},
        "Escape": {"locked": False},
    }.items():
        page.keyboard.press(key)
        assert selection(page).items() >= change.items()
    for _ in TEXT:
        page.keyboard.press("Shift+ArrowLeft")
    assert selection(page)["key"] == 0
    page.keyboard.press("Shift+ArrowRight")
    assert selection(page)["key"] == 1
    settle(page)
    sentence = page.text_content("#sentence").replace("\u00a0", " ")
    assert re.match(r"space at 10 gives [\d.]+ % to .+ at \d+", sentence)
    assert page.get_attribute("#sentence", "aria-live") == "polite"


def test_pointing_previews_and_a_click_holds(open_page):
    page = open_page(export.html(exhibit_of("gpt")))
    page.hover("#c5")
    assert selection(page)["query"] == 4
    page.click("#c5")
    page.hover("#c3")
    assert selection(page).items() >= {"query": 4, "key": 2, "locked": True}.items()
    page.click("#c5")
    page.hover("#c8")
    assert selection(page).items() >= {"query": 7, "locked": False}.items()


def test_keys_are_chosen_by_keyboard_and_what_is_open_stays_open(open_page):
    page = open_page(export.html(exhibit_of("gpt")), "#head=L1H1&query=8&key=1")
    page.click("#steps li:nth-child(3) summary")
    page.focus("#why tr[data-key='4'] button")
    page.keyboard.press("Enter")
    settle(page)
    assert selection(page)["key"] == 4
    assert page.evaluate("document.activeElement.closest('tr').dataset.key") == "4"
    assert page.is_visible("#steps li:nth-child(3) table")
    page.focus("#grid [aria-pressed=true]")
    page.keyboard.press("ArrowDown")
    settle(page)
    assert page.evaluate("document.activeElement.textContent").startswith("L1H2")


def test_a_head_that_wrote_a_part_is_a_link_with_a_way_back(open_page):
    page = open_page(export.html(exhibit_of("gpt")), "#head=L2H2&query=8&key=5")
    assert page.is_hidden("#back")
    keys = page.locator("#source .columns > :last-child")
    keys.get_by_role("link", name="L1H1").focus()
    page.keyboard.press("Enter")
    settle(page)
    assert selection(page).items() >= {"layer": 0, "head": 0, "query": 4, "locked": True}.items()
    assert page.evaluate("document.activeElement.id") == "why"
    assert page.text_content("#back") == "← back to L2H2 at 8"
    page.focus("#characters")
    page.keyboard.press("ArrowRight")
    page.click("#back")
    settle(page)
    expected = {"layer": 1, "head": 1, "query": 7, "key": 4, "locked": False}
    assert selection(page).items() >= expected.items()
    assert page.evaluate("document.activeElement.id") == "source"
    assert page.is_hidden("#back")


def test_the_keys_are_named_on_the_page(open_page):
    page = open_page(export.html(exhibit_of("gpt")))
    named = [key.replace("\u00a0", " ") for key in page.locator("#keys kbd").all_text_contents()]
    arrows = {"←", "→", "↑", "↓", "Page ↑", "Page ↓"}
    assert set(named) == arrows | {"Home", "End", "Shift", "Enter", "Esc"}
    assert page.is_visible("#keys")


def test_address_restores_the_view(open_page):
    html = export.html(exhibit_of("modern"))
    page = open_page(
        html, "#head=L2H2&query=6&key=3&held=1&show=to&stage=masked&share=60&text=cab+bad"
    )
    expected = {"layer": 1, "head": 1, "query": 5, "key": 2, "locked": True}
    expected |= {"direction": "to", "stage": "masked", "share": 0.6}
    assert selection(page).items() >= expected.items()
    page.evaluate("explorer.remember()")
    again = open_page(html, page.evaluate("location.hash"))
    assert selection(again) == selection(page)
    assert again.evaluate("explorer.app.text") == "cab bad"


@pytest.mark.parametrize("hash", ["#head=L9H9&query=99&key=-1&stage=no", "#head=%&query=x", "#%%%"])
def test_nonsense_in_the_address_is_passed_over(open_page, hash):
    state = selection(open_page(export.html(exhibit_of("gpt")), hash))
    assert state["layer"] in (0, 1)
    assert state["stage"] == "weights"


# --- every kind of page ------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
@pytest.mark.parametrize("variant", ["gpt", "modern", "bigram", "one head"])
def test_everyone_can_read_it(open_page, variant, width, scheme):
    page = open_page(export.html(exhibit_of(variant, history=2)), width=width, scheme=scheme)
    for details in page.query_selector_all("details"):
        details.evaluate("details => { details.open = true; }")
    settle(page)
    assert axe_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_large_model_s_page_shows_torch_s_numbers(open_page):
    exhibit = exhibit_of("gpt")
    data = export.page_data(exhibit, most_parameters=1000)
    page = open_page(export.assemble(export.json_for_html(data)))
    layer = trace(exhibit.checkpoint.make_model(), tokens_of(exhibit)).layers[1]
    weights = numbers(page, "explorer.app.trace.layers[1].heads[1].weights")
    torch.testing.assert_close(weights.view(len(TEXT), -1), layer.weights[1], rtol=0, atol=5e-3)
    assert "too large" in page.text_content("#badge")
    assert page.is_hidden("#typing")
    assert page.is_hidden("#try")
    assert axe_violations(page) == []


def test_bigram_page_says_that_nothing_looks_back(open_page):
    page = open_page(export.html(exhibit_of("bigram")))
    assert page.is_visible("#no-attention")
    assert page.is_hidden("#matrix")
    page.focus("#characters")
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert selection(page)["query"] == len(TEXT) - 1


def test_slider_goes_through_the_checkpoints(open_page):
    exhibit = exhibit_of("gpt", history=2)
    page = open_page(export.html(exhibit), "#head=L1H1&query=8")
    assert page.get_attribute("#moment", "max") == "2"
    page.fill("#moment", "0")
    assert "at step 80" in page.text_content("#learning")
    model = exhibit.history[1].make_model()
    odds = trace(model, tokens_of(exhibit)).logits[7].softmax(-1)
    first = page.text_content("#learning .bars li .amount").replace("\u00a0", " ")
    assert float(first.split()[0]) == pytest.approx(100 * float(odds.max()), abs=0.6)


def test_row_goes_out_as_text_and_the_matrix_as_a_picture(open_page):
    page = open_page(export.html(exhibit_of("gpt")), "#head=L1H1&query=3&key=1")
    lines = page.evaluate("explorer.rowAsText()").splitlines()
    assert lines[0] == "position\tcharacter\tscore\tweight"
    assert [line.split("\t")[1] for line in lines[1:]] == ["a", "·", "b"]
    with page.expect_download() as download:
        page.click("#save-picture")
    assert download.value.suggested_filename == "L1H1-weights.png"


def test_page_of_the_default_size_opens_soon_and_is_small(open_page):
    kind = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64}
    checkpoint = checkpoint_of(build(kind, std=0.05), LETTERS)
    exhibit = export.Exhibit("default", checkpoint, (TEXT * 7)[:64], (checkpoint,) * 8)
    html = export.html(exhibit)
    assert len(html) < 3e6
    page = open_page(html)
    assert page.evaluate("performance.getEntriesByName('ready')[0].startTime") < 5000
