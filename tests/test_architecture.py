"""Who may import whom, and what no module does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gpt.config import PROJECT

GPT = PROJECT / "gpt"
MODULES = {path.stem: ast.parse(path.read_text("utf-8")) for path in sorted(GPT.glob("*.py"))}
ALL = {
    str(path.relative_to(PROJECT)): ast.parse(path.read_text("utf-8"))
    for path in [*GPT.rglob("*.py"), *(PROJECT / "scripts").rglob("*.py"), *PROJECT.glob("*.py")]
}

TIERS = [  # each may import from those above it, and from its own
    {"errors", "config", "tokenizer", "plays"},
    {"storage", "cli"},
    {"kernels"},
    {"corpus", "model", "optim"},
    {"decode"},
    {"device", "evaluate", "generate", "checkpoint"},
    {"attention", "monitor", "board"},
    {"trainer", "writer", "explorer"},
    {"run"},
]
TIER = {name: number for number, names in enumerate(TIERS) for name in names}
LONGEST = 45  # lines of a function


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of all modules imported in `tree`, also inside of functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "say from where: no relative imports"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if base == "gpt" else base for alias in node.names}
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_upwards(name: str) -> None:
    if name == "__init__":
        assert not imports(MODULES[name])
        return
    assert name in TIER, f"gpt/{name}.py has no place in TIERS yet"
    for other in imports(MODULES[name]):
        if other.startswith("gpt."):
            part = other.split(".")[1]
            assert TIER[part] <= TIER[name], f"gpt/{name}.py must not import gpt.{part}"


def test_packages_import_upwards() -> None:
    for package in ("attention", "explorer"):
        for path in (GPT / package).rglob("*.py"):
            for other in imports(ast.parse(path.read_text("utf-8"))):
                if other.startswith("gpt."):
                    part = other.split(".")[1]
                    assert TIER[part] <= TIER[package], f"{path} must not import gpt.{part}"


def test_no_circles() -> None:
    """Within a tier too: the modules can be read one after the other."""
    needs = {
        name: {other.split(".")[1] for other in imports(tree) if other.startswith("gpt.")}
        for name, tree in MODULES.items()
    }
    while needs:
        free = [name for name, others in needs.items() if not others & needs.keys()]
        assert free, f"these import each other: {sorted(needs)}"
        for name in free:
            del needs[name]


def test_the_model_knows_torch_and_its_config_alone() -> None:
    known = {
        "math",
        "collections.abc",
        "torch",
        "torch.nn",
        "torch.nn.functional",
        "gpt.config",
        "gpt.kernels",
    }
    assert imports(MODULES["model"]) <= known


@pytest.mark.parametrize("name", ["errors", "config", "cli", "tokenizer", "corpus", "storage"])
def test_no_torch_before_it_is_needed(name: str) -> None:
    assert not any(other.startswith("torch") for other in imports(MODULES[name]))


def test_the_library_imports_no_command() -> None:
    commands = {path.stem for path in PROJECT.glob("*.py")} | {"scripts", "tests"}
    for path, tree in ALL.items():
        if path.startswith("gpt/"):
            assert not {other.split(".")[0] for other in imports(tree)} & commands, path


@pytest.mark.parametrize("path", ALL)
def test_no_code_is_read_from_files(path: str) -> None:
    """No pickle, no torch.load, no eval or exec: loading a file never runs it."""
    tree = ALL[path]
    banned = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    assert not {other.split(".")[0] for other in imports(tree)} & banned
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__", "torch.load"}, called
            assert called not in {"torch.save", "np.load", "yaml.load", "os.system"}, called
            shell = [word for word in node.keywords if word.arg in ("shell", "allow_pickle")]
            assert not shell, called


@pytest.mark.parametrize("path", [path for path in ALL if not path.startswith("scripts/")])
def test_functions_fit_on_a_screen(path: str) -> None:
    for node in ast.walk(ALL[path]):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST, f"{path}: {node.name} has {length} lines"


def test_the_model_can_be_read_in_one_sitting() -> None:
    assert len((GPT / "model.py").read_text("utf-8").splitlines()) <= 280


def test_every_module_says_what_it_is() -> None:
    for name, tree in MODULES.items():
        assert name == "__init__" or ast.get_docstring(tree), f"gpt/{name}.py"


def test_importing_does_no_work(tmp_path: Path) -> None:
    """Every module is imported in an empty place: nothing is printed, written or warned of."""
    names = [f"gpt.{name}" for name in MODULES if name != "__init__"]
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        + "".join(f"import {name}\n" for name in ["gpt", *names, "train", "sample"])
        + "import torch, threading\n"
        "assert torch.initial_seed() == torch.default_generator.initial_seed()\n"
        "assert not torch.is_inference_mode_enabled() and threading.active_count() == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
