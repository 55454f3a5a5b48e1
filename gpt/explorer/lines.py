"""The statements of model.py that the page and the walkthrough show beside their steps."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from gpt.model import GPT, Block, MultiHeadAttention, attend

# each is found in a function, by the words it starts with
STATEMENTS: dict[str, tuple[Callable[..., Any], str]] = {
    "embed": (GPT.embed, "x = self.token_embedding"),
    "shift": (GPT.embed, "x = x + self.token_shift"),
    "position": (GPT.embed, "x = x + self.position"),
    "norm": (Block.forward, "attended = "),
    "qkv": (MultiHeadAttention.qkv, "q, k, v = "),
    "rotary": (MultiHeadAttention.qkv, "q, k = "),
    "qk_norm": (MultiHeadAttention.qkv, "return "),
    "score": (attend, "scores = (q"),
    "mask": (attend, "scores = scores"),
    "softmax": (attend, "weights = "),
    "mix": (attend, "return "),
    "project": (MultiHeadAttention.forward, "return "),
    "residual": (Block.forward, "x = x + attended"),
    "read_out": (GPT.read_out, "logits = "),
}


def source_lines() -> dict[str, dict[str, Any]]:
    """Number of the line and text of each statement."""
    return {name: find_statement(*where) for name, where in STATEMENTS.items()}


def find_statement(function: Callable[..., Any], start: str) -> dict[str, Any]:
    """The statement of `function` that starts with `start`, on one line and without comments.

    Raises:
        ValueError: unless there is exactly one.
    """
    lines, first = inspect.getsourcelines(function)
    source = textwrap.dedent("".join(lines))
    statements = [
        {"number": first + node.lineno - 1, "text": on_one_line(segment)}
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
        if (segment := ast.get_source_segment(source, node) or "").startswith(start)
    ]
    if len(statements) != 1:
        raise ValueError(
            f"{len(statements)} statements of {function.__qualname__} start with {start!r}, not 1"
        )
    return statements[0]


def on_one_line(statement: str) -> str:
    # "f( a, b, )" becomes "f(a, b)"
    text = " ".join(line.split("  # ")[0].strip() for line in statement.splitlines())
    return re.sub(r"(?<=\() | (?=\))|,(?= \))", "", text)
