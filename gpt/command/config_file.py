"""From a YAML file and overrides to a validated `Config`; all mistakes are reported at once."""

import difflib
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gpt.command import yaml12
from gpt.config import Config, fields
from gpt.errors import BadValue, Exit, Mistake, decoded, reading
from gpt.paths import CONFIGS

MOST_BYTES = 2**20  # of a config
MOST_MISTAKES = 20  # that are told at once


def find_config(name: str) -> Path:
    """The file that `--config NAME` means: a path, or a name in configs/.

    Raises:
        Mistake: with exit code 2 if there is no such file.
    """
    with reading(name, Exit.USAGE, "give a config that you may read"):
        for path in (Path(name), CONFIGS / name, CONFIGS / f"{name}.yaml"):
            if path.is_file():
                return path
    known = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
    what = f"{name} is a directory, not a config" if Path(name).is_dir() else f"no config {name}"
    near = difflib.get_close_matches(name, known, 1, cutoff=0.75)
    choices = f"give a path, or one of configs/: {', '.join(known)}"
    raise Mistake(Exit.USAGE, what, f"did you mean {near[0]}?" if near else choices)


def load_config(path: Path, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML config and apply `overrides` (dotted key -> value).

    Raises:
        Mistake: with exit code 2 and every mistake found, each with its place.
    """
    with reading(path, Exit.USAGE, "give a config that you may read"), path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        what, fix = f"{path} has more than {MOST_BYTES} bytes", "a config is a short YAML file"
        raise Mistake(Exit.USAGE, what, fix)
    text = decoded(data, path, Exit.USAGE, "save the config as UTF-8 text")
    return _validate(_Document(text, str(path)), overrides or {})


def overridden(config: Config, overrides: dict[str, Any]) -> Config:
    """`config` with `overrides` applied.

    Raises:
        Mistake: with exit code 2 and every mistake found.
    """
    return _validate(_Document(to_yaml(config), "the run's config"), overrides)


def is_changeable(key: str) -> bool:
    """Whether the setting `key` may change when a run goes on; a text, only where it lies."""
    if key.startswith("train.optimizer"):
        return False
    return key == "data.text" or key.startswith(("train.", "log."))


def to_yaml(config: Config) -> str:
    """`config` as a YAML file that `load_config` reads back."""
    return yaml12.dump(config.model_dump())


def read_scalar(text: str) -> Any:
    """The value of `text` as a config file has it: 1e-4 -> 0.0001."""
    document = _Document(text, "the command line")
    return text if document.mistakes else document.values


class _Document:
    """A parsed YAML file: `values`, the line of each dotted key, and the mistakes in its form."""

    def __init__(self, text: str, source: str):
        self.source = source
        self.lines: dict[str, int] = {}
        self.mistakes: list[Mistake] = []
        self.values: Any = None
        try:
            if text.count("[") + text.count("{") > 500:
                raise RecursionError  # PyYAML takes time quadratic in their depth
            loader = yaml12.Loader(text)
            node = loader.get_single_node()
            self.values = self._build(loader, node, "") if node else None
        except (yaml.YAMLError, ValueError, RecursionError) as problem:
            self.mistakes = [_not_yaml(problem, source)]

    def place(self, key: str) -> str:
        """Where `key` stands: file:line, or the file if the key is not in it."""
        line = self.lines.get(key)
        return f"{self.source}:{line}" if line else self.source

    def _build(self, loader: yaml12.Loader, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.MappingNode) and path.count(".") == 0:
            return self._build_mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode) and path:
            return [loader.construct_object(item, deep=True) for item in node.value]
        return loader.construct_object(node, deep=True)

    def _build_mapping(
        self, loader: yaml12.Loader, node: yaml.MappingNode, path: str
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = _key(key_node)
            key, line = f"{path}.{name}".lstrip("."), key_node.start_mark.line + 1
            if name in values:
                lines = f"lines {self.lines[key]} and {line} of {self.source}"
                what = f"{key} is given twice, in {lines}"
                self.mistakes.append(Mistake(Exit.USAGE, what, "keep one of the two"))
            self.lines[key] = line
            values[name] = self._build(loader, value_node, key)
        return values


def _key(node: yaml.Node) -> str:
    """The key of a mapping. Anything but a non-empty text that UTF-8 can hold is refused."""
    try:
        if isinstance(node, yaml.ScalarNode) and node.value.encode():
            return str(node.value)
    except UnicodeEncodeError:
        pass
    raise yaml.constructor.ConstructorError(None, None, "this is no key", node.start_mark)


def _not_yaml(problem: Exception, source: str) -> Mistake:
    mark = getattr(problem, "problem_mark", None)
    place = f"{source}:{mark.line + 1}" if mark else source
    reason = getattr(problem, "problem", None) or getattr(problem, "reason", None)
    what = f"not a config: {reason or 'nested too deeply or not YAML'} ({place})"
    return Mistake(Exit.USAGE, what, "write `section:` and, indented, `key: value`")


def _validate(document: _Document, overrides: dict[str, Any]) -> Config:
    values, mistakes = document.values, document.mistakes
    if not mistakes and not isinstance(values, dict):
        holds = "is empty" if values is None else f"holds a {type(values).__name__}, not sections"
        fix = f"write sections: {', '.join(Config.model_fields)}"
        mistakes = [Mistake(Exit.USAGE, f"{document.source} {holds}", fix)]
    if not isinstance(values, dict):
        raise _together(mistakes)
    values = {name: {} if section is None else section for name, section in values.items()}
    for key, value in overrides.items():
        section, name = key.split(".", 1)
        if isinstance(values.setdefault(section, {}), dict):
            values[section][name] = value
    try:
        config = Config.model_validate(values)
    except ValidationError as problem:
        raise _together([*mistakes, *_explanations(problem, document, overrides)]) from None
    if mistakes:
        raise _together(mistakes)
    return config


def _together(mistakes: list[Mistake]) -> Mistake:
    first, *more = mistakes
    if (left := len(mistakes) - MOST_MISTAKES) > 0:
        rest = Mistake(Exit.USAGE, f"{left} more mistakes", "fix these first")
        more = [*more[: MOST_MISTAKES - 1], rest]
    first.more = tuple(more)
    return first


def _explanations(
    problem: ValidationError, document: _Document, overrides: dict[str, Any]
) -> Iterator[Mistake]:
    """A mistake for each key; those that are too many to be told are not explained."""
    errors = {".".join(map(str, error["loc"][:2])): error for error in problem.errors()}
    for number, (key, error) in enumerate(errors.items()):
        place = f"--{key}" if key in overrides else document.place(key)
        # to look for the key that was meant takes time
        what, fix = _explain(key, error) if number < MOST_MISTAKES else ("", "")
        yield Mistake(Exit.USAGE, f"{what} ({place})", fix)


def _explain(key: str, error: Any) -> tuple[str, str]:
    """What is wrong with `key`, and the fix."""
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}", _nearest(key, is_section=len(error["loc"]) == 1)
    field = fields().get(key)
    reason = error.get("ctx", {}).get("error")
    if isinstance(reason, BadValue):  # from a validator of gpt.config, of a key or of a section
        return f"{key}: {reason.what}" if field else reason.what, reason.fix
    message = error["msg"][0].lower() + error["msg"][1:]
    what = f"{key} is {reprlib.repr(error['input'])}: {message}"
    if field:
        return what, f"{key}: {field.description}; default {field.default!r}"
    return what, "write `section:` and, indented, keys"


def _nearest(key: str, is_section: bool) -> str:
    """The fix for an unknown key: its section if that is what is missing, or the nearest key."""
    homes = [known for known in fields() if key in (known, known.split(".")[1])]
    if is_section and homes:
        section, name = homes[0].split(".")
        return f"write `{section}:` and, indented, `{name}:`"
    known = [*fields(), *Config.model_fields]
    if near := difflib.get_close_matches(key, known, 1, cutoff=0.75):
        return f"did you mean {near[0]}?"
    siblings = [other for other in known if other.startswith(f"{key.split('.')[0]}.")]
    return f"known: {', '.join(siblings or Config.model_fields)}"
