"""The command line: argparse with the project's error messages, and a flag for each config key."""

import argparse
import difflib
import reprlib
import sys
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from gpt.command.config_file import read_scalar
from gpt.config import Config, fields
from gpt.errors import BadValue, Exit, Mistake
from gpt.paths import expanded, require_path


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises `Mistake`, with the nearest known flag as the fix."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse_all(self, argv: list[str]) -> argparse.Namespace:
        """Like parse_args.

        Raises:
            Mistake: with exit code 2 for anything that cannot be parsed.
        """
        args, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].split("=")[0]
            near = difflib.get_close_matches(flag, self._option_string_actions, 1)
            fix = f"did you mean {near[0]}?" if near else f"see python {self.prog} --help"
            raise Mistake(Exit.USAGE, f"unknown argument {unknown[0]}", fix)
        return args

    def error(self, message: str) -> Any:
        raise Mistake(Exit.USAGE, message, f"see python {self.prog} --help")


def number(
    kind: type[int] | type[float], least: float, most: float | None = None
) -> Callable[[str], int | float]:
    """An argparse type: a number in [least, most], by default up to the largest of its kind."""
    limit = most if most is not None else sys.maxsize if kind is int else sys.float_info.max

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            wanted = "a number" if kind is float else "a whole number"
            raise argparse.ArgumentTypeError(f"{reprlib.repr(text)} is not {wanted}") from None
        if not least <= value <= limit:  # NaN is refused here too
            wanted = f"must be at least {least:g} and at most {limit:g}"
            raise argparse.ArgumentTypeError(f"{reprlib.repr(text)} {wanted}")
        return value

    return read


def not_empty(text: str) -> str:
    """An argparse type: any text but the empty one, which an unset shell variable gives."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; is a variable unset?")
    return text


def user_path(text: str) -> str:
    """An argparse type: a path, ~ expanded; not the empty one, which an unset variable gives."""
    try:
        return expanded(require_path(text))
    except BadValue as problem:
        raise argparse.ArgumentTypeError(f"{problem.what}; {problem.fix}") from None


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag of the same dotted name for each config key, grouped by section."""
    groups = {}
    for section, holder in Config.model_fields.items():
        summary = (holder.annotation.__doc__ or "").split("\n")[0]
        groups[section] = parser.add_argument_group(section, summary)
    for key, field in fields().items():
        flags = [f"--{key}", "--device"] if key == "train.device" else [f"--{key}"]
        is_choice = get_origin(field.annotation) is Literal
        choices = f" ({' | '.join(get_args(field.annotation))})" if is_choice else ""
        text = f"{field.description}{choices} [{field.default!r}]".replace("%", "%%")
        many = "+" if field.annotation == str | list[str] | None else None
        groups[key.split(".")[0]].add_argument(*flags, dest=key, metavar="X", nargs=many, help=text)


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """The config flags that were given: dotted key -> value as a config file would hold it."""
    given = {key: value for key in fields() if (value := getattr(args, key, None)) is not None}
    return {key: _read_flag(fields()[key].annotation, value) for key, value in given.items()}


def _read_flag(annotation: Any, value: Any) -> Any:
    if isinstance(value, list):
        return value if len(value) > 1 else value[0]
    return value if annotation is str or annotation == str | None else read_scalar(value)
