"""YAML without its surprises: the scalars of YAML 1.2, read and written.

PyYAML reads YAML 1.1, where 1e-4 is text, 010 is eight, 1:30 is ninety and `on` is true.
"""

import re
import reprlib
from typing import Any, ClassVar

import yaml


class Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, 010 as ten, `on` and 1:30 as text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of `node`; whatever Python says of a scalar gets the scalar's place."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
            kind = node.tag.rpartition(":")[2]
            what = f"{reprlib.repr(node.value)} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from problem


_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}
for _name, _pattern in _SCALARS.items():
    Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), None
    )
Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda _, node: float(node.value.replace(".inf", "inf").replace(".nan", "nan")),
)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that a YAML reader could take for numbers; escapes line breaks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.splitlines() == [text] else '"'
    ),
)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[.0-9]+([eE][-+]?[0-9]+)?\Z"), None
)


def dump(values: dict[str, Any]) -> str:
    """`values` as YAML, the keys in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
