"""From a YAML file and dotted flags to a validated `Config`, with every mistake named at once."""

import argparse
import difflib
import math
import re
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import yaml
from pydantic import ValidationError

from gpt.config import CONFIGS, Config, fields
from gpt.errors import Exit, Mistake

# --- YAML, without its surprises ---------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars: 1e-4 is a number, 010 is ten, `on` and 1:30 are text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}
for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), None
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda _, node: float(node.value.replace(".inf", "inf").replace(".nan", "nan")),
)


class _Document:
    """A parsed YAML file: `values`, the line of each dotted key, and the mistakes in its form."""

    def __init__(self, text: str, source: str):
        self.source = source
        self.lines: dict[str, int] = {}
        self.mistakes: list[Mistake] = []
        self.values: Any = None
        try:
            if text.count("[") + text.count("{") > 500:
                raise RecursionError  # PyYAML's time grows with the square of their depth
            loader = _Loader(text)
            node = loader.get_single_node()
            self.values = self._build(loader, node, "") if node else None
        except (yaml.YAMLError, ValueError, RecursionError) as problem:
            self.mistakes = [_yaml_mistake(problem, source)]

    def place(self, key: str) -> str:
        line = self.lines.get(key)
        return f"{self.source}:{line}" if line else self.source

    def _build(self, loader: _Loader, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.MappingNode) and path.count(".") == 0:
            return self._build_mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode) and path:
            return [loader.construct_object(item, deep=True) for item in node.value]
        return loader.construct_object(node, deep=True)

    def _build_mapping(self, loader: _Loader, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value)
            key, line = f"{path}.{name}".lstrip("."), key_node.start_mark.line + 1
            if name in values:
                what = (
                    f"{key} is given twice, in lines {self.lines[key]} and {line} of {self.source}"
                )
                self.mistakes.append(Mistake(Exit.USAGE, what, "keep one of the two"))
            self.lines[key] = line
            values[name] = self._build(loader, value_node, key)
        return values


def _yaml_mistake(problem: Exception, source: str) -> Mistake:
    mark = getattr(problem, "problem_mark", None)
    place = f"{source}:{mark.line + 1}" if mark else source
    told = getattr(problem, "problem", None) or getattr(problem, "reason", None)
    what = told or "nested too deeply or not YAML"
    return Mistake(
        Exit.USAGE,
        f"not a config: {what} ({place})",
        "write `section:` and, indented, `key: value`",
    )


def read_scalar(text: str) -> Any:
    """The value of `text` as the config files would read it: 1e-4 -> 0.0001."""
    document = _Document(text, "the command line")
    return text if document.mistakes else document.values


# --- from files and flags to a Config ----------------------------------------------------------


def find_config(name: str) -> Path:
    """The file that `--config NAME` means: a path, or a name in configs/."""
    for path in (Path(name), CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if path.is_file():
            return path
    known = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
    what = f"{name} is a directory, not a config" if Path(name).is_dir() else f"no config {name}"
    near = difflib.get_close_matches(name, known, 1, cutoff=0.75)
    fix = (
        f"did you mean {near[0]}?"
        if near
        else f"give a path, or one of configs/: {', '.join(known)}"
    )
    raise Mistake(Exit.USAGE, what, fix)


def load_config(path: Path, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML config and lay `overrides` (dotted key -> value) over it.

    Raises:
        Mistake: with exit code 2 and every mistake found, each with its place.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        what = f"{path} is not UTF-8: byte {problem.start} is 0x{problem.object[problem.start]:02x}"
        raise Mistake(Exit.USAGE, what, "save the config as UTF-8 text") from None
    if len(text) > 2**20:
        raise Mistake(
            Exit.USAGE,
            f"{path} has {len(text)} characters",
            "is this a config? it should be a short YAML file",
        )
    return _validate(_Document(text, str(path)), overrides or {})


def _validate(document: _Document, overrides: dict[str, Any]) -> Config:
    values, mistakes = document.values, document.mistakes
    if not mistakes and not isinstance(values, dict):
        what = "is empty" if values is None else f"holds a {type(values).__name__}, not sections"
        mistakes = [
            Mistake(
                Exit.USAGE,
                f"{document.source} {what}",
                f"write sections: {', '.join(Config.model_fields)}",
            )
        ]
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
        found = dict(_explain_all(problem, document, overrides))
        raise _together([*mistakes, *found.values()]) from None
    if mistakes:
        raise _together(mistakes)
    return config


def _together(mistakes: list[Mistake]) -> Mistake:
    first, *more = mistakes
    first.more = tuple(more)
    return first


def _explain_all(
    problem: ValidationError, document: _Document, overrides: dict[str, Any]
) -> Iterator[tuple[str, Mistake]]:
    for error in problem.errors():
        key = ".".join(str(part) for part in error["loc"][:2])
        place = f"--{key}" if key in overrides else document.place(key)
        what, fix = _explain(key, error)
        yield key, Mistake(Exit.USAGE, f"{what} ({place})", fix)


def _explain(key: str, error: Any) -> tuple[str, str]:
    if error["type"] == "extra_forbidden":
        known = [*fields(), *Config.model_fields]
        homes = [k for k in fields() if len(error["loc"]) == 1 and key in (k, k.split(".")[1])]
        if homes:
            section, name = homes[0].split(".")
            return f"unknown key {key}", f"write `{section}:` and, indented, `{name}:`"
        near = difflib.get_close_matches(key, known, 1, cutoff=0.75)
        section = key.split(".")[0]
        siblings = [k for k in known if k.startswith(f"{section}.")] or list(Config.model_fields)
        return (
            f"unknown key {key}",
            f"did you mean {near[0]}?" if near else f"known: {', '.join(siblings)}",
        )
    if error["type"] == "value_error":  # from a validator above, which says both parts itself
        what, _, fix = str(error["ctx"]["error"]).rpartition(": ")
        return what, fix
    message = error["msg"][0].lower() + error["msg"][1:]
    what = f"{key} is {reprlib.repr(error['input'])}: {message}"
    field = fields().get(key)
    return (
        what,
        f"{key}: {field.description}; default {field.default!r}"
        if field
        else "write `section:` and, indented, keys",
    )


# --- the command line --------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse that reports as the contract says, and knows the nearest flag."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse_all(self, argv: list[str]) -> argparse.Namespace:
        """Like parse_args; an unknown flag is answered with the nearest known one."""
        args, unknown = self.parse_known_args(argv)
        if unknown:
            near = difflib.get_close_matches(
                unknown[0].split("=")[0], self._option_string_actions, 1
            )
            fix = f"did you mean {near[0]}?" if near else f"see python {self.prog} --help"
            raise Mistake(Exit.USAGE, f"unknown argument {unknown[0]}", fix)
        return args

    def error(self, message: str) -> Any:
        raise Mistake(Exit.USAGE, message, f"see python {self.prog} --help")


def number(
    kind: type[int] | type[float], least: float, most: float = math.inf
) -> Callable[[str], int | float]:
    """An argparse type: a number in [least, most]."""

    def read(text: str) -> int | float:
        value = kind(text)
        if not least <= value <= most:  # NaN is not either
            upper = "" if most == math.inf else f" and at most {most:g}"
            raise argparse.ArgumentTypeError(f"{text} must be at least {least:g}{upper}")
        return value

    read.__name__ = "number" if kind is float else "whole number"
    return read


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """A flag of the same dotted name for each key, grouped by section, with meaning and default."""
    for section, holder in Config.model_fields.items():
        group = parser.add_argument_group(section, (holder.annotation.__doc__ or "").split("\n")[0])
        for key, field in fields().items():
            if key.startswith(f"{section}."):
                flags = [f"--{key}", "--device"] if key == "train.device" else [f"--{key}"]
                choices = (
                    f" ({' | '.join(get_args(field.annotation))})"
                    if _is_choice(field.annotation)
                    else ""
                )
                text = f"{field.description}{choices} [{field.default!r}]".replace("%", "%%")
                many = "+" if field.annotation == str | list[str] | None else None
                group.add_argument(*flags, dest=key, metavar="X", nargs=many, help=text)


def _is_choice(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is Literal


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """The dotted flags that were given, read as the config files would read them."""
    given = {key: value for key in fields() if (value := getattr(args, key, None)) is not None}
    return {key: _read_flag(fields()[key].annotation, value) for key, value in given.items()}


def _read_flag(annotation: Any, value: Any) -> Any:
    if isinstance(value, list):
        return value if len(value) > 1 else value[0]
    return value if annotation is str or annotation == str | None else read_scalar(value)


def overridden(config: Config, overrides: dict[str, Any]) -> Config:
    """`config` with `overrides` laid over it; mistakes are named as those of a file are."""
    return _validate(_Document(config.to_yaml(), "the run's config"), overrides)
