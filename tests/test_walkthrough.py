"""The walkthrough against the notes' snippet and the trace: what it prints is read back."""

import io
import os
import re
import subprocess
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from attention_models import WITH_HEADS, build, text
from notes import run_snippet
from torch import Tensor

from gpt.attention.trace import trace
from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.errors import Exit, Mistake
from gpt.explorer.tables import Table
from gpt.explorer.walkthrough import Step, model_steps, text_group
from gpt.model import GPT
from gpt.paths import PROJECT
from gpt.storage.find import find_checkpoint
from gpt.training.run import train_new
from scripts import walkthrough

Walk = Callable[..., str]
Rows = dict[str, list[float]]  # by the name of the row
STEP = re.compile(r"^── (\d+) of (\d+) ── (.*?) ─*$", re.MULTILINE)


@pytest.fixture
def walk(capsys: pytest.CaptureFixture[str]) -> Walk:
    """Run the command in this process; what it prints."""

    def run(*argv: str) -> str:
        assert walkthrough.main(["--plain", *argv]) == Exit.DONE
        return capsys.readouterr().out

    return run


@pytest.fixture
def run(toy_config: Config, tmp_path: Path) -> str:
    """A run of the modern variant, of two layers of two heads."""
    modern = {"positions": "rotary", "norm": "rms", "embedding_norm": True, "qk_norm": True}
    keys = {f"model.{key}": value for key, value in modern.items()}
    keys |= {"model.block_size": 32, "run.dir": str(tmp_path / "runs" / "mine")}
    assert train_new(overridden(toy_config, keys), "toy") == 0
    return str(keys["run.dir"])


def steps_in(printed: str) -> dict[str, str]:
    """What is printed below the title of each step."""
    _, *parts = STEP.split(printed)
    return dict(zip(parts[2::4], parts[3::4], strict=True))


def table(printed: str, title: str) -> Rows:
    """The rows below the line that starts with `title`; a name ends where the numbers start."""
    below = re.split(rf"^  {re.escape(title)}.*\n", printed, flags=re.MULTILINE)[1]
    rows = {}
    for line in below.split("\n\n")[0].splitlines()[1:]:
        found = re.fullmatch(r"  (.*?)((?: +(?:-?\d+\.\d+|-inf))+)", line)
        assert found, line
        rows[found[1].strip()] = [float(number) for number in found[2].split()]
    return rows


def as_tensor(rows: Rows) -> Tensor:
    return torch.tensor(list(rows.values()))


# --- the notes' example ------------------------------------------------------------------------


def test_the_steps_come_in_the_notes_order(walk: Walk) -> None:
    assert list(steps_in(walk())) == [
        "The class",
        "Query: what am I looking for?",
        "Key: what do I have?",
        "Value: what can I share?",
        "The comparison",
        "The cover over those behind",
        "The shares",
        "The mixture",
    ]


def test_every_number_is_the_notes_snippets(walk: Walk) -> None:
    notes, steps = run_snippet(), steps_in(walk())
    q, k = notes["q"][0], notes["k"][0]
    scores = q @ k.T * 6**-0.5
    covered = scores.masked_fill(torch.ones(3, 3).triu(1) == 1, -torch.inf)
    expected = {
        ("The class", "x"): notes["x"][0],
        ("Query: what am I looking for?", "query.weight.T"): notes["query"].T,
        ("Query: what am I looking for?", "q  "): q,
        ("Key: what do I have?", "key.weight.T"): notes["key"].T,
        ("Key: what do I have?", "k  "): k,
        ("Value: what can I share?", "value.weight.T"): notes["value"].T,
        ("Value: what can I share?", "v  "): notes["v"][0],
        ("The comparison", "q · k"): q @ k.T,
        ("The comparison", "scores"): scores,
        ("The cover over those behind", "scores, covered"): covered,
        ("The shares", "weights"): notes["wei"][0],
        ("The mixture", "out"): notes["out"][0],
    }
    for (step, title), numbers in expected.items():
        shown = as_tensor(table(steps[step], title))
        torch.testing.assert_close(shown, numbers, atol=5.1e-5, rtol=0, msg=f"{step}, {title}")


def test_the_second_childs_weights(walk: Walk) -> None:
    assert table(walk(), "weights")["child 2"] == [0.5497, 0.4503, 0]


@pytest.mark.parametrize("query", [1, 2, 3])
def test_every_sum_can_be_checked_with_a_calculator(walk: Walk, query: int) -> None:
    steps, asker = steps_in(walk("--query", str(query))), f"child {query}"
    for role, name in [("Query", "q"), ("Key", "k"), ("Value", "v")]:
        (step,) = (steps[title] for title in steps if title.startswith(role))
        sums = table(step, f"{name} of {asker}, number 1")
        check_product(sums[f"x of {asker}"], sums["column 1 of the tool"], sums["product"])
        assert sums["product"][-1] == table(step, f"{name}  ")[asker][0]
    sums = table(steps["The comparison"], f"{asker} asks child")
    check_product(sums["q"], sums["k"], sums["product"])
    powers = table(steps["The shares"], "e^score")[asker]
    weights = table(steps["The shares"], "weights")[asker]
    assert sum(powers[:3]) == pytest.approx(powers[3], abs=2e-4)
    assert [power / powers[3] for power in powers[:3]] == pytest.approx(weights, abs=1e-4)
    *parts, total = table(steps["The mixture"], f"what {asker} learns").values()
    assert as_tensor(dict(enumerate(parts))).sum(0).tolist() == pytest.approx(total, abs=3e-4)
    assert total == table(steps["The mixture"], "out")[asker]


def check_product(a: list[float], b: list[float], products: list[float]) -> None:
    assert [p * q for p, q in zip(a, b, strict=True)] == pytest.approx(products[:-1], abs=2e-4)
    assert sum(products[:-1]) == pytest.approx(products[-1], abs=4e-4)


def test_divisions_are_written_out(walk: Walk) -> None:
    printed = walk()
    assert "score of child 2 for child 3: 0.0452 / √6 = 0.0452 / 2.4495 = 0.0184" in printed
    assert "weight of child 2 for child 3: 1.0186 / 2.8919 = 0.3522" in printed


# --- a trained model ---------------------------------------------------------------------------


def tables(steps: Iterator[Step], title: str) -> list[Table]:
    parts = [part for step in steps for part in step.parts if isinstance(part, Table)]
    return [part for part in parts if part.title.startswith(title)]


@pytest.mark.parametrize("kind", WITH_HEADS.values(), ids=WITH_HEADS.keys())
def test_weights_and_mixture_are_the_traces(kind: dict) -> None:
    model, ids = build(kind), text(6)
    layers, config = trace(model, ids).layers, model.config
    for layer in range(config.n_layer):
        for head in range(config.n_head):
            steps = list(model_steps(model, ids, text_group("abcdef"), layer, head))
            for title, expected in [
                ("weights", layers[layer].weights),
                ("out", layers[layer].mixed[..., :6]),
                ("scores = ", layers[layer].scores),
            ]:
                (shown,) = tables(iter(steps), title)
                numbers = torch.tensor([cells for _, cells in shown.rows])
                torch.testing.assert_close(numbers, expected[head], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", WITH_HEADS.values(), ids=WITH_HEADS.keys())
def test_a_model_has_the_steps_of_its_parts(kind: dict) -> None:
    model = build(kind)
    steps = list(model_steps(model, text(6), text_group("abcdef"), 0, 0))
    titles, config = [step.title for step in steps], model.config
    code = [line["text"] for line in steps[0].code]
    assert any("self.token_shift *" in line for line in code) == config.token_shift
    assert ("character before" in steps[0].sentence) == config.token_shift
    assert ("One scale for all" in titles) == (config.norm != "none")
    assert ("The position" in titles) == (config.positions == "rotary")
    assert ("One length for all" in titles) == config.qk_norm


def test_a_head_has_its_rows_of_the_matrices(walk: Walk, run: str) -> None:
    printed = walk("--run", run, "--text", "But", "--head", "L1H2")
    for role in ("query", "key", "value"):
        assert f"This head's tool: rows 9 to 16 of {role}.weight." in printed


@pytest.mark.parametrize("query", [3, 17, 25])
def test_a_longer_text_is_shown_in_part_and_summed_whole(walk: Walk, run: str, query: int) -> None:
    words = "But soft, what light thro"
    steps = steps_in(walk("--run", run, "--text", words, "--head", "L2H1", "--query", str(query)))
    checkpoint = find_checkpoint(run, print)
    model, ids = checkpoint.make_model(), checkpoint.tokenizer.encode(words)
    seen, t = trace(model, ids).layers[1], query - 1
    first, last = max(0, query - 12), max(query, 12)
    shown = slice(first, last)
    rounded = table(steps["The shares"], "weights")
    asker = list(rounded)[t - first]
    assert asker.startswith(f"{query} ")
    weights = seen.weights[0, shown, shown]
    torch.testing.assert_close(as_tensor(rounded), weights, atol=5.1e-4, rtol=0)
    row = table(steps["The shares"], f"{asker} asks")
    powers = seen.scores[0, t, :query].exp()
    assert row["sum"] == pytest.approx([float(powers.sum()), 1], abs=1e-4)
    if first:
        assert row[f"the {first} before"][1] == pytest.approx(
            float(seen.weights[0, t, :first].sum()), abs=1e-4
        )
    mixed = table(steps["The mixture"], f"what {asker} learns")
    assert mixed["sum"] == pytest.approx(seen.mixed[0, t, :6].tolist(), abs=1e-4)
    *parts, total = mixed.values()
    assert as_tensor(dict(enumerate(parts))).sum(0).tolist() == pytest.approx(total, abs=1e-3)
    products = table(steps["The comparison"], f"{asker} asks")["product"]
    assert sum(products[:-1]) == pytest.approx(products[-1], abs=4e-4)


def test_the_last_character_asks_by_default(walk: Walk, run: str) -> None:
    printed = walk("--run", run, "--text", "But soft\n", "--head", "l2h2")
    assert printed.startswith(f"Head L2H2 of {run}, step 6.\n")
    assert "\nCharacter 9 ↵ asks.\n" in printed


def test_scores_beyond_measure_keep_the_table_narrow() -> None:
    shown = Table("e^score", ["score", "e^score"], [("1 a", [99.5, 1.6e43]), ("2 b", [-1.25, 0.2])])
    lines = list(walkthrough._table_lines(shown, lambda text, *_: text))
    assert lines[2:] == ["  1 a    99.5000 1.6000e+43", "  2 b    -1.2500     0.2000"]


def test_wide_characters_keep_their_columns() -> None:
    assert [walkthrough._columns(text) for text in ("1 a", "1 語", "e\u0301")] == [3, 4, 1]


# --- what is quoted ----------------------------------------------------------------------------


def test_quoted_lines_stand_in_model_py(walk: Walk, run: str) -> None:
    source = (PROJECT / "gpt" / "model.py").read_text("utf-8").splitlines()
    printed = walk() + walk("--run", run, "--text", "But")
    quotes = re.findall(r"^gpt/model\.py:(\d+)  (.*(?:\n {10,}.*)*)", printed, re.MULTILINE)
    assert len(quotes) == 8 + 5 + 15
    for number, quote in quotes:
        line = source[int(number) - 1].split("  # ")[0].strip()
        assert " ".join(quote.split()).startswith(line), f"{number}: {quote}"


def test_the_tools_are_quoted_where_they_are_made(walk: Walk) -> None:
    steps = steps_in(walk())
    for role in ("query", "key", "value"):
        (step,) = (text for title, text in steps.items() if title.startswith(role.capitalize()))
        assert re.search(rf"gpt/model\.py:\d+  self\.{role} = nn\.Linear", step)


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "what", "fix"),
    [
        (["--head", "L3H1"], "no L3H1", "L1H1 to L2H2"),
        (["--head", "L1H0"], "no L1H0", "L1H1 to L2H2"),
        (["--head", "3"], "'3' is no head; L2H1 is layer 2, head 1", "--help"),
        (["--text", "Ж"], "does not know 'Ж'", "use the characters that it learned"),
        (["--text", ""], "empty", "at least one"),
        (["--text", "But", "--query", "4"], "the text has 3 characters", "1 to 3"),
    ],
)
def test_mistakes_name_the_fix(run: str, argv: list[str], what: str, fix: str) -> None:
    with pytest.raises(Mistake) as caught:
        walkthrough.main(["--run", run, *argv])
    assert caught.value.exit_code == Exit.USAGE
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_model_without_heads_is_refused() -> None:
    bigram = GPT(Config().model.model_copy(update={"n_layer": 0}), 3)
    with pytest.raises(Mistake, match="the model has 0 layers"):
        walkthrough._require_head(bigram, 0, 0)


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Mistake) as caught:
        walkthrough.main(["--run", str(tmp_path / "none")])
    assert caught.value.exit_code == Exit.CHECKPOINT


def test_keys_need_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(Mistake, match="stdin is no terminal"):
            walkthrough.main(["--step"])


def test_help_needs_no_torch() -> None:
    code = (
        "import runpy, sys; sys.argv = ['walkthrough.py', '--help']\n"
        f"try: runpy.run_path({walkthrough.__file__!r}, run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# --- the terminal ------------------------------------------------------------------------------

PROMPT = "Enter: next step, q: end"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal on stdin; the end of it where keys are typed, here before they are asked for."""
    keyboard, stdin = os.openpty()
    tty.setcbreak(stdin)  # or Ctrl-D would be gone by then
    with os.fdopen(keyboard, "wb", 0), os.fdopen(stdin) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield keyboard


@pytest.mark.parametrize(
    ("keys", "steps"), [(b"q", 1), (b" q", 2), (b"\n \x04", 3), (b"xyz\x1b[Bq", 1), (b" " * 7, 8)]
)
def test_each_key_shows_one_step(walk: Walk, terminal: int, keys: bytes, steps: int) -> None:
    before = termios.tcgetattr(terminal)
    os.write(terminal, keys)
    printed = walk("--step")
    assert len(STEP.findall(printed.replace("\r", "\n"))) == steps
    assert printed.count(PROMPT) == min(steps, 7)  # behind the last step there is no more
    assert termios.tcgetattr(terminal) == before


def test_without_termios_each_line_shows_one_step(
    walk: Walk, terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["", "", "q"])
    monkeypatch.setitem(sys.modules, "termios", None)
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert len(STEP.findall(walk("--step"))) == 3


@pytest.mark.slow
def test_a_step_waits_and_ctrl_c_ends_with_130() -> None:
    keyboard, screen = os.openpty()
    own_terminal = (  # its own session, whose terminal turns Ctrl-C into a signal
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", own_terminal, walkthrough.__file__, "--step", "--plain"]
    with subprocess.Popen(command, stdin=screen, stdout=screen, stderr=screen) as process:
        before = termios.tcgetattr(screen)
        with os.fdopen(keyboard, "r+b", 0) as terminal, closing(os.fdopen(screen)):
            assert "── 2 of 8" not in until(terminal, PROMPT)
            terminal.write(b" ")
            second = until(terminal, PROMPT)
            assert "── 2 of 8" in second
            assert "── 3 of 8" not in second
            terminal.write(b"\x03")
            until(terminal, "stopped")
            assert process.wait(60) == Exit.SIGINT
            assert termios.tcgetattr(screen) == before


def until(terminal: io.FileIO, end: str) -> str:
    """What the terminal shows until `end`."""
    shown = b""
    while end.encode() not in shown:
        shown += terminal.read(1 << 16)
    return shown.decode()


def test_a_pipe_gets_no_escape_sequences(walk: Walk, run: str) -> None:
    for printed in (walk(), walk("--run", run, "--text", "But soft, what")):
        assert "\x1b" not in printed
        lines = printed.splitlines()
        assert max(walkthrough._columns(line) for line in lines if run not in line) <= 80
        assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize(
    ("argv", "variables", "coloured"),
    [
        ([], {"TERM": "xterm"}, True),
        ([], {"TERM": "dumb"}, False),
        ([], {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (["--plain"], {"TERM": "xterm"}, False),
    ],
)
def test_colours_where_a_terminal_wants_them(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    walk: Walk,
    argv: list[str],
    variables: dict[str, str],
    coloured: bool,
) -> None:
    plain = walk()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert walkthrough.main(argv) == Exit.DONE
    printed = capsys.readouterr().out
    assert ("\x1b[38;5;32mq  (T, D) = (3, 6)\x1b[0m" in printed) == coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", printed) == plain


@pytest.mark.slow
def test_a_reader_that_has_enough() -> None:
    done = subprocess.run(
        f"{sys.executable} {walkthrough.__file__} | head -1",
        shell=True, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
