"""Modules as one script: their order, their scopes, and what is refused."""

import re
from collections import Counter

import pytest

from gpt.explorer import export
from gpt.explorer.bundle import bundle

NUMBERS = (
    "const two = 2;\nexport const three = 3;\nexport function half(x) {\n  return x / two;\n}\n"
)
PAGE = 'import { half } from "./numbers.js";\nhalf(4);\n'


def bundled(**modules: str) -> str:
    """Modules by their names, where __ stands for a slash, from page.js on."""
    sources = {f"{name.replace('__', '/')}.js": source for name, source in modules.items()}
    return bundle("page.js", sources.__getitem__)


def test_each_module_is_a_scope_that_returns_its_exports():
    assert bundled(page=PAGE, numbers=NUMBERS) == (
        "const numbers_js = (() => {\n"
        "const two = 2;\n"
        "const three = 3;\n"
        "function half(x) {\n  return x / two;\n}\n"
        "return { three, half };\n"
        "})();\n"
        "const page_js = (() => {\n"
        "const { half } = numbers_js;\n"
        "half(4);\n"
        "\n"
        "})();"
    )


def test_a_module_runs_once_and_after_all_that_it_imports():
    script = bundled(
        page='import { why } from "./views/why.js";\nimport { half } from "./numbers.js";\n',
        views__why='import {\n  half,\n} from "../numbers.js";\nexport const why = half(1);\n',
        numbers=NUMBERS,
    )
    order = re.findall(r"^const (\w+_js) = ", script, re.M)
    assert order == ["numbers_js", "views_why_js", "page_js"]
    assert "const { half } = numbers_js;\nconst why = half(1);" in script


def test_a_generator_is_exported():
    script = bundled(
        page='import { f } from "./steps.js";\nf();\n', steps="export function* f() {}\n"
    )
    assert "function* f() {}\nreturn { f };" in script


def test_imports_of_types_are_dropped():
    source = '/** @import { Matrix } from "./nowhere.js" */\nexport async function f() {}\n'
    assert "@import" not in bundled(page=source)


@pytest.mark.parametrize(
    "form",
    [
        'import numbers from "./numbers.js";',
        'import * as numbers from "./numbers.js";',
        'import "./numbers.js";',
        'import { half } from "lodash";',
        'const numbers = await import("./numbers.js");',
        "open(import.meta.url);",
        "export default 1;",
        "export let changing = 1;",
        "export class Head {}",
        "export { half };",
        'export * from "./numbers.js";',
    ],
)
def test_other_forms_are_refused_by_name(form):
    with pytest.raises(ValueError, match="^" + re.escape(f"page.js: not supported: {form}") + "$"):
        bundled(page=f"const a = 1;\n{form}\nopen();\n", numbers=NUMBERS)


def test_a_renamed_import_is_refused():
    with pytest.raises(ValueError, match="does not export half as h"):
        bundled(page='import { half as h } from "./numbers.js";\n', numbers=NUMBERS)


def test_a_name_that_is_not_exported_is_refused():
    with pytest.raises(ValueError, match=re.escape("page.js: numbers.js does not export two")):
        bundled(page='import { half, two } from "./numbers.js";\n', numbers=NUMBERS)


def test_imports_in_a_circle_are_refused():
    with pytest.raises(ValueError, match=re.escape("page.js -> a.js -> b.js -> a.js")):
        bundled(
            page='import { a } from "./a.js";\n',
            a='import { b } from "./b.js";\nexport const a = 1;\n',
            b='import { a } from "./a.js";\nexport const b = 1;\n',
        )


def test_page_holds_every_module_of_the_folder_once():
    files = export.HERE.rglob("*.js")
    names = {str(file.relative_to(export.HERE)) for file in files} - {"tab.js"}  # its own page
    found = Counter(re.findall(r"^const (\w+_js) = \(\(\) => ", export.script(), re.M))
    assert found == Counter(re.sub(r"\W", "_", name) for name in names)
