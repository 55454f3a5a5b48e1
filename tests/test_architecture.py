"""Who may import whom, what no module does, and what nobody uses."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from documents import blocks

from gpt.paths import PROJECT

GPT, SCRIPTS, README = PROJECT / "gpt", PROJECT / "scripts", PROJECT / "README.md"
NOTEBOOK = PROJECT / "docs" / "attention.md"
COMMANDS = ("train.py", "sample.py")
ROOMS = [  # of gpt/, each a module or a package; each may import from those above it
    *("errors", "paths", "config", "files", "kernels", "model", "optim", "device"),
    *("threads", "memory", "command", "processes", "process_group", "data", "evaluate"),
    *("storage", "generation"),
    *("attention", "judge", "training", "explorer"),
]
WITHOUT_TORCH = [
    *("errors", "paths", "config", "files", "command", "data"),
    *("storage.manifest", "storage.run_directory", "explorer.plugin"),
]
LONGEST_FUNCTION, LONGEST_FILE = 45, 300  # lines


def parsed(paths: Iterator[Path]) -> dict[str, ast.Module]:
    """Path in the project -> syntax tree."""
    return {str(p.relative_to(PROJECT)): ast.parse(p.read_text("utf-8")) for p in sorted(paths)}


def dotted(path: str) -> str:
    """gpt/data/corpus.py -> gpt.data.corpus; a package's __init__ is the package."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


LIBRARY = parsed(GPT.rglob("*.py"))
MODULES = {dotted(path): tree for path, tree in LIBRARY.items()}
PRODUCT = LIBRARY | parsed(SCRIPTS.rglob("*.py")) | parsed(PROJECT / name for name in COMMANDS)


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of all that is imported in `tree`, also inside of functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "say from where: no relative imports"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def needs(tree: ast.Module) -> set[str]:
    """The modules of gpt that `tree` imports, or imports a name from."""
    found = set()
    for name in imports(tree):
        while name not in MODULES and "." in name:
            name = name.rpartition(".")[0]
        if name in MODULES and name != "gpt":
            found.add(name)
    return found


def room(module: str) -> str:
    return module.split(".")[1]


# --- who imports whom ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", [name for name in MODULES if name != "gpt"])
def test_rooms_import_from_those_before_them(module: str) -> None:
    assert room(module) in ROOMS, f"{module} has no place in ROOMS"
    for other in needs(MODULES[module]):
        assert ROOMS.index(room(other)) <= ROOMS.index(room(module)), f"{module} imports {other}"


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter({name: needs(tree) - {name} for name, tree in MODULES.items()}).prepare()
    except CycleError as problem:
        pytest.fail(f"these import each other: {' -> '.join(problem.args[1])}")


def test_the_model_knows_torch_and_its_config_alone() -> None:
    known = {"math", "collections", "torch", "gpt.config", "gpt.kernels"}
    for name in imports(MODULES["gpt.model"]):
        assert name.split(".")[0] in known or ".".join(name.split(".")[:2]) in known, name


def is_without_torch(module: str) -> bool:
    return any(f"{module}.".startswith(f"gpt.{name}.") for name in WITHOUT_TORCH)


@pytest.mark.parametrize("module", [name for name in MODULES if is_without_torch(name)])
def test_no_torch_where_it_is_not_needed(module: str) -> None:
    """Neither at the top of the module nor at that of any module that it imports there."""
    seen, left = set(), {module}
    while left:
        seen.add(module := left.pop())
        body = MODULES[module].body
        top = ast.Module([n for n in body if isinstance(n, ast.Import | ast.ImportFrom)], [])
        assert not any(other.split(".")[0] == "torch" for other in imports(top)), module
        left |= needs(top) - seen


def test_the_library_imports_no_command() -> None:
    commands = {Path(name).stem for name in COMMANDS} | {"scripts", "tests"}
    commands |= {path.stem for path in SCRIPTS.iterdir()}
    for path, tree in LIBRARY.items():
        assert not {name.split(".")[0] for name in imports(tree)} & commands, path


def job_of(path: Path) -> Path:
    """A script is a file of scripts/, or a folder with everything in it."""
    return SCRIPTS / path.relative_to(SCRIPTS).parts[0]


@pytest.mark.parametrize("path", [path for path in PRODUCT if path.startswith("scripts/")])
def test_scripts_do_not_import_each_other(path: str) -> None:
    jobs = {p.stem: job_of(p) for p in SCRIPTS.rglob("*.py")}
    commands = {Path(name).stem for name in COMMANDS}
    for name in {name.split(".")[0] for name in imports(PRODUCT[path])}:
        assert name not in commands, f"{path} imports {name}.py"
        assert jobs.get(name, job_of(PROJECT / path)) == job_of(PROJECT / path), f"{path}: {name}"


def test_every_package_that_is_imported_is_declared() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[<>=]", line)[0] for line in declared["dependencies"]}
    modules = {"pyyaml": "yaml", "pillow": "PIL"}
    known = {modules.get(name, name) for name in names} | {"gpt"} | set(sys.stdlib_module_names)
    for path, tree in PRODUCT.items():
        if path.startswith("scripts/bench/"):  # its peers are no dependencies
            continue
        beside = {other.stem for other in (PROJECT / path).parent.glob("*.py")}
        unknown = {name.split(".")[0] for name in imports(tree)} - known - beside
        assert not unknown, f"{path} imports {sorted(unknown)}: add it to pyproject.toml"


# --- what no module does -----------------------------------------------------------------------


@pytest.mark.parametrize("path", PRODUCT)
def test_no_code_is_read_from_files(path: str) -> None:
    """No pickle, no torch.load, no eval or exec: loading a file never runs it."""
    tree = PRODUCT[path]
    banned = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    assert not {other.split(".")[0] for other in imports(tree)} & banned
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__", "torch.load"}, called
            assert called not in {"torch.save", "np.load", "yaml.load", "os.system"}, called
            shell = [word for word in node.keywords if word.arg in ("shell", "allow_pickle")]
            assert not shell, called


BEFORE_ENCODING = {"read_text": 0, "write_text": 1}  # arguments of pathlib's methods


def depends_on_the_locale(call: ast.Call) -> bool:
    """Whether it opens text, of a file or a process, without naming an encoding."""
    *owner, name = ast.unparse(call.func).rsplit(".", 1)
    given = {word.arg for word in call.keywords}
    if "encoding" in given:
        return False
    if name in ("open", "fdopen"):
        is_binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in call.args)
        return not is_binary and (owner, name) != (["os"], "open")
    if name in BEFORE_ENCODING:
        return bool(owner) and len(call.args) <= BEFORE_ENCODING[name]
    return owner == ["subprocess"] and bool(given & {"text", "universal_newlines"})


@pytest.mark.parametrize("path", PRODUCT)
def test_text_is_utf_8_whatever_the_locale(path: str) -> None:
    calls = (node for node in ast.walk(PRODUCT[path]) if isinstance(node, ast.Call))
    assert [ast.unparse(call) for call in calls if depends_on_the_locale(call)] == []


@pytest.mark.parametrize("path", [path for path in PRODUCT if not path.startswith("scripts/")])
def test_functions_and_files_fit_a_reader(path: str) -> None:
    assert len((PROJECT / path).read_text("utf-8").splitlines()) <= LONGEST_FILE
    for node in ast.walk(PRODUCT[path]):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path}: {node.name} has {length} lines"


FOR_SPEED = {"gpt/kernels.py", "gpt/generation/decoder.py"}  # the README says: for speed alone


def test_what_the_readme_says_to_read_is_short() -> None:
    section = README.read_text("utf-8").partition("## Read it")[2]
    paths = set(re.findall(r"`(gpt/[\w/]+\.py)`", section.partition("\n## ")[0])) - FOR_SPEED
    assert len(paths) == 9
    lines = sum(len((PROJECT / path).read_text("utf-8").splitlines()) for path in paths)
    assert lines <= 1600, f"{lines} lines in {', '.join(paths)}"


def test_the_map_names_every_module() -> None:
    known = (GPT / "README.md").read_text("utf-8")
    assert len(known.splitlines()) <= 66
    for path, tree in LIBRARY.items():
        if not path.endswith("__init__.py"):
            assert ast.get_docstring(tree), f"{path} does not say what it is"
            assert f"`{Path(path).name}`" in known, f"gpt/README.md does not name {path}"


def test_importing_does_no_work(tmp_path: Path) -> None:
    """Every module is imported in an empty place: nothing is printed, written or warned of."""
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        + "".join(f"import {name}\n" for name in [*MODULES, "train", "sample"])
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


# --- what nobody uses --------------------------------------------------------------------------

UNREFERENCED = {  # public, used by nothing in the product, and here for a reason
    "Head": "the lecture's form, to be read; a test holds MultiHeadAttention equal to it",
    "forward": "torch calls it",
    "backward": "torch calls it",
    "get_logdir": "torch's SummaryWriter calls it",
    "error": "argparse calls it",
    "format_dict": "tqdm calls it",
    "AttentionPlugin": "TensorBoard makes it, by the entry point in pyproject.toml",
    "get_plugin_apps": "TensorBoard calls it",
    "is_active": "TensorBoard calls it",
    "frontend_metadata": "TensorBoard calls it",
    "fits": "pydantic calls it",
}


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods, with their nodes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield part.name, part


def references(tree: ast.AST) -> Iterator[str]:
    """Every name that is read in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_nothing_public_is_used_by_tests_alone() -> None:
    """A name counts as used where the product reads it outside of its own definition, or where
    gpt.attention and docs/attention.md offer it to notebooks."""
    used = [name for tree in PRODUCT.values() for name in references(tree)]
    used += [name.rpartition(".")[2] for name in imports(MODULES["gpt.attention"])]
    (notebook,) = blocks(NOTEBOOK.read_text("utf-8"), "python")
    used += references(ast.parse(notebook))
    for path, tree in LIBRARY.items():
        for name, node in definitions(tree):
            elsewhere = used.count(name) - list(references(node)).count(name)
            assert elsewhere or name in UNREFERENCED, f"{path}: only tests use {name}"
