"""What the README and the documents behind it say is so. test_readme_commands.py runs them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from documents import blocks, prose, rows
from notes import run_snippet

from gpt import attention, paths
from gpt.command.config_file import load_config, overridden
from gpt.config import Config
from gpt.errors import Exit
from gpt.model import GPT
from gpt.paths import PROJECT
from gpt.training.run import train_new
from scripts.ladder import RUNGS

README = (PROJECT / "README.md").read_text("utf-8")
DOCS = sorted((PROJECT / "docs").glob("*.md"))
DOCUMENTS = [
    *(PROJECT / "README.md", PROJECT / "SECURITY.md", PROJECT / "CHANGELOG.md", *DOCS),
    *(PROJECT / folder / "README.md" for folder in ("gpt", "data", "scripts/bench")),
    *sorted((PROJECT / "configs").glob("*.md")),
    PROJECT / "tests" / "MUTANTS.md",
]


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


# --- the cover ---------------------------------------------------------------------------------


def test_the_readme_is_a_cover() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_each_number_of_the_readme_has_its_log() -> None:
    """`configs/LOG.md` has a row for it, with the command and the commit that gave it; the ladder's
    are in its configs."""
    number = r"\d+(?:\.\d+)* %|\d+(?:\.\d+)+"
    without_ladder = re.sub(r"^\| `\d-.*", "", prose(README), flags=re.MULTILINE)
    log = (PROJECT / "configs" / "LOG.md").read_text("utf-8")
    logged = " ".join(cells[0] for cells in rows(log, "in the README"))
    versions = {"3.11", "2.13.0"}  # of Python and of PyTorch
    unknown = set(re.findall(number, without_ladder)) - set(re.findall(number, logged)) - versions
    assert not unknown, f"configs/LOG.md has no row for {sorted(unknown)}"


def test_the_lines_of_the_model_that_the_readme_shows() -> None:
    (shown,) = blocks(README, "python")
    source = (PROJECT / "gpt" / "model.py").read_text("utf-8")
    body = source.partition("def attend(")[2].partition("\nclass ")[0]
    found = [body.index(f"    {line}\n") for line in shown.splitlines()]
    assert found == sorted(found)


def test_the_second_childs_weights_are_the_notes() -> None:
    first, itself, third = run_snippet()["wei"][0, 1].tolist()
    assert f"gives {first:.4f} of its attention to the first, {itself:.4f} to itself" in README
    assert third == 0


def test_the_ladders_table_has_the_rungs_and_their_logged_losses() -> None:
    losses: dict[str, float] = {}
    table = {cells[0].strip("`"): cells[1:] for cells in rows(README, "rung")}
    assert list(table) == list(RUNGS)
    for rung, (parameters, loss, bought, lecture, adds) in table.items():
        known, path = RUNGS[rung], paths.CONFIGS / "ladder" / f"{rung}.yaml"
        assert re.sub(r"\[(.*?)\]\(.*?\)", r"\1", adds) == known.adds
        assert lecture == f"{known.lecture or ''}"
        if not parameters:
            assert loss == "not here"
            continue
        model = GPT(load_config(path).model, vocab_size=65)  # tinyshakespeare's
        assert parameters == f"{sum(p.numel() for p in model.parameters()):,}"
        (logged,) = re.findall(r"validation loss (\d\.\d+)", path.read_text("utf-8"))
        losses[rung] = float(logged)
        assert float(loss) == pytest.approx(losses[rung], abs=6e-4)
        if known.before:
            step = losses[rung] - losses[known.before]
            assert float(bought) == pytest.approx(step, abs=6e-4)


# --- the documents -----------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The headings of a document, as their site names them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text("utf-8"))):
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


@pytest.mark.parametrize("path", DOCS, ids=named)
def test_the_readme_leads_to_each_document(path: Path) -> None:
    assert f"]({named(path)}" in README


def test_the_exit_codes_are_those_of_the_commands() -> None:
    text = (PROJECT / "docs" / "reference.md").read_text("utf-8")
    codes = [cell for row in rows(text, "code") for cell in row[::2]]
    assert sorted(int(code) for cell in codes for code in cell.split(",")) == sorted(Exit)


def test_every_guarantee_names_tests_that_are_there() -> None:
    table = rows((PROJECT / "SECURITY.md").read_text("utf-8"), "#")
    assert [row[0] for row in table] == [f"G{n}" for n in range(1, 13)]
    for number, _, conditions, cell in table:
        tests = re.findall(r"`(test_\w+\.py)`((?:: (?:`test_\w+`(?:, )?)+)?)", cell)
        assert tests or conditions == "not implemented yet", number
        for suite, names in tests:
            source = (PROJECT / "tests" / suite).read_text("utf-8")
            for name in re.findall(r"`(\w+)`", names):
                assert f"def {name}(" in source, f"{number}: {suite} has no {name}"


def test_every_suite_that_security_names_is_there() -> None:
    text = (PROJECT / "SECURITY.md").read_text("utf-8")
    for suite in re.findall(r"`tests/(test_\w+\.py)`", text):
        assert (PROJECT / "tests" / suite).is_file(), suite


# --- the notebook ------------------------------------------------------------------------------


def test_the_notebook_section(toy_config: Config, tmp_path: Path) -> None:
    keys = {"model.n_layer": 3, "model.block_size": 40, "run.dir": str(tmp_path / "runs" / "mine")}
    assert train_new(overridden(toy_config, keys), "toy") == 0
    text = (PROJECT / "docs" / "attention.md").read_text("utf-8")
    (code,) = blocks(text, "python")
    shown: dict[str, Any] = {}
    exec(code, shown)
    model, ids = shown["model"], torch.from_numpy(shown["ids"]).long()[None]
    scores = scores_by_hand(model, ids)
    assert float(scores[36, 35]) == pytest.approx(shown["parts"].score, abs=1e-5)
    names, of_query, of_key = zip(*shown["sums"], strict=True)
    assert names[:4] == ("character", "position", "L1H1", "L1H2")
    for side in (of_query, of_key):
        assert float(sum(side)) == pytest.approx(shown["parts"].score, abs=1e-5)
    future = torch.full_like(scores, -torch.inf).triu(1)
    torch.testing.assert_close(shown["weights"], (scores + future).softmax(-1))
    assert shown["rule"].shape == (model.vocab_size, model.vocab_size)
    assert shown["costs"].shape == (3, 2)


def test_the_notebook_api_documents_what_it_offers_and_needs_no_matplotlib() -> None:
    for name in attention.__all__:
        assert re.search(rf"^    {name}\(", attention.__doc__ or "", re.MULTILINE), name
        assert getattr(attention, name).__doc__
    code = "import sys, gpt.attention; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


@torch.no_grad()
def scores_by_hand(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    """Scores (T, T) of L3H1, from the model's parts."""
    *_, x, _ = model.walk(model.embed(ids))  # what the third block reads
    x, head = model.blocks[2].attention_norm(x)[0], slice(0, 8)
    attention = model.blocks[2].attention
    return (x @ attention.query.weight[head].T) @ (x @ attention.key.weight[head].T).T / 8**0.5
