"""JavaScript modules as one script, for a page that must be a single file.

Each module becomes a function that returns what it exports, called once, after those it imports:

    const numbers_js = (() => {
    ...
    return { row, dot };
    })();

Only these forms are supported, each at the start of a line; all others are refused by name:

    import { a, b } from "./x.js";
    export const, export function, export function*, export async function

Imports of types, `/** @import { A } from "./x.js" */`, are dropped.
"""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

IMPORT = re.compile(r'^import \{([^{}]*)\} from "(\.[^"]*)";$', re.M)
TYPES = re.compile(r"^/\*\* @import .* \*/\n", re.M)
EXPORT = re.compile(r"^export ((?:const|function\*?|async function) (\w+))", re.M)
OTHER_FORM = re.compile(r"^\s*(?:import|export)\b.*|^.*\bimport\s*[.(].*", re.M)


@dataclass(frozen=True)
class Module:
    """A module's name, a path below the folder of all; the names it exports; its code, wrapped."""

    name: str
    exports: tuple[str, ...]
    code: str


def bundle(entry: str, read: Callable[[str], str]) -> str:
    """The module `entry` and all that it imports as one script.

    Args:
        entry: as all names of modules, a path such as "views/why.js".
        read: gives the source of a module by its name.

    Raises:
        ValueError: for a form that is not supported, a cycle of imports, or a name that is
            imported but not exported.
    """
    modules: dict[str, Module] = {}  # in the order in which they must run

    def visit(name: str, importers: tuple[str, ...]) -> Module:
        if name in importers:
            raise ValueError(f"imports in a circle: {' -> '.join([*importers, name])}")
        if name not in modules:
            modules[name] = wrap(name, read(name), lambda other: visit(other, (*importers, name)))
        return modules[name]

    visit(entry, ())
    return "\n".join(module.code for module in modules.values())


def wrap(name: str, source: str, module_of: Callable[[str], Module]) -> Module:
    """The module `name`; `module_of` gives those that it imports."""

    def bind(found: re.Match[str]) -> str:
        imported = module_of(posixpath.normpath(posixpath.join(posixpath.dirname(name), found[2])))
        names = [word.strip() for word in found[1].split(",") if word.strip()]
        if missing := sorted(set(names) - set(imported.exports)):
            raise ValueError(f"{name}: {imported.name} does not export {', '.join(missing)}")
        return f"const {{ {', '.join(names)} }} = {variable(imported.name)};"

    exports = tuple(found[2] for found in EXPORT.finditer(source))
    body = EXPORT.sub(r"\1", IMPORT.sub(bind, TYPES.sub("", source)))
    if other := OTHER_FORM.search(body):
        raise ValueError(f"{name}: not supported: {other[0].strip()}")
    result = f"return {{ {', '.join(exports)} }};" if exports else ""
    return Module(name, exports, f"const {variable(name)} = (() => {{\n{body}{result}\n}})();")


def variable(name: str) -> str:
    return re.sub(r"\W", "_", name)
