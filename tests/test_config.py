"""The config: YAML without surprises, and every mistake named at once with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gpt.command import yaml12
from gpt.command.config_file import find_config, load_config, overridden, read_scalar, to_yaml
from gpt.config import Config, ModelConfig, fields
from gpt.errors import BadValue, Exit, Mistake
from gpt.paths import CONFIGS


def mistakes_in(tmp_path: Path, text: str | bytes, **flags: Any) -> list[tuple[str, str]]:
    """(what, fix) of each mistake in a config file; `section__key=value` is a flag."""
    path = tmp_path / "my.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(Mistake) as caught:
        load_config(path, {key.replace("__", "."): value for key, value in flags.items()})
    found = [caught.value, *caught.value.more]
    assert {mistake.exit_code for mistake in found} == {Exit.USAGE}
    lines = caught.value.lines().splitlines()
    assert len(lines) == 2 * len(found), "an error line and a fix line each"
    assert all(line.startswith("error: ") for line in lines[::2])
    assert all(line.startswith("fix: ") and len(line) > 6 for line in lines[1::2])
    return [(m.what.replace(str(path), "my.yaml"), m.fix) for m in found]


def read(tmp_path: Path, text: str, **flags: Any) -> Config:
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "my.yaml", {k.replace("__", "."): v for k, v in flags.items()})


# --- one mistake -------------------------------------------------------------------------------

ONE = {  # content -> what is said, what is advised
    "empty file": ("", "my.yaml is empty", "write sections: model, data, train, log, run"),
    "only a comment": ("# nothing\n", "my.yaml is empty", "write sections"),
    "a list at the top": ("- model\n", "my.yaml holds a list, not sections", "write sections"),
    "a word at the top": ("model\n", "my.yaml holds a str, not sections", "write sections"),
    "unknown key": (
        "model:\n  n_head: 4\n  n_layers: 4\n",
        "unknown key model.n_layers (my.yaml:3)",
        "did you mean model.n_layer?",
    ),
    "unknown key, like none": (
        "model:\n  zzz: 4\n",
        "unknown key model.zzz (my.yaml:2)",
        "known: model.block_size, ",
    ),
    "unknown section": (
        "modell:\n  n_layer: 4\n",
        "unknown key modell (my.yaml:1)",
        "did you mean model?",
    ),
    "key without a section": (
        "train:\n  seed: 1\nn_layer: 4\n",
        "unknown key n_layer (my.yaml:3)",
        "write `model:` and, indented, `n_layer:`",
    ),
    "dotted key": ("model.n_layer: 4\n", "key model.n_layer (my.yaml:1)", "write `model:` and"),
    "duplicate key": (
        "model:\n  n_layer: 4\n  n_head: 4\n  n_layer: 5\n",
        "model.n_layer is given twice, in lines 2 and 4 of my.yaml",
        "keep one of the two",
    ),
    "duplicate section": (
        "model:\n  n_layer: 4\nmodel:\n  n_head: 2\n",
        "model is given twice, in lines 1 and 3 of my.yaml",
        "keep one",
    ),
    "not a number": (
        "train:\n  learning_rate: fast\n",
        "train.learning_rate is 'fast': input should be a valid number (my.yaml:2)",
        "AdamW's peak learning rate; default 0.001",
    ),
    "NaN": ("train:\n  learning_rate: .nan\n", "finite number (my.yaml:2)", "default 0.001"),
    "infinity": ("train:\n  learning_rate: 1e999\n", "finite number (my.yaml:2)", "default 0.001"),
    "zero": ("model:\n  block_size: 0\n", "model.block_size is 0: ", "default 64"),
    "negative": ("train:\n  batch_size: -3\n", "train.batch_size is -3: ", "default 12"),
    "not whole": ("train:\n  max_steps: 2.5\n", "train.max_steps is 2.5: ", "default 300"),
    "true for a number": (
        "train:\n  max_steps: true\n",
        "train.max_steps is True: ",
        "default 300",
    ),
    "a number for true": ("model:\n  bias: 1\n", "model.bias is 1: ", "default True"),
    "on for true": ("model:\n  bias: on\n", "model.bias is 'on': ", "default True"),
    "null": ("train:\n  max_steps:\n", "train.max_steps is None: ", "default 300"),
    "absurd": ("model:\n  n_embd: 1000000000\n", "model.n_embd is 1000000000: ", "default 128"),
    "dropout of all": ("model:\n  dropout: 1\n", "model.dropout is 1", "default 0.0"),
    "no such choice": (
        "model:\n  norm: batch\n",
        "'none', 'layer' or 'rms' (my.yaml:2)",
        "default 'layer'",
    ),
    "no such device": ("train:\n  device: gpu\n", "train.device is 'gpu': ", "auto | cpu | cuda"),
    "heads": (
        "model:\n  n_embd: 100\n  n_head: 16\n",
        "n_embd 100 is not divisible by n_head 16",
        "use n_embd 96",
    ),
    "few heads": (
        "model:\n  n_embd: 3\n  n_head: 4\n",
        "n_embd 3 is not divisible",
        "use n_embd 4",
    ),
    "odd pairs": (
        "model:\n  n_embd: 12\n  n_head: 4\n  positions: rotary\n",
        "head_size is 3",
        "make it even",
    ),
    "a norm that is none": (
        "model:\n  embedding_norm: true\n  norm: none\n",
        "embedding_norm needs a norm (my.yaml:1)",
        "set norm to",
    ),
    "bigram with blocks": (
        "model:\n  n_embd: 0\n",
        "n_embd 0 is the bigram table",
        "set n_layer to 0",
    ),
    "bigram with a token shift": (
        "model:\n  n_embd: 0\n  n_layer: 0\n  positions: none\n  norm: none\n  token_shift: true\n",
        "n_embd 0 is the bigram table",
        "token_shift to false",
    ),
    "accumulate": (
        "train:\n  batch_size: 9\n  accumulate: 2\n",
        "does not divide batch_size 9",
        "choose",
    ),
    "a section that is a list": ("model: [1]\n", "model is [1]: ", "section"),
    "a section that is a word": ("model: big\n", "model is 'big': ", "section"),
    "text of a wrong kind": ("data:\n  text: {a: b}\n", "data.text", "your own UTF-8 text"),
    "a command": (
        "model: !!python/object/apply:os.system ['echo hacked > hacked']\n",
        "(my.yaml:1)",
        "section",
    ),
    "a command inside": (
        "run:\n  dir: !!python/object/apply:os.system ['echo hacked > hacked']\n",
        "(my.yaml:2)",
        "run.dir",
    ),
    "not closed": ("model: {n_layer: 4\n", "not a config: ", "section"),
    "tabs": ("model:\n\tn_layer: 4\n", "not a config: ", "(my.yaml:2)"),
    "an anchor that holds itself": ("model: &a\n  n_layer: [*a]\n", "my.yaml", ""),
    "a control character": ("model:\n  n_layer: \x07\n", "not a config: ", "section"),
    "thousands of brackets": ("model: " + "[" * 5000, "not a config: ", "section"),
}


@pytest.mark.parametrize(("text", "what", "fix"), ONE.values(), ids=ONE.keys())
def test_one_mistake(tmp_path: Path, text: str, what: str, fix: str) -> None:
    (found,) = mistakes_in(tmp_path, text)
    assert what in found[0]
    assert fix in found[1] or fix in found[0]
    assert not Path("hacked").exists()


def test_not_utf8(tmp_path: Path) -> None:
    (found,) = mistakes_in(tmp_path, b"run:\n  dir: caf\xe9\n")
    assert found[0] == "my.yaml is not UTF-8: byte 15 is 0xe9"
    (found,) = mistakes_in(tmp_path, b"\xef\xbb\xbfa\xe9")
    assert found[0] == "my.yaml is not UTF-8: byte 4 is 0xe9"


def test_not_a_config_at_all(tmp_path: Path) -> None:
    (found,) = mistakes_in(tmp_path, "a long text " * 100_000)
    assert found[0] == "my.yaml has more than 1048576 bytes"


@pytest.mark.parametrize(
    "value", ["!!bool maybe", "!!int x", "!!timestamp x", "!!null x", "9" * 5000]
)
def test_a_scalar_that_is_not_of_its_tag_is_named_with_its_line(tmp_path: Path, value: str) -> None:
    """PyYAML lets through whatever Python says of it, KeyError and AttributeError among it."""
    found = mistakes_in(tmp_path, f"train:\n  seed: {value}\n")
    assert len(found) == 1
    assert "(my.yaml:2)" in found[0][0]
    assert len(found[0][0]) < 100


@pytest.mark.parametrize(
    "key", ["? {a: b}\n", "? [a]\n", '"\\ud800"'], ids=["map", "list", "bytes"]
)
def test_a_key_is_a_word(tmp_path: Path, key: str) -> None:
    (found,) = mistakes_in(tmp_path, f"train:\n  seed: 1\n{key}: 1\n")
    assert found[0] == "not a config: this is no key (my.yaml:3)"


@pytest.mark.parametrize("key", ["data:\n  text", "run:\n  dir"])
@pytest.mark.parametrize("path", ['""', '"a\\0b"', '"a\\ud800b"', "n" * 256])
def test_a_path_that_no_file_can_have(tmp_path: Path, key: str, path: str) -> None:
    (found,) = mistakes_in(tmp_path, f"{key}: {path}\n")
    assert found[0].startswith(key.replace(":\n  ", "."))
    assert "path" in found[0]
    assert found[0].endswith("(my.yaml:2)")


def test_a_reason_is_told_as_its_validator_words_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong and the fix are handed over, whatever colons they hold."""

    def refuse(path: str) -> None:
        raise BadValue("a: b", "c: d")

    monkeypatch.setattr("gpt.config.require_path", refuse)
    (found,) = mistakes_in(tmp_path, "data:\n  text: x\n")
    assert found == ("data.text: a: b (my.yaml:2)", "c: d")


# --- several, and flags ------------------------------------------------------------------------


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = (
        "model:\n  n_layers: 3\n  block_size: -1\n  dropout: .nan\n"
        "train:\n  max_steps: many\n  max_steps: 10\n  learning_rate: 1e-3\nlogs: {}\n"
    )
    found = mistakes_in(tmp_path, text, log__keep=-1)
    said = " / ".join(what for what, _ in found)
    for part in (
        "unknown key model.n_layers (my.yaml:2)",
        "model.block_size is -1",
        "model.dropout is nan",
        "train.max_steps is given twice, in lines 6 and 7 of my.yaml",
        "unknown key logs (my.yaml:9)",
        "log.keep is -1",
        "(--log.keep)",
    ):
        assert part in said
    assert len(found) == 6


def test_of_very_many_mistakes_the_first_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for the key that was meant takes time: only for those that are told."""
    looks: list[str] = []
    monkeypatch.setattr("difflib.get_close_matches", lambda key, *_, **__: looks.append(key) or [])
    found = mistakes_in(tmp_path, "train:\n" + "".join(f"  k{i}: 1\n" for i in range(1000)))
    assert len(looks) == 20
    assert found[19][0] == "unknown key train.k19 (my.yaml:21)"
    assert [what for what, _ in found[20:]] == ["980 more mistakes"]
    again = mistakes_in(tmp_path, "train:\n" + "  seed: 1\n" * 1000)
    assert len(again) == 21


def test_mistakes_of_two_sections_that_do_not_fit(tmp_path: Path) -> None:
    text = "model:\n  n_embd: 10\n  n_head: 4\ntrain:\n  batch_size: 9\n  accumulate: 2\n"
    assert len(mistakes_in(tmp_path, text)) == 2


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    text = "train:\n  seed: 1\n  max_steps: 10\n"
    config = read(tmp_path, text, train__seed=2, model__n_layer=3)
    assert (config.train.seed, config.train.max_steps, config.model.n_layer) == (2, 10, 3)
    assert read(tmp_path, "model:\n", model__n_layer=3).model.n_layer == 3  # an empty section


def test_a_flag_can_mend_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "train:\n  seed: -1\n", train__seed=2).train.seed == 2


def test_mistakes_in_overrides_of_a_runs_config() -> None:
    with pytest.raises(Mistake, match=r"train.max_steps is 'x'.*\(--train.max_steps\)"):
        overridden(Config(), {"train.max_steps": "x"})
    assert overridden(Config(), {"train.max_steps": 7}).train.max_steps == 7


# --- scalars -----------------------------------------------------------------------------------

SCALARS = {
    "1e-4": 1e-4, "3e4": 3e4, "1E5": 1e5, ".5": 0.5, "5.": 5.0, "-.5e-3": -0.0005, "+7": 7,
    "010": 10, "0x10": "0x10", "1_000": "1_000", "1:30": "1:30", "2024-01-01": "2024-01-01",
    "on": "on", "off": "off", "yes": "yes", "no": "no", "y": "y", "true": True, "False": False,
    "null": None, "~": None, "": None, ".inf": float("inf"), "-.inf": -float("inf"),
    "a=b": "a=b", "'1'": "1", "[1, 2]": [1, 2], "ROMEO:": None, "nan": "nan", "<<": "<<",
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_those_of_yaml_1_2(text: str) -> None:
    value = read_scalar(text)
    if text == "ROMEO:":  # a mapping, by YAML's rules
        assert value == {"ROMEO": None}
    else:
        assert (value, type(value)) == (SCALARS[text], type(SCALARS[text]))
    assert read_scalar(".nan") != read_scalar(".nan")


def test_a_scalar_that_is_not_yaml_is_text() -> None:
    for text in ("a: b: c", "[", "\x07", "*a", "'"):
        assert read_scalar(text) == text


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    text = "train:\n  learning_rate: 1e-4\n  max_steps: 3e4\n  weight_decay: 1\n  seed: 010\n"
    train = read(tmp_path, text).train
    assert (train.learning_rate, train.max_steps, train.weight_decay) == (1e-4, 30_000, 1.0)
    assert type(train.max_steps) is int
    assert train.seed == 10


# --- there and back ----------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
)
configs = st.builds(
    lambda text, prompt, rate, decay, folder, target: Config.model_validate(
        {
            "data": {"text": text},
            "train": {"learning_rate": rate, "decay": decay, "target_val_loss": target},
            "log": {"sample_prompt": prompt},
            "run": {"dir": folder},
        }
    ),
    st.one_of(st.none(), names, st.lists(names, min_size=1)),
    texts,
    st.floats(1e-300, 1e3),
    st.sampled_from(["none", "linear"]),
    st.one_of(st.none(), names, st.sampled_from(["1e5", ".5e3", "true", "null", "~", "0x1", "on"])),
    st.one_of(st.none(), st.floats(1e-9, 10)),
)


@settings(max_examples=40)
@given(configs)
def test_a_config_written_and_read_is_the_same(config: Config) -> None:
    assert overridden(config, {}) == config


@pytest.mark.parametrize("text", ["1e5", "-1E+5", ".5e3", "1.e3", "09", "+1", "2001-01-01", "1:2"])
def test_a_text_that_looks_like_a_number_stays_a_text(text: str) -> None:
    config = Config.model_validate({"data": {"text": [text]}, "run": {"dir": text}})
    assert overridden(config, {}) == config


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), ("é", "é"), ("\n", r'"\n"'), ("a\u2028b", r'"a\Lb"'), ("1e-4", "'1e-4'")],
)
def test_a_text_is_shown_on_one_line_in_quotes_where_it_needs_them(text: str, shown: str) -> None:
    assert yaml12.dump({"key": text}) == f"key: {shown}\n"


def test_the_yaml_shows_every_key_in_order() -> None:
    shown = yaml.safe_load(to_yaml(Config()))
    assert [f"{s}.{k}" for s, keys in shown.items() for k in keys] == list(fields())


def test_the_tables_of_rotary_positions_may_take_a_gibibyte() -> None:
    """Two tables of 4 bytes a number in each layer."""
    keys = {"positions": "rotary", "block_size": 2**20, "n_embd": 512, "n_head": 4}
    assert ModelConfig(**keys, n_layer=1).head_size == 128
    with pytest.raises(ValidationError, match="more than 1 GiB with block_size 1048576"):
        ModelConfig(**keys, n_layer=2)


# --- what travels with the project -------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_loads(path: Path) -> None:
    load_config(path)
    assert find_config(str(path.relative_to(CONFIGS))) == path
    assert find_config(str(path.relative_to(CONFIGS).with_suffix(""))) == path
    schema = CONFIGS / "schema.json"
    head = path.read_text("utf-8").splitlines()
    named = [line.partition("$schema=")[2] for line in head if "$schema=" in line]
    assert not (named and schema.exists()) or (path.parent / named[0]).resolve() == schema


def test_the_editors_schema_is_up_to_date() -> None:
    schema = CONFIGS / "schema.json"
    if not schema.exists():
        pytest.skip("no configs/schema.json yet")
    found = json.loads(schema.read_text("utf-8"))
    assert found == Config.model_json_schema(), "python -m gpt.config > configs/schema.json"


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    for name, what, fix in (
        ("tinny.yaml", "no config tinny.yaml", "did you mean tiny.yaml?"),
        ("zzzzzzzz", "no config zzzzzzzz", "tiny.yaml"),
        (str(tmp_path), f"{tmp_path} is a directory, not a config", "one of configs/: "),
    ):
        with pytest.raises(Mistake) as caught:
            find_config(name)
        assert (caught.value.exit_code, caught.value.what) == (Exit.USAGE, what)
        assert fix in caught.value.fix


def test_a_path_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("model:\n")
    assert find_config("tiny.yaml") == Path("tiny.yaml")
    assert find_config("tiny") == CONFIGS / "tiny.yaml"
