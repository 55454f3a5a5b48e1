"""Make careless changes in the core, one at a time, and see whether a test fails.

python scripts/mutate.py mutants.jsonl --sample 220 --seed 1    # stopped and repeated, it goes on
python scripts/mutate.py mutants.jsonl --sample 220 --seed 1 --again    # try the survivors again

A mutant is one change that a person could make by mistake: `<` for `<=`, a bound off by one, a
forgotten statement, swapped arguments; see `changes`. Messages, strings, annotations and progress
bars stay as they are. The sample is drawn from each module in proportion to its lines. A mutant is
tried in a copy of the project, by a process forked from one that has loaded torch: first the suites
named after its module, then the others that import it. The file gets a row for each mutant.
tests/MUTANTS.md has a run, with each survivor judged.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import json
import multiprocessing
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

PROJECT = Path(__file__).resolve().parents[1]
CORE = [
    *("config", "files", "kernels", "model", "optim", "evaluate", "command/yaml12"),
    *("command/config_file", "data/tokenizer", "data/text", "data/prepare", "data/corpus"),
    *("storage/manifest", "storage/run_directory", "storage/checkpoint", "storage/find"),
    *("generation/decoder", "generation/generate", "generation/writer", "attention/trace"),
    *("attention/frozen", "attention/decompose", "attention/circuits", "attention/roles"),
    *("training/identity", "training/fine_tune", "training/monitor", "training/trainer"),
]
LOADED_ONCE = ("torch", "safetensors.torch", "pydantic", "matplotlib", "pytest")
SECONDS_OF_A_TEST, SECONDS_OF_ALL = 60, 900  # at most; then a mutant counts as caught

# --- careless changes ----------------------------------------------------------------------------

TEXT_CALLS = {"Mistake", "say", "print", "write_stderr", "damaged", "changed", "tqdm", "cast"}
TEXT_NAMES = {"description", "what", "fix", "smaller", "reason", "kind", "lost", "names"}
OTHER_OPERATOR: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
    ast.Div: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip
OTHER_NAME = {
    "min": "max", "any": "all", "cos": "sin", "argmax": "argmin", "mean": "sum", "triu": "tril",
    "zeros_like": "ones_like", "new_zeros": "new_ones", "zeros": "ones", "is_file": "exists",
    "startswith": "endswith", "removeprefix": "removesuffix",
}  # fmt: skip
OTHER_NAME |= {new: old for old, new in OTHER_NAME.items()}
Change = tuple[ast.AST, str]  # a node of the syntax tree, and the source that replaces its own


def changes(tree: ast.AST) -> Iterator[Change]:
    """Every careless change of a module."""
    made = [node for node in ast.walk(tree) if getattr(node, "name", None) == "__init__"]
    first = {part for node in made for part in ast.walk(node) if isinstance(part, ast.Assign)}
    for node in code_of(tree):
        if isinstance(node, ast.stmt) and node not in first:  # without these, every use fails
            yield from changes_of_statement(node)
        elif isinstance(node, ast.Call):
            yield from changes_of_call(node)
        elif isinstance(node, ast.Slice):
            for bound in filter(None, (node.lower, node.upper)):
                yield bound, ""
                if not isinstance(bound, ast.Constant | ast.UnaryOp):
                    yield bound, f"({ast.unparse(bound)}) + 1"
        elif isinstance(node, ast.expr):
            yield from ((node, f"({new})") for new in changes_of_expression(node))


def code_of(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that matter when the program runs, apart from its messages."""
    if is_text(node):
        return
    yield node
    asserts = isinstance(node, ast.Call) and ast.unparse(node.func) == "zip"  # strict=True
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns") and not (asserts and field == "keywords"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from code_of(child)


def is_text(node: ast.AST) -> bool:
    """Messages, aliases of types, and what runs only as a script."""
    match node:
        case ast.Raise() | ast.JoinedStr():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in TEXT_CALLS
        case ast.Expr(value=value):
            return is_text(value)
        case ast.keyword(arg=name):
            return name in TEXT_NAMES
        case ast.Assign(targets=[target]):
            name = ast.unparse(target).strip("()")
            is_alias = re.fullmatch("[A-Z][a-z]+", name) is not None
            return is_alias or set(name.split(", ")) <= TEXT_NAMES
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return False


def changed(node: ast.AST, **fields: Any) -> str:
    """The source of `node` with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return ast.unparse(new)


def changes_of_statement(node: ast.stmt) -> Iterator[Change]:
    """Forgotten statements, guards, contexts and decorators; None for an optional result."""
    match node:
        case ast.Expr(value=ast.Call()) if "super()" not in ast.unparse(node):
            yield node, "pass"
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            if name in {part.id for part in ast.walk(value) if isinstance(part, ast.Name)}:
                yield node, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case ast.AugAssign(op=op):
            yield node, "pass"
            if type(op) in OTHER_OPERATOR:
                yield node, changed(node, op=OTHER_OPERATOR[type(op)]())
        case ast.If(test=test, body=body, orelse=other):
            if isinstance(body[-1], ast.Raise | ast.Return | ast.Continue) and not other:
                yield node, "pass"
            if not isinstance(test, ast.Compare | ast.UnaryOp):  # these are changed by themselves
                yield test, f"not ({ast.unparse(test)})"
        case ast.With(items=[ast.withitem(context_expr=context, optional_vars=None)]):
            yield context, "__import__('contextlib').nullcontext()"
        case ast.FunctionDef(returns=returns, decorator_list=decorators):
            for decorator in decorators:
                if isinstance(decorator, ast.Call) and "dataclass" not in ast.unparse(decorator):
                    yield decorator, "(lambda function: function)"
            if returns and "| None" in ast.unparse(returns):
                for part in ast.walk(node):
                    if isinstance(part, ast.Return) and ast.unparse(part) != "return None":
                        yield part, "return None"


def changes_of_call(node: ast.Call) -> Iterator[Change]:
    """Swapped and forgotten arguments."""
    name = ast.unparse(node.func).rpartition(".")[2]
    for i, pair in enumerate(zip(node.args, node.args[1:], strict=False)):
        plain = all(isinstance(part, ast.Name | ast.Attribute | ast.Subscript) for part in pair)
        differ = ast.unparse(pair[0]) != ast.unparse(pair[1])
        if plain and differ and name not in ("min", "max", "isinstance"):
            yield node, changed(node, args=[*node.args[:i], *pair[::-1], *node.args[i + 2 :]])
    for word in node.keywords:
        is_flag = isinstance(word.value, ast.Constant) and isinstance(word.value.value, bool)
        if word.arg not in TEXT_NAMES and not is_flag:  # a flag is flipped instead
            yield node, changed(node, keywords=[other for other in node.keywords if other != word])


def changes_of_expression(node: ast.expr) -> Iterator[str]:
    """Other operators, constants and names; conditions that are negated or incomplete."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield changed(node, ops=[*ops[:i], OTHER_OPERATOR[type(op)](), *ops[i + 1 :]])
        case ast.BoolOp(op=op, values=values):
            yield changed(node, op=OTHER_OPERATOR[type(op)]())
            for value in values:
                yield changed(node, values=[other for other in values if other != value])
        case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
            yield f"-(-({ast.unparse(left)}) // ({ast.unparse(right)}))"  # rounded up
        case ast.BinOp(left=left, op=ast.BitOr()):
            yield ast.unparse(left)
        case ast.BinOp(left=left, op=op, right=right):
            strings = [isinstance(getattr(side, "value", None), str) for side in (left, right)]
            texts = [isinstance(side, ast.JoinedStr) for side in (left, right)]
            if type(op) in OTHER_OPERATOR and not any(strings + texts):
                yield changed(node, op=OTHER_OPERATOR[type(op)]())
            if isinstance(op, ast.Sub | ast.MatMult):
                yield changed(node, left=right, right=left)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield ast.unparse(operand)
        case ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Constant(value=bool(value)):
            yield repr(not value)
        case ast.Constant(value=int(value)):
            yield from (repr(value + 1), repr(value - 1))
        case ast.Constant(value=float(value)):
            yield from (repr(value * 2), repr(value / 2)) if value else ("1.0",)
        case ast.Name(id=name) if name in OTHER_NAME:
            yield OTHER_NAME[name]
        case ast.Attribute(attr=name) if name in OTHER_NAME:
            yield changed(node, attr=OTHER_NAME[name])


@dataclass(frozen=True)
class Mutant:
    """A module with one careless change."""

    path: str  # of the module, in the project
    name: str  # place and change
    source: bytes  # of the whole module, changed


def mutants_of(path: str) -> list[Mutant]:
    """All mutants of a module."""
    source = (PROJECT / path).read_bytes()
    starts = [0]  # of each line
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = {}
    for node, new in changes(ast.parse(source)):
        place: Any = node
        start = starts[place.lineno - 1] + place.col_offset
        end = starts[place.end_lineno - 1] + place.end_col_offset
        text = source[:start] + new.encode() + source[end:]
        old = " ".join(source[start:end].decode().split())
        name = f"{path}:{place.lineno}:{place.col_offset} `{old}` -> `{new}`"
        found[text] = Mutant(path, name, text)
    return list(found.values())


def sampled(paths: list[str], count: int, seed: int) -> list[Mutant]:
    """About `count` mutants, from each module in proportion to its lines, in a random order."""
    chance = random.Random(seed)
    lines = {path: len((PROJECT / path).read_bytes().splitlines()) for path in paths}
    chosen = []
    for path in paths:
        share, known = round(count * lines[path] / sum(lines.values())), mutants_of(path)
        chosen += chance.sample(known, min(share, len(known)))
    chance.shuffle(chosen)
    return chosen


# --- trying them ---------------------------------------------------------------------------------


def suites_of(path: str) -> tuple[list[str], list[str]]:
    """The suites named after a module, and the others that import it or, if none does, a module
    that imports it."""
    name = Path(path).stem
    suites = sorted(f"tests/{suite.name}" for suite in (PROJECT / "tests").glob("test_*.py"))
    own = [suite for suite in suites if re.search(rf"/test_(\w+_)?{name}\.py", suite)]
    users = importers(path, suites)
    if not set(users) - set(own):
        modules = [str(file.relative_to(PROJECT)) for file in (PROJECT / "gpt").rglob("*.py")]
        users = [u for module in importers(path, modules) for u in importers(module, suites)]
    return own, sorted(set(users) - set(own))


def importers(path: str, files: list[str]) -> list[str]:
    """Those of `files` that import the module at `path`."""
    package, _, name = path.removesuffix(".py").replace("/", ".").rpartition(".")
    use = re.compile(rf"\b{package}\.{name}\b|from {package} import [^\n]*\b{name}\b")
    return [file for file in files if use.search((PROJECT / file).read_text("utf-8"))]


class Reporter:
    """A plugin of pytest that writes down the test that runs: with -x, the last is the failing."""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        Path("failing").write_text(nodeid, "utf-8")

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            Path("failing").write_text(f"importing {report.nodeid}", "utf-8")


def failing_test(suites: list[str]) -> str | None:
    """The first test of `suites` that fails, or takes too long, in the worker's copy."""
    Path("failing").write_text("importing tests/conftest.py", "utf-8")
    pid = os.fork()
    if not pid:
        run_pytest(suites)
    process = os.pidfd_open(pid)
    select.select([process], [], [], SECONDS_OF_ALL)
    os.close(process)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # it, if its time is over, and all that its tests started
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if code in (0, 5) else Path("failing").read_text("utf-8")  # 5: no quick test


def run_pytest(suites: list[str]) -> NoReturn:
    """Run suites quietly in this process, and end it with pytest's exit code."""
    code = 1
    try:
        os.setsid()
        with Path(os.devnull).open("r+b") as nowhere:
            for stream in range(3):
                os.dup2(nowhere.fileno(), stream)
        limit = f"faulthandler_timeout={SECONDS_OF_A_TEST}"
        options = ["-x", "-p", "no:cacheprovider", "-o", limit]
        code = importlib.import_module("pytest").main([*options, *suites], plugins=[Reporter()])
    finally:
        os._exit(code)


def enter_copy(folder: str) -> None:
    """Begin a worker: in a copy of the project, which its mutants are written into."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT
    )
    own = Path(folder) / str(os.getpid())
    for name in filter(None, listed.decode().split("\0")):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, own / name)
    os.chdir(own)
    sys.path.insert(0, str(own))
    sys.dont_write_bytecode = True  # a mutant may be written in the second of the one before it
    os.environ |= {"PYTHONPATH": str(own), "PYTHONDONTWRITEBYTECODE": "1"}


def attempt(mutant: Mutant) -> dict[str, Any]:
    """Try a mutant in the worker's copy; its row."""
    Path(mutant.path).write_bytes(mutant.source)
    try:
        found = (failing_test(suites) for suites in suites_of(mutant.path) if suites)
        caught_by = next(filter(None, found), None)
    finally:
        shutil.copy2(PROJECT / mutant.path, mutant.path)
    return {"mutant": mutant.name, "module": mutant.path, "caught_by": caught_by}


def try_all(mutants: list[Mutant], file: Path, jobs: int) -> None:
    """Append a row to `file` for each mutant.

    Raises:
        SystemExit: if a test fails though nothing is changed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded
    for name in LOADED_ONCE:
        importlib.import_module(name)
    suites = {suite for m in mutants for group in suites_of(m.path) for suite in group}
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("fork").Pool(jobs, enter_copy, [folder]) as pool,
        file.open("a", encoding="utf-8") as rows,
    ):
        if failing := pool.apply(failing_test, [sorted(suites)]):
            raise SystemExit(f"error: {failing} fails\nfix: mend it before you change the core")
        for number, row in enumerate(pool.imap_unordered(attempt, mutants), 1):
            rows.write(json.dumps(row) + "\n")
            rows.flush()
            result = row["caught_by"] or "SURVIVED"
            print(f"{number}/{len(mutants)} {result}: {row['mutant']}", flush=True)


def read_rows(file: Path) -> dict[str, dict[str, Any]]:
    """The last row of each mutant, by its name."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return {row["mutant"]: row for row in map(json.loads, lines)}


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: counts by module, and the survivors."""
    yield from ("| module | mutants | caught |", "|---|---|---|")
    for module in sorted({row["module"] for row in rows}):
        caught = [bool(row["caught_by"]) for row in rows if row["module"] == module]
        yield f"| `{module}` | {len(caught)} | {sum(caught)} |"
    survivors = sorted(row["mutant"] for row in rows if not row["caught_by"])
    share = 1 - len(survivors) / max(1, len(rows))
    yield f"| all | {len(rows)} | {len(rows) - len(survivors)} ({share:.1%}) |"
    yield from (textwrap.shorten(f"- {name}", 160) for name in survivors)


def main(argv: list[str]) -> int:
    """Try the mutants that the file does not know yet, then print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("file", type=Path, help="of the rows, JSON lines; made if it is not there")
    parser.add_argument("--sample", type=int, default=220, help="about how many mutants [220]")
    parser.add_argument("--seed", type=int, default=1, help="of the sample [1]")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at a time [2]")
    parser.add_argument("--again", action="store_true", help="try the survivors again")
    given = parser.parse_args(argv)
    mutants = sampled([f"gpt/{name}.py" for name in CORE], given.sample, given.seed)
    rows = read_rows(given.file)
    done = {name for name, row in rows.items() if row["caught_by"] or not given.again}
    if left := [mutant for mutant in mutants if mutant.name not in done]:
        try_all(left, given.file, given.jobs)
    rows = read_rows(given.file)
    print("\n".join(table([rows[mutant.name] for mutant in mutants])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
