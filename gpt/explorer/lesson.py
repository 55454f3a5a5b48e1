"""The notes' example, as the page opens with it: the words of the walkthrough, and its numbers."""

from typing import Any

import torch

from gpt.explorer.tables import Table
from gpt.explorer.walkthrough import Step, notes_group, notes_steps

# the page's tables: the step that makes each, counted from 0, and how its title starts
TABLES = {
    "x": (0, "x of "),
    "query": (1, "query.weight.T  ("),
    "q": (1, "q  ("),
    "key": (2, "key.weight.T  ("),
    "k": (2, "k  ("),
    "value": (3, "value.weight.T  ("),
    "v": (3, "v  ("),
    "products": (4, "q · k  ("),
    "scores": (4, "scores = "),
    "covered": (5, "scores, covered  ("),
    "powers": (6, "e^score;"),
    "weights": (6, "weights  ("),
    "out": (7, "out  ("),
}
GIVEN = ("x", "query", "key", "value")  # the page computes the other tables from these


def notes_lesson() -> dict[str, Any]:
    """What the page tells and shows of the notes' first group: steps, tables, and `given`, the
    numbers of x (T, C) and of the three tools (C, D), row after row."""
    group = notes_group()
    with torch.random.fork_rng(devices=[]):  # whoever makes a page keeps their random numbers
        steps = list(notes_steps(group))
    tables = {name: _table(steps[step], start) for name, (step, start) in TABLES.items()}
    return {
        "names": group.names,
        "asker": group.query,
        "steps": [
            {"title": step.title, "sentence": step.sentence, "code": step.code} for step in steps
        ],
        # those of the other steps hold numbers, so the page writes them itself
        "remarks": [part for part in steps[0].parts if isinstance(part, str)],
        "tables": {
            name: {
                "step": TABLES[name][0],
                "title": table.title,
                "role": table.role,
                "columns": table.columns,
                "rows": [row for row, _ in table.rows],
            }
            for name, table in tables.items()
        },
        "given": {name: [cell for _, row in tables[name].rows for cell in row] for name in GIVEN},
    }


def _table(step: Step, start: str) -> Table:
    tables = (part for part in step.parts if isinstance(part, Table))
    (found,) = (table for table in tables if table.title.startswith(start))
    return found
