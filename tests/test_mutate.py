"""Which careless changes scripts/mutate.py makes, which tests it asks, and what it reports."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpt.paths import PROJECT
from scripts import mutate
from scripts.mutate import CORE, mutants_of, sampled, suites_of


def mutants(source: str) -> set[str]:
    """The new source of every change of `source`, each node with its change."""
    return {f"{ast.unparse(old)} -> {new}" for old, new in mutate.changes(ast.parse(source))}


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("a < b", "a < b -> (a <= b)"),
        ("a == b", "a == b -> (a != b)"),
        ("a and b", "a and b -> (a or b)"),
        ("a and b", "a and b -> (a)"),
        ("a - b", "a - b -> (a + b)"),
        ("a - b", "a - b -> (b - a)"),
        ("a // b", "a // b -> (-(-(a) // (b)))"),
        ("x[1:n]", "n -> (n) + 1"),
        ("x[1:n]", "n -> "),
        ("f(8)", "8 -> (9)"),
        ("f(True)", "True -> (False)"),
        ("f(a, b)", "f(a, b) -> f(b, a)"),
        ("f(a, eps=e)", "f(a, eps=e) -> f(a)"),
        ("min(a, b)", "min -> (max)"),
        ("a if b else c", "a if b else c -> (a if not b else c)"),
        ("def f(n=3): pass", "3 -> (2)"),
        ("x = x + 1", "x = x + 1 -> pass"),
        ("x += 1", "x += 1 -> x -= 1"),
        ("self.x = 1", "self.x = 1 -> pass"),
        ("f()", "f() -> pass"),
        ("if bad:\n    raise E", "if bad:\n    raise E -> pass"),
        ("with quiet(): f()", "quiet() -> __import__('contextlib').nullcontext()"),
        ("@no_grad()\ndef f(): pass", "no_grad() -> (lambda function: function)"),
        ("def f() -> int | None: return x", "return x -> return None"),
    ],
)
def test_it_makes_the_mistakes_of_a_person(source: str, change: str) -> None:
    assert change in mutants(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring with 3 numbers."""',
        "def f(x: Annotated[int, 3]) -> Literal[1]: ...",
        "raise Mistake(Exit.USAGE, f'{n + 1} is too many', fix)",
        "what = f'{n + 1}' if n > 1 else 'one'",
        "say(f'step {n + 1}', 3)",
        "Ids = Array | Tensor",
        "if __name__ == '__main__':\n    main(3)",
    ],
)
def test_messages_and_annotations_stay(source: str) -> None:
    assert mutants(source) == set()


def test_a_mutant_is_the_module_with_one_change() -> None:
    source = (PROJECT / "gpt/kernels.py").read_text("utf-8")
    known = mutants_of("gpt/kernels.py")
    assert len({mutant.name for mutant in known}) == len(known) > 20
    for mutant in known:
        ast.parse(mutant.source)
        assert mutant.source.decode() != source
    comment = "# the part along x changes only its length"
    assert all(comment in mutant.source.decode() for mutant in known)


def test_the_seed_decides_the_sample() -> None:
    paths = ["gpt/kernels.py", "gpt/evaluate.py"]
    first, again, other = (sampled(paths, 12, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 12
    assert {mutant.path for mutant in first} == set(paths)


@pytest.mark.parametrize("name", CORE)
def test_every_module_of_the_core_has_a_suite(name: str) -> None:
    own, others = suites_of(f"gpt/{name}.py")
    assert own + others
    assert not set(own) & set(others)


@pytest.mark.slow
def test_a_mutant_that_no_test_notices_is_reported(tmp_path: Path) -> None:
    """On a project of one module: its bound is tested at 4 and 9, and should be at 5."""
    project = tmp_path / "project"
    for name, content in {
        "gpt/__init__.py": "",
        "gpt/small.py": "def is_small(n: int) -> bool:\n    return n < 5\n",
        "tests/test_small.py": "from gpt.small import is_small\n\n\n"
        "def test_bound():\n    assert is_small(4) and not is_small(9)\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    code = (
        "import sys; from pathlib import Path; from scripts import mutate\n"
        f"mutate.PROJECT, mutate.CORE, mutate.LOADED_ONCE = Path({str(project)!r}), ['small'], ()\n"
        "mutate.main(sys.argv[1:])"
    )
    rows = tmp_path / "rows.jsonl"
    command = [sys.executable, "-c", code, str(rows), "--jobs", "1"]
    out = subprocess.check_output(command, cwd=PROJECT, text=True)
    found = {
        row["mutant"]: row["caught_by"] for row in map(json.loads, rows.read_text().splitlines())
    }
    assert found == {
        "gpt/small.py:2:11 `n < 5` -> `(n <= 5)`": None,
        "gpt/small.py:2:15 `5` -> `(6)`": None,
        "gpt/small.py:2:15 `5` -> `(4)`": "tests/test_small.py::test_bound",
    }
    assert "| all | 3 | 1 (33.3%) |" in out
    assert (project / "gpt/small.py").read_text().endswith("return n < 5\n")
    assert "tests/test_small.py" not in subprocess.check_output(command, cwd=PROJECT, text=True)
