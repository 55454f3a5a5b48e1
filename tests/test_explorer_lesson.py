"""The example that the page opens with: the notes' numbers, and torch's after every change."""

import math
import re
from typing import Any

import pytest
import torch
from attention_models import VARIANTS
from explorer_pages import axe_violations, exhibit_of, is_rounded, settle
from notes import run_snippet
from torch import Tensor

from gpt.explorer import export
from gpt.explorer.lesson import GIVEN, TABLES, notes_lesson
from gpt.explorer.tables import Table
from gpt.explorer.walkthrough import notes_group, notes_steps

in_browser = pytest.mark.browser
Numbers = dict[str, Tensor]  # by the name of the table
ROWS = {name: 5 if name in ("query", "key", "value") else 3 for name in TABLES}


def followed(x: Tensor, query: Tensor, key: Tensor, value: Tensor, ahead: bool) -> Numbers:
    """The notes' snippet from x (T, C) and the tools (C, D) on, and each step of it."""
    q, k, v = x @ query, x @ key, x @ value
    products = q @ k.T
    scores = products * q.shape[1] ** -0.5
    later = torch.ones_like(scores).triu(1) == 1
    covered = scores if ahead else scores.masked_fill(later, -torch.inf)
    weights = covered.softmax(-1)
    powers = torch.cat([covered.exp(), covered.exp().sum(-1, keepdim=True)], -1)
    made = [x, query, q, key, k, value, v, products, scores, covered, powers, weights, weights @ v]
    return dict(zip(TABLES, made, strict=True))


@pytest.fixture(scope="module")
def notes() -> Numbers:
    """What the notes' snippet computes for its first group."""
    made = run_snippet()
    tools = {name: made[name].T for name in ("query", "key", "value")}
    found = followed(made["x"][0], **tools, ahead=False)
    for name, ours in {"q": "q", "k": "k", "v": "v", "wei": "weights", "out": "out"}.items():
        torch.testing.assert_close(found[ours], made[name][0])
    return found


# --- what Python tells the page ----------------------------------------------------------------


def test_the_page_starts_from_the_notes_numbers(notes: Numbers) -> None:
    given = notes_lesson()["given"]
    assert tuple(given) == GIVEN
    for name, numbers in given.items():
        assert torch.equal(torch.tensor(numbers).view_as(notes[name]), notes[name])


def test_the_page_has_the_walkthroughs_steps_and_titles() -> None:
    lesson, steps = notes_lesson(), list(notes_steps(notes_group()))
    told = [(step["title"], step["sentence"], step["code"]) for step in lesson["steps"]]
    assert told == [(step.title, step.sentence, step.code) for step in steps]
    for table in lesson["tables"].values():
        assert table["title"] in {getattr(part, "title", "") for part in steps[table["step"]].parts}


def test_whoever_makes_a_page_keeps_their_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    notes_lesson()
    assert torch.rand(2).tolist() == expected


# --- the numbers -------------------------------------------------------------------------------


NUMBERS = """Object.fromEntries(
  Object.entries(explorer.app.lesson).map(([name, numbers]) => [name, [...numbers]]))"""


def as_tensors(found: dict[str, list[float]]) -> Numbers:
    return {name: torch.tensor(cells).view(ROWS[name], -1) for name, cells in found.items()}


def held(page: Any) -> Numbers:
    """The numbers that the page reckons with."""
    return as_tensors(page.evaluate(NUMBERS))


def shown(page: Any) -> dict[str, list[str]]:
    """The texts of all tables, by their order."""
    tables = page.eval_on_selector_all(
        "#lesson-board table",
        """tables => tables.map(table => [...table.querySelectorAll("tbody td")].map(
          cell => cell.querySelector("input")?.value ?? cell.textContent))""",
    )
    return dict(zip(TABLES, tables, strict=True))


def open_example(open_page: Any, hash: str = "", **how: Any) -> Any:
    return open_page(export.html(exhibit_of("gpt")), hash, **how)


def assert_equal(found: Numbers, expected: Numbers) -> None:
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        torch.testing.assert_close(
            found[name], numbers, atol=1e-5, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@in_browser
@pytest.mark.parametrize("kind", [*VARIANTS, "too large for the page"])
def test_every_number_is_there_in_every_page(open_page, notes: Numbers, kind: str) -> None:
    exhibit = exhibit_of(kind if kind in VARIANTS else "gpt")
    most = None if kind in VARIANTS else 1000
    page = open_page(export.html(exhibit, most))
    assert_equal(held(page), notes)
    for name, texts in shown(page).items():
        values = notes[name].flatten().tolist()
        assert len(texts) == len(values)
        assert all(map(is_rounded, texts, values)), name
    assert page.locator("#lesson-board input[type=text]:visible").count() == 3 * 5 + 3 * 5 * 6


@in_browser
def test_the_numbers_are_the_terminals(open_page) -> None:
    found = held(open_example(open_page))
    steps = list(notes_steps(notes_group()))
    for name, (step, start) in TABLES.items():
        [table] = (
            part
            for part in steps[step].parts
            if isinstance(part, Table) and part.title.startswith(start)
        )
        cells = torch.tensor([cells for _, cells in table.rows])
        torch.testing.assert_close(found[name], cells, atol=1e-6, rtol=1e-5)


@in_browser
@pytest.mark.parametrize("step", [5, 7])
def test_divisions_are_written_as_on_the_terminal(open_page, step: int) -> None:
    page = open_example(open_page, f"#lesson={step}")
    lines = page.text_content("#lesson-reckoning").replace("−", "-").split("\n")
    parts = list(notes_steps(notes_group()))[step - 1].parts
    [line] = (part for part in parts if isinstance(part, str))
    assert line in lines


@in_browser
def test_200_changes_are_followed_as_torch_follows_them(open_page, notes: Numbers) -> None:
    """Numbers are typed into the fields, and the box of the mask is ticked and unticked."""
    draw = torch.Generator().manual_seed(0)
    fields = [(name, place) for name in GIVEN for place in range(notes[name].numel())]
    given, ahead = {name: notes[name] for name in GIVEN}, False
    edits, expected = [], []
    for field in torch.randint(len(fields), (200,), generator=draw).tolist():
        name, place = fields[field]
        value = round(float(torch.randn((), generator=draw)), 4)
        ahead ^= bool(torch.rand((), generator=draw) < 0.2)
        given[name] = (
            given[name].flatten().index_fill(0, torch.tensor(place), value).view_as(notes[name])
        )
        edits.append([field, str(value), ahead])
        expected.append(followed(**given, ahead=ahead))
    found = open_example(open_page).evaluate(
        f"""edits => {{
          const fields = document.querySelectorAll("#lesson-board input[type=text]");
          const box = document.getElementById("lesson-ahead");
          return edits.map(([field, text, ahead]) => {{
            fields[field].value = text;
            fields[field].dispatchEvent(new Event("input"));
            if (box.checked !== ahead) box.click();
            return {NUMBERS};
          }});
        }}""",
        edits,
    )
    for one, other in zip(found, expected, strict=True):
        assert_equal(as_tensors(one), other)


@in_browser
def test_start_again_brings_the_notes_numbers_back(open_page, notes: Numbers) -> None:
    page = open_example(open_page)
    field(page, "key.weight.T: thing 2, number 4").fill("−2,5")
    page.check("#lesson-ahead")
    assert float(held(page)["key"][1, 3]) == -2.5
    page.click("#lesson-again")
    assert_equal(held(page), notes)
    assert not page.is_checked("#lesson-ahead")
    assert page.locator("#start .changed").count() == 0


ASKS_OR_ASKED = [1, 3, 4, 5, 7]  # the second row and column of (3, 3)
CHANGED_WITH_X_OF_CHILD_2 = {
    "x": [5],
    "q": list(range(6, 12)),
    "k": list(range(6, 12)),
    "v": list(range(6, 12)),
    "products": ASKS_OR_ASKED,
    "scores": ASKS_OR_ASKED,
    "covered": [3, 4, 7],
    "powers": [4, 5, 7, 9, 11],  # the last column: the sums
    "weights": [3, 4, 6, 7, 8],
    "out": list(range(6, 18)),  # the first child sees itself alone
}


@in_browser
def test_what_follows_from_a_change_is_marked_and_nothing_else(open_page) -> None:
    page = open_example(open_page)
    field(page, "x of group 1: child 2, number 1").fill("1")
    places = page.eval_on_selector_all(
        "#lesson-board table",
        """tables => tables.map(table => [...table.querySelectorAll("tbody td")].flatMap(
          (cell, n) => (cell.classList.contains("changed") ? [n] : [])))""",
    )
    for name, cells in zip(TABLES, places, strict=True):
        assert cells == CHANGED_WITH_X_OF_CHILD_2.get(name, []), name


@in_browser
def test_what_is_no_number_changes_nothing(open_page, notes: Numbers) -> None:
    page = open_example(open_page)
    typed = field(page, "x of group 1: child 1, number 1")
    for text in ["", "one", "1e", "99.1", "-1e999", "1 2", "Infinity"]:
        typed.fill(text)
        assert_equal(held(page), notes)
        assert typed.get_attribute("aria-invalid") == "true"
        assert page.text_content("#lesson-problem") == "type a number from −99 to 99"
        typed.blur()
        assert (typed.input_value(), page.text_content("#lesson-problem")) == ("0.18", "")


@in_browser
def test_a_number_that_is_typed_stays_as_it_is_typed_until_it_is_left(open_page) -> None:
    page = open_example(open_page)
    typed = field(page, "x of group 1: child 1, number 1")
    typed.fill("")
    typed.press_sequentially("-1.2345")
    assert typed.input_value() == "-1.2345"
    typed.blur()
    assert typed.input_value() == "−1.23"
    assert float(held(page)["x"][0, 0]) == pytest.approx(-1.2345)


def field(page: Any, label: str) -> Any:
    return page.get_by_label(label, exact=True)


# --- the steps ---------------------------------------------------------------------------------

LIT = [  # what each step makes, and from what
    ({"x"}, set()),
    ({"q"}, {"x", "query"}),
    ({"k"}, {"x", "key"}),
    ({"v"}, {"x", "value"}),
    ({"products", "scores"}, {"q", "k"}),
    ({"covered"}, {"scores"}),
    ({"powers", "weights"}, {"covered"}),
    ({"out"}, {"weights", "v"}),
]


@in_browser
def test_each_step_lights_what_it_makes_and_what_it_makes_it_from(open_page) -> None:
    page, titles = open_example(open_page), [step.title for step in notes_steps(notes_group())]
    for step, (made, sources) in enumerate(LIT):
        assert page.text_content("#lesson-place") == f"{step + 1} of 8"
        assert page.text_content("#lesson-title") == titles[step]
        lit = page.eval_on_selector_all("#lesson-board table", "all => all.map(t => t.dataset.lit)")
        found = dict(zip(TABLES, lit, strict=True))
        assert {name for name in found if found[name] == "made"} == made
        assert {name for name in found if found[name] == "from"} == sources
        page.click("#lesson-next")
        settle(page)
    for _ in range(7):
        page.click("#lesson-back")
        settle(page)
    assert page.is_disabled("#lesson-back")


@in_browser
def test_pointing_at_a_number_of_the_step_tells_what_it_is_made_of(open_page) -> None:
    page = open_example(open_page, "#lesson=7")
    weights = page.locator("#lesson-board table").nth(list(TABLES).index("weights"))
    weights.get_by_text("0.55").hover()
    assert "weight of child 1 for child 2: 1.1524 / 2.0964 = 0.5497" in page.text_content(
        "#lesson-reckoning"
    )
    assert page.locator("#lesson-board .chosen").all_text_contents() == ["1.15", "0.55"]


NUMBER = r"[−-]?\d+\.\d+"


@in_browser
@pytest.mark.parametrize("step", range(2, 9))
def test_every_number_of_a_step_can_be_checked_with_a_calculator(
    open_page, notes: Numbers, step: int
) -> None:
    page = open_example(open_page, f"#lesson={step}")
    lines = page.evaluate(
        """() => [...document.querySelectorAll("#lesson-board td[tabindex]")].map((cell) => {
          cell.focus();
          const chosen = [...document.querySelectorAll("#start .chosen")].map(c => c.textContent);
          return [document.getElementById("lesson-reckoning").textContent.split("\\n"), chosen];
        })"""
    )
    assert len(lines) == sum(notes[name].numel() for name in LIT[step - 1][0])
    for reckonings, chosen in lines:
        assert len(reckonings) == len(chosen)
        for reckoning, cell in zip(reckonings, chosen, strict=True):
            check(reckoning.replace("−", "-"), cell)


def check(reckoning: str, cell: str) -> None:
    """A line such as "q of …: 1.0 × 2.0 + 3.0 × 4.0 = 14.0", and the number of the board."""
    *_, formula, result = ["", *reckoning.partition(": ")[2].split(" = ")]
    if "=" not in reckoning:
        [answer] = re.findall(NUMBER, reckoning)
        assert cell == "−∞" if "is covered" in reckoning else is_rounded(cell, float(answer))
        return
    python = formula.replace("×", "*").replace("e^", "math.e**").replace("∞", "math.inf")
    assert eval(python, {"math": math}) == pytest.approx(float(result), abs=1e-3), reckoning
    assert is_rounded(cell, float(result))


@in_browser
def test_the_step_is_kept_in_the_address_and_so_is_that_it_is_folded_away(open_page) -> None:
    html = export.html(exhibit_of("gpt"))
    page = open_page(html)
    for _ in range(3):
        page.click("#lesson-next")
    again = open_page(html, page.evaluate("location.hash"))
    assert again.text_content("#lesson-place") == "4 of 8"
    fold(again)
    settle(again)
    third = open_page(html, again.evaluate("location.hash"))
    assert not third.is_visible("#lesson-board")
    fold(third)
    settle(third)
    assert third.text_content("#lesson-place") == "1 of 8"
    assert third.is_visible("#lesson-board")


def fold(page: Any) -> None:
    page.focus("#lesson summary")
    page.keyboard.press("Enter")


@in_browser
@pytest.mark.parametrize("step", ["0", "9", "x"])
def test_a_step_that_is_not_there_is_passed_over(open_page, step: str) -> None:
    assert open_example(open_page, f"#lesson={step}").text_content("#lesson-place") == "1 of 8"


@in_browser
def test_it_ends_in_the_readers_model_at_the_same_head_and_character(open_page) -> None:
    page = open_example(open_page, "#lesson=8&head=L2H1&query=5&key=3")
    before = page.evaluate("explorer.app.state")
    assert page.text_content("#lesson-next") == "now the same in your model: L2H1, 'd' at 5"
    page.focus("#lesson-next")
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("explorer.app.state") == before
    assert (
        page.evaluate("document.activeElement.textContent") == "How are query, key and value used?"
    )
    below_the_bar = page.evaluate("document.getElementById('bar').getBoundingClientRect().bottom")
    assert below_the_bar <= page.locator("#steps h2").bounding_box()["y"] < 450
    assert "'d' at 5" in page.text_content("#steps")


@in_browser
def test_a_bigrams_page_ends_where_it_says_why_it_has_no_attention(open_page) -> None:
    page = open_page(export.html(exhibit_of("bigram")), "#lesson=8")
    assert page.text_content("#lesson-next") == "now in your model"
    page.click("#lesson-next")
    assert page.evaluate("document.activeElement.textContent") == "No attention here"


# --- for everyone ------------------------------------------------------------------------------


def focused(page: Any) -> str:
    return page.evaluate(
        "(({ ariaLabel, id, textContent }) => ariaLabel || id || textContent)"
        "(document.activeElement)"
    )


@in_browser
def test_the_keyboard_alone_reaches_everything(open_page) -> None:
    page = open_example(open_page, "#lesson=2")
    page.focus("#lesson summary")
    stops = []
    for _ in range(9):
        page.keyboard.press("Tab")
        stops.append(focused(page))
    assert stops == [
        "x of group 1: child 1, number 1",
        "lesson-again",
        "query.weight.T: thing 1, number 1",
        "−0.48",  # of q: the number that the step shows first
        "key.weight.T: thing 1, number 1",
        "value.weight.T: thing 1, number 1",
        "lesson-ahead",
        "lesson-back",
        "lesson-next",
    ]


@in_browser
@pytest.mark.parametrize(("width", "height"), [(1280, 700), (360, 640)])
def test_what_has_the_focus_is_in_sight(open_page, width: int, height: int) -> None:
    """Neither the bar at the top nor the step at the bottom lies over it."""
    page = open_example(open_page, "#lesson=8", width=width)
    page.set_viewport_size({"width": width, "height": height})
    page.focus("#lesson summary")
    for _ in range(6):
        page.keyboard.press("Tab")
        top, bottom, bar, panel = page.evaluate(
            """() => {
              const box = (element) => element.getBoundingClientRect();
              const { top, bottom } = box(document.activeElement);
              return [top, bottom, box(document.getElementById("bar")).bottom,
                box(document.getElementById("lesson-panel")).top];
            }"""
        )
        assert bar <= top < bottom <= panel, focused(page)


@in_browser
def test_arrows_move_and_page_keys_change(open_page, notes: Numbers) -> None:
    page = open_example(open_page)
    field(page, "query.weight.T: thing 1, number 1").focus()
    for key, place in {
        "ArrowRight": (1, 2),
        "ArrowDown": (2, 2),
        "End": (2, 6),
        "ArrowUp": (1, 6),
        "ArrowLeft": (1, 5),
        "Home": (1, 1),
    }.items():
        page.keyboard.press(key)
        assert focused(page) == f"query.weight.T: thing {place[0]}, number {place[1]}"
    for key, change in {"PageUp": 0.1, "PageDown": 0.0}.items():
        page.keyboard.press(key)
        expected = notes["query"][0, 0] + change
        torch.testing.assert_close(held(page)["query"][0, 0], expected)
        shown_now = field(page, "query.weight.T: thing 1, number 1").input_value()
        assert is_rounded(shown_now, float(expected))


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "dark")])
def test_every_step_can_be_read_by_everyone(open_page, width: int, scheme: str) -> None:
    page = open_example(open_page, width=width, scheme=scheme)
    field(page, "x of group 1: child 1, number 1").fill("-9.25")
    for step in range(1, 9):
        if step in (1, 3, 8):  # ink, key and output
            assert axe_violations(page, "#start") == []
        cut = page.eval_on_selector_all(
            "#lesson-board :is(td, input)",
            "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML)",
        )
        assert cut == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        right = page.eval_on_selector_all(
            "#lesson-board table",
            "all => Math.max(...all.map(t => t.getBoundingClientRect().right))",
        )
        assert right <= width
        page.click("#lesson-next")
        settle(page)
