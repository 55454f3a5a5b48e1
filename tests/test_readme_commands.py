"""Every command of the README and the documents behind it, run as it stands there, on toys.

Not here: docs/develop.md, whose first line `.ci/run` runs; its others have suites of their own.
"""

import gzip
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import VERSE
from documents import blocks, prose

from gpt import paths
from gpt.command.config_file import load_config, overridden, to_yaml
from gpt.errors import Exit
from gpt.paths import PROJECT
from gpt.training.run import train_new

pytestmark = pytest.mark.slow
DOCUMENTS = ["README.md", *(f"docs/{name}.md" for name in ("your-text", "attention", "judge"))]
SHORTER = {  # flags that spare a command its length
    "--minutes": "--data.text my.txt --dry-run",
    "scripts/why ": "--steps 1 --seeds 1",
}
SHORT = {
    "train.max_steps": 3,
    "train.batch_size": 4,
    "train.device": "cpu",
    "train.threads": 1,
    "train.compile": False,
    "log.eval_every": 2,
    "log.save_every": 2,
    "data.text": "my.txt",
}
SMALL = {"model.n_layer": 3, "model.n_head": 4, "model.n_embd": 16, "model.block_size": 60}


def commands(program: str) -> list[str]:
    """Each line of a block and each span that is a command of `program`, without its comment."""
    found = []
    for name in DOCUMENTS:
        text = (PROJECT / name).read_text("utf-8")
        for line in "".join(blocks(text)).splitlines() + re.findall(r"`([^`]+)`", prose(text)):
            command = re.sub(r"  +#.*", "", line.replace("\n", " ").removeprefix("$ "))
            if re.fullmatch(rf"(\w+ .*[|&] )?{program} (?!-[cm] ).*", command):
                found.append(command)
    return list(dict.fromkeys(found))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with toys for configs, and the texts that the documents name."""
    project = tmp_path_factory.mktemp("documented") / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("gpt", "configs", "scripts"):
        shutil.copytree(PROJECT / name, project / name, ignore=ignored)
    for path in (*PROJECT.glob("*.py"), *PROJECT.glob("requirements*.txt")):
        shutil.copy(path, project)
    for path in paths.CONFIGS.rglob("*.yaml"):
        config = load_config(path)
        toy = overridden(config, SHORT | (SMALL if config.model.n_layer > 3 else {}))
        (project / path.relative_to(PROJECT)).write_text(to_yaml(toy), "utf-8")
    for name in ("my.txt", "a.txt", "notes/b.txt", "more/c.md", "elsewhere/my.txt"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(f"To be, or not to be\n\n{VERSE * 20}", "utf-8")
    (project / "my.txt.gz").write_bytes(gzip.compress((project / "my.txt").read_bytes()))
    (project / "start.txt").write_text("ROMEO:\nBut", "utf-8")
    return project


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, with the run runs/mine."""
    place = Path(shutil.copytree(project, tmp_path / "place"))
    monkeypatch.chdir(place)
    config = load_config(place / "configs" / "tiny.yaml", {"run.dir": "runs/mine"})
    assert train_new(config, "tiny") == Exit.DONE
    return place


@contextmanager
def started(command: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a shell whose pip installs nothing; on its keyboard a q is typed."""
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    pip = 'pip() { test "$1 $2" = "install -r" -a -f "$3"; }\n'
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"q\n")
    with (
        os.fdopen(keyboard, "wb"),
        os.fdopen(terminal) as stdin,
        subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", pip + command], cwd=place, text=True,
            env=os.environ | {"PATH": found, "PYTHONPATH": str(place)}, start_new_session=True,
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        yield process


@pytest.mark.parametrize("command", commands("python"))
def test_a_command_runs_as_it_stands(command: str, place: Path) -> None:
    if "--run.dir runs/mine" in command:
        shutil.rmtree(place / "runs" / "mine")
    shorter = [flags for part, flags in SHORTER.items() if part in command]
    with started(" ".join([command, *shorter]), place) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == Exit.DONE, err


@pytest.mark.parametrize("command", commands("tensorboard"))
def test_a_server_starts_as_it_stands(command: str, place: Path) -> None:
    with started(f"exec {command} --port 0", place) as process:
        assert process.stderr
        address = next((line for line in process.stderr if "http://" in line), None)
        process.terminate()
    assert address, command


def test_all_mistakes_are_reported_as_shown(place: Path) -> None:
    text = (PROJECT / "docs" / "reference.md").read_text("utf-8")
    command, _, shown = blocks(text)[0].removeprefix("$ ").partition("\n")
    config = "model:\n  n_embd: 16\n  n_layers: 4\n\ntrain:\n  batch_size: 0\n"
    (place / "my.yaml").write_text(config, "utf-8")
    with started(command, place) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (Exit.USAGE, "", shown)
