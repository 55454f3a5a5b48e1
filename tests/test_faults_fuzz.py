"""Thousands of configs and checkpoints that nobody meant: a valid result or a documented exit.

By default a few hundred of each; `-m slow` tries 2,000.
"""

import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from faults import Workshop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_faults_checkpoint import GOLDEN, seal

from gpt.command.config_file import load_config, to_yaml
from gpt.config import fields
from gpt.data.corpus import load_corpus
from gpt.errors import Exit, Mistake
from gpt.generation.generate import generate
from gpt.memory import require_memory
from gpt.optim import load_optimizer_state, make_optimizers
from gpt.storage.checkpoint import load_checkpoint

FEW, MANY = 200, 2000

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2, 3, 64, 2**16, 2**20, 2**31, 2**63, 2**64, 10**12, 10**30]),
    st.floats(),
    st.sampled_from([1e-4, 1e300, 5e-324, 0.5, 1.0, 3e4]),
    st.text(max_size=20),
    st.sampled_from(["", "auto", "cpu", "none", "1e-4", "\x1b[2J", "\ud800", "!!python/name:os"]),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=20),
)


def fuzz(test: Callable[..., None], examples: int, *inputs: st.SearchStrategy[Any]) -> None:
    """Feed a test with as many inputs."""
    quiet = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
    settings(max_examples=examples, **quiet)(given(*inputs)(test))()


def exit_code(work: Callable[[], None]) -> int:
    """0, or the code of the mistake that `work` raises, whose lines are fit for a terminal."""
    try:
        work()
    except Mistake as mistake:
        lines = mistake.lines().splitlines()
        return mistake.exit_code if all(line.isprintable() for line in lines) else Exit.BUG
    return Exit.DONE


# --- configs -----------------------------------------------------------------------------------

KEYS = st.sampled_from([*fields(), "model.n_layers", "modle.n_layer", "train", "x"])
TEXTS = st.one_of(
    st.dictionaries(KEYS, NASTY, max_size=6).map(
        lambda flat: yaml.dump(_nested(flat), allow_unicode=False)
    ),
    st.text(),
    st.text(alphabet="abc:-{}[]&*!|>'\"#%@ \n\t1e.,?~", max_size=60),
    st.integers(1, 4000).map(lambda depth: "a: " + "[" * depth),
)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        if name and isinstance(nested.setdefault(section, {}), dict):
            nested[section][name] = value
        elif not name:
            nested[section] = value
    return nested


def a_config(text: str) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "fuzz.yaml"

    def read() -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        config = load_config(path)
        path.write_text(to_yaml(config))
        assert load_config(path) == config
        require_memory(config, 65)
        if config.data.text:
            load_corpus(config, lambda line: None)

    assert exit_code(read) in (Exit.DONE, Exit.USAGE, Exit.CORPUS)
    shutil.rmtree(folder)


def test_no_config_is_a_crash() -> None:
    fuzz(a_config, FEW, TEXTS)


@pytest.mark.slow
def test_no_config_of_many_is_a_crash() -> None:
    fuzz(a_config, MANY, TEXTS)


# --- checkpoints -------------------------------------------------------------------------------

FILES = ["config.json", "training.json", "vocabulary.json", "model.safetensors"]
FILES += ["optimizer.safetensors", "manifest.json"]


def _replace(value: Any, path: list[int], nasty: Any) -> Any:
    """`value` with one of its parts, chosen by `path`, replaced."""
    if not path or not isinstance(value, dict | list) or not value:
        return nasty
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[key] = _replace(value[key], path[1:], nasty)
    return changed


def _change(data: bytes, name: str, path: list[int], nasty: Any) -> bytes:
    """The bytes of a file with one part of its JSON replaced."""
    if name.endswith(".json"):
        return json.dumps(_replace(json.loads(data), path, nasty)).encode()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    changed = json.dumps(_replace(header, path, nasty)).encode()
    return struct.pack("<Q", len(changed)) + changed + data[8 + size :]


CHANGES = st.tuples(
    st.sampled_from(FILES), st.lists(st.integers(0, 99), max_size=4), NASTY, st.binary(max_size=3)
)


def a_checkpoint(changes: list[tuple[str, list[int], Any, bytes]], sealed: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "step-000001"
    shutil.copytree(GOLDEN / "step-000001", path)
    for name, where, nasty, raw in changes:
        file = path / name
        try:
            file.write_bytes(_change(file.read_bytes(), name, where, nasty))
        except ValueError:  # it is no JSON any more
            file.write_bytes(file.read_bytes()[:50] + raw + file.read_bytes()[50:])
    try:
        if sealed:
            seal(path)
    except (ValueError, TypeError, AttributeError):
        pass

    def use() -> None:
        checkpoint = load_checkpoint(path)
        model = checkpoint.make_model()
        optimizers = make_optimizers(model, checkpoint.config.train)
        load_optimizer_state(model, optimizers, checkpoint.optimizer_state)
        for ids, _ in zip(generate(model, torch.tensor([0]).numpy()), range(3), strict=False):
            checkpoint.tokenizer.decode(ids.tolist()).encode()

    assert exit_code(use) in (Exit.DONE, Exit.CHECKPOINT)
    shutil.rmtree(folder)


def test_no_checkpoint_is_a_crash() -> None:
    fuzz(a_checkpoint, FEW, st.lists(CHANGES, min_size=1, max_size=3), st.booleans())


@pytest.mark.slow
def test_no_checkpoint_of_many_is_a_crash() -> None:
    fuzz(a_checkpoint, MANY, st.lists(CHANGES, min_size=1, max_size=3), st.booleans())


# --- a run that goes on with other settings -----------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--train.optimizer", "adamw"], 2),
        (["--model.n_layer", "2"], 2),
        (["--train.seed", "5", "--train.max_steps", "4"], 0),
        (["--train.learning_rate", "nan"], 2),
    ],
)
def test_a_resume_with_changes(tmp_path: Path, flags: list[str], code: int) -> None:
    shop = Workshop(tmp_path)
    shop.train_here(shop.fresh(tmp_path / "run"))
    assert shop.train_here(["--resume", str(tmp_path / "run"), *flags]).code == code


def test_another_text_with_as_many_characters(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.train_here(shop.fresh(tmp_path / "run"))
    text = (tmp_path / "text.txt").read_text()
    (tmp_path / "text.txt").write_text(text.replace("R", "Q"))
    ended = shop.train_here(["--resume", str(tmp_path / "run")])
    assert ended.code == 3
    assert "another alphabet" in ended.output
    (tmp_path / "text.txt").write_text(text[::-1])
    ended = shop.train_here(["--resume", str(tmp_path / "run"), "--exact"])
    assert ended.code == 4
    assert "the text changed" in ended.output
    assert "warning: not bit for bit" in shop.train_here(["--resume", str(tmp_path / "run")]).output


def test_a_damaged_prepared_text_is_made_anew(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.train_here(shop.fresh(tmp_path / "first"))
    for number, file in enumerate(sorted((tmp_path / "data").rglob("*.[bj]*"))):
        for data in (b"", b"\xff" * 7, file.read_bytes()[:-1], bytes(file.stat().st_size)):
            file.write_bytes(data)
            ended = shop.train_here(shop.fresh(tmp_path / f"run{number}-{hash(data)}"))
            assert ended.code == 0
            assert "preparing" in ended.output
