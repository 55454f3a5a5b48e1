"""Flags, and how mistakes leave a command."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sample
import train
from gpt.command.cli import Parser, add_config_flags, number, overrides_of
from gpt.config import Config, fields
from gpt.errors import Exit, Mistake
from gpt.paths import PROJECT
from scripts import compare_corpora, evaluate, explore, prepare_data

DEFAULTS = Config().model_dump()


def flags(*argv: str) -> dict[str, object]:
    """The overrides that `argv` stands for."""
    parser = Parser(prog="train.py")
    add_config_flags(parser)
    return overrides_of(parser.parse_all([*argv]))


# --- flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", fields())
def test_every_key_is_a_flag_with_meaning_and_default(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    field = fields()[key]
    assert f"--{key} X" in said
    assert field.description
    assert " ".join(field.description.split()) in said
    assert f"[{' '.join(repr(field.default).split())}]" in said


def test_flags_are_read_as_the_files_are() -> None:
    assert flags("--train.learning_rate", "1e-4", "--train.max_steps=3e4") == {
        "train.learning_rate": 1e-4,
        "train.max_steps": 3e4,
    }
    assert flags("--model.bias", "false") == {"model.bias": False}
    assert flags("--train.target_val_loss", "null") == {"train.target_val_loss": None}
    assert flags("--device", "cpu") == flags("--train.device", "cpu") == {"train.device": "cpu"}
    assert flags() == {}


def test_texts_are_taken_as_they_are() -> None:
    assert flags("--data.text", "a=b.txt") == {"data.text": "a=b.txt"}
    assert flags("--data.text", "1e5", "2") == {"data.text": ["1e5", "2"]}
    assert flags("--run.dir=x=y: [") == {"run.dir": "x=y: ["}
    assert flags("--log.sample_prompt", "true") == {"log.sample_prompt": "true"}


@pytest.mark.parametrize(
    ("argv", "what", "fix"),
    [
        (["--train.max_step", "3"], "unknown argument --train.max_step", "--train.max_steps?"),
        (["--train.max_step=3"], "unknown argument --train.max_step=3", "--train.max_steps?"),
        (["--train.max"], "unknown argument --train.max", "mean --"),  # no abbreviations
        (["tiny.yaml"], "unknown argument tiny.yaml", "--help"),
        (["--train.seed"], "argument --train.seed: expected one argument", "--help"),
    ],
)
def test_a_flag_that_is_not_there(argv: list[str], what: str, fix: str) -> None:
    with pytest.raises(Mistake) as caught:
        flags(*argv)
    assert (caught.value.exit_code, caught.value.what) == (Exit.USAGE, what)
    assert fix in caught.value.fix


@given(st.floats(0, 1))
def test_numbers_within_bounds(value: float) -> None:
    assert number(float, 0, 1)(str(value)) == value


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "inf", "-inf"])
def test_numbers_out_of_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 0 and at most 1"):
        number(float, 0, 1)(text)


@pytest.mark.parametrize(
    "argv",
    [["--top-p", "2"], ["--temperature", "-1"], ["--temperature", "nan"], ["--seed", "1.5"],
     ["--num-samples", "0"], ["--max-new-chars", "-1"], ["--top-k", "-1"], ["--unknown", "x"],
     ["--prompt", "a", "--prompt-file", "b"], ["--seed", "9223372036854775808"],
     ["--stop", ""], ["--end", "word"]],
)  # fmt: skip
def test_usage_mistakes_of_sample(argv: list[str]) -> None:
    with pytest.raises(Mistake) as caught:
        sample.main(argv)
    assert caught.value.exit_code == Exit.USAGE
    assert f"argument {argv[-2]}: " in caught.value.what


TAKE_PATHS = [  # command, the arguments before a path and those after it
    *((train, [f"--{name}"], []) for name in ("config", "resume", "init-from")),
    *((train, ["--config", "debug.yaml", f"--{key}"], []) for key in ("data.text", "run.dir")),
    *((sample, [name], []) for name in ("--run", "--prompt-file")),
    *((explore, before, []) for before in (["--out"], [])),
    *((prepare_data, before, []) for before in (["shakespeare", "--from"], [])),
    (evaluate, [], []),
    *((compare_corpora, *around) for around in (([], ["x"]), (["x"], []))),
]


@pytest.mark.parametrize("path", ["", "a\0b", os.fsdecode(b"\xff"), "n" * 256, "~no-such-user/x"])
@pytest.mark.parametrize(("command", "before", "after"), TAKE_PATHS)
def test_a_path_that_no_file_can_have_is_refused_wherever_one_is_taken(
    command: ModuleType,
    before: list[str],
    after: list[str],
    path: str,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(text_file.parent)
    monkeypatch.setattr("gpt.data.corpus.named_text", lambda *_: text_file)  # for run.dir's turn
    with pytest.raises(Mistake, match=r"path|no home directory ~no-such-user") as caught:
        command.main([*before, path, *after])
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("flag", ["--max-new-chars", "--num-samples", "--top-k", "--temperature"])
@pytest.mark.parametrize("value", ["1" + "0" * 400, "9" * 5000])
def test_numbers_beyond_the_machines(flag: str, value: str) -> None:
    with pytest.raises(Mistake, match=f"argument {flag}: ") as caught:
        sample.main([flag, value])
    assert caught.value.exit_code == Exit.USAGE
    assert len(caught.value.what) < 150


# --- how a mistake leaves a command ------------------------------------------------------------


# --- torch is imported only once it is needed --------------------------------------------------

QUIET = """
import sys
import train, sample
from gpt.errors import Mistake
for main, argv in (
    (train.main, ["--help"]), (sample.main, ["--help"]), (train.main, ["--print-config"]),
    (train.main, ["--config", "nowhere.yaml"]), (train.main, ["--model.n_head", "7"]),
    (train.main, ["--nonsense"]), (sample.main, ["--top-k", "x"]),
    (train.main, ["--resume", "x", "--model.n_layer", "3"]),
):
    try:
        main(argv)
    except (Mistake, SystemExit):
        pass
    heavy = {"torch", "tensorboard", "matplotlib"} & set(sys.modules)
    assert not heavy, f"{argv} imported {heavy}"
"""


def test_help_and_config_mistakes_do_not_import_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", QUIET]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
