"""Walk through one head of self-attention: the notes' example, or a trained model's head.

python scripts/walkthrough.py --step
python scripts/walkthrough.py --run runs/mine --text "To be, or not to be" --head L2H1
"""

import argparse
import math
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.command.cli import Parser, number, user_path
from gpt.command.process import ending_with_reader, run_command
from gpt.errors import Exit, Mistake, say

if TYPE_CHECKING:
    from gpt.explorer.tables import Cell, Table
    from gpt.explorer.walkthrough import Line, Step
    from gpt.model import GPT

WIDTH = 80  # columns
STYLES = {  # the page's hues, about as dark on white as bright on black
    "query": "38;5;32",
    "key": "38;5;166",
    "value": "38;5;29",
    "weights": "38;5;133",
    "dim": "38;5;243",
    "strong": "1",
}
PROMPT = "Enter: next step, q: end"
GO_ON, END = (b"\r", b"\n", b" "), (b"q", b"\x04", b"")  # keys; Ctrl-D; the terminal is gone

Paint = Callable[..., str]  # (text, *styles) -> text


def main(argv: list[str]) -> int:
    """Print the steps on stdout."""
    args = _arguments(argv)
    if args.step and not sys.stdin.isatty():
        fix = "leave --step out, or run it in a terminal"
        raise Mistake(Exit.USAGE, "--step waits for a key, and stdin is no terminal", fix)
    is_model = args.run or args.head or args.text is not None
    walk = _model_walk(args) if is_model else _notes_walk(args)
    with ending_with_reader(sys.stdout):
        _show(walk, _painter(args.plain), args.step)
    return Exit.DONE


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="scripts/walkthrough.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--run", type=user_path, help="a trained model: a run, for its best checkpoint, or a "
        "checkpoint [with --text or --head the newest run, else the notes' example]")  # fmt: skip
    add("--text", help="what the model reads [the run's log.probe]")
    add("--head", metavar="LxHy", type=_head, help="head y of layer x, counted from 1 [L1H1]")
    add("--query", metavar="N", type=number(int, 1),
        help="the child or character that asks, counted from 1 [the last one]")  # fmt: skip
    add("--step", action="store_true", help="wait for a key after each step")
    add("--plain", action="store_true", help="no colours, as in a pipe or with NO_COLOR")
    return parser.parse_all(argv)


def _head(text: str) -> tuple[int, int]:
    """Layer and head, counted from 0."""
    found = re.fullmatch(r"L(\d{1,4})H(\d{1,4})", text, re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no head; L2H1 is layer 2, head 1")
    return int(found[1]) - 1, int(found[2]) - 1


# --- the two walks -----------------------------------------------------------------------------

Walk = tuple[str, list["Step"], str]  # what is walked through, the steps, what to do next


def _notes_walk(args: argparse.Namespace) -> Walk:
    from gpt.explorer.walkthrough import notes_group, notes_steps

    group = notes_group(_query(args, 3, "a group has 3 children"))
    intro = "Self-attention, the example of the notes: B, T, C = 4, 3, 5 and head_size 6."
    outro = (
        "The same in a model that you trained:\n"
        'python scripts/walkthrough.py --text "ROMEO:" --head L1H1'
    )
    return intro, list(notes_steps(group)), outro


def _model_walk(args: argparse.Namespace) -> Walk:
    # imports of torch, which --help does not need
    from gpt.attention.trace import head_name
    from gpt.explorer.export import default_text, encodable
    from gpt.explorer.walkthrough import model_steps, text_group
    from gpt.storage.find import find_checkpoint
    from gpt.storage.run_directory import for_shell, newest_run

    run = Path(args.run) if args.run else newest_run()
    checkpoint = find_checkpoint(str(run), say)
    model, place = checkpoint.make_model(), args.head or (0, 0)
    _require_head(model, *place)
    text = encodable(checkpoint, default_text(checkpoint) if args.text is None else args.text)
    group = text_group(text, _query(args, len(text), f"the text has {len(text)} characters"))
    intro = f"Head {head_name(*place)} of {for_shell(run)}, step {checkpoint.progress.step}.\n"
    intro += f"Character {group.asker} asks"
    if len(group.shown) < len(text):
        intro += f"; {len(group.shown)} of {len(text)} characters are shown, the sums are over all"
    steps = list(model_steps(model, checkpoint.tokenizer.encode(text), group, *place))
    return (
        f"{intro}.",
        steps,
        f"All heads, in a browser:\npython scripts/explore.py {for_shell(run)}",
    )


def _query(args: argparse.Namespace, size: int, why: str) -> int | None:
    """The place of the one that asks, counted from 0."""
    if args.query is None:
        return None
    if args.query > size:
        raise Mistake(Exit.USAGE, f"--query {args.query}: {why}", f"give --query 1 to {size}")
    return args.query - 1


def _require_head(model: "GPT", layer: int, head: int) -> None:
    from gpt.attention.decompose import check_head
    from gpt.attention.trace import head_name

    try:
        check_head(model, layer, head)
    except ValueError as problem:
        last = head_name(model.config.n_layer - 1, model.config.n_head - 1)
        fix = (
            f"give --head L1H1 to {last}"
            if model.config.n_layer
            else "choose a run of a model with attention"
        )
        raise Mistake(Exit.USAGE, str(problem), fix) from None


# --- on the terminal ---------------------------------------------------------------------------


def _painter(plain: bool) -> Paint:
    """A function that colours text, where colours are wanted and understood."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def paint(text: str, *styles: str) -> str:
        codes = ";".join(STYLES[style] for style in styles if style)
        return f"\x1b[{codes}m{text}\x1b[0m" if codes else text

    def leave(text: str, *_: str) -> str:
        return text

    return leave if plain or os.environ.get("NO_COLOR") or not terminal else paint


def _show(walk: Walk, paint: Paint, step_by_step: bool) -> None:
    intro, steps, outro = walk
    print(intro, end="\n\n")
    for i, step in enumerate(steps):
        print("\n".join(_step_lines(step, f"{i + 1} of {len(steps)}", paint)), flush=True)
        if step_by_step and i + 1 < len(steps) and not _wants_more():
            return
    print(outro)


def _wants_more() -> bool:
    """Wait for a key on the terminal: whether it asks for the next step."""
    try:
        import termios  # not everywhere, and only --step needs it
        import tty
    except ImportError:  # Windows: a line at a time
        return not input(f"{PROMPT} ").startswith("q")

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)  # a key at a time; Ctrl-C is still a signal
        print(PROMPT, end="", flush=True)
        while (key := os.read(terminal, 1)) not in (*GO_ON, *END):
            pass
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        print("\r" + " " * len(PROMPT) + "\r", end="", flush=True)
    return key in GO_ON


def _step_lines(step: "Step", place: str, paint: Paint) -> Iterator[str]:
    head = f"── {place} ── {step.title} "
    yield paint(head + "─" * (WIDTH - len(head)), "strong")
    yield from _wrapped(step.sentence)
    for line in step.code:
        yield from (paint(text, "dim") for text in _code_lines(line))
    for part in step.parts:
        yield ""
        yield from _wrapped(part, "  ") if isinstance(part, str) else _table_lines(part, paint)
    yield ""


def _code_lines(line: "Line") -> list[str]:
    label = f"gpt/model.py:{line['number']}  "
    indent = " " * len(label)
    return textwrap.wrap(
        label + line["text"], WIDTH, subsequent_indent=indent, break_on_hyphens=False
    )


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _table_lines(table: "Table", paint: Paint) -> Iterator[str]:
    """Title, column heads and rows."""
    names = max(_columns(name) for name, _ in table.rows)
    texts, width = _fitted(table, WIDTH - 2 - names)
    yield "  " + paint(table.title, table.role or ("dim" if table.seen else ""))
    yield paint(" " * (2 + names) + "".join(_right(head, width) for head in table.columns), "dim")
    for (name, cells), row in zip(table.rows, texts, strict=True):
        strong = "strong" if name == table.strong else ""
        line = "  " + paint(name, strong) + " " * (names - _columns(name))
        for cell, text in zip(cells, row, strict=True):
            known = cell == 0 or (table.seen and cell != -math.inf)
            line += paint(_right(text, width), strong, "dim" if known else "")
        yield line.rstrip()


def _fitted(table: "Table", room: int) -> tuple[list[list[str]], int]:
    """The cells as text, with up to four decimals: as many as fit; and the width of a column."""
    room //= len(table.columns)
    for decimals in (4, 3, 2, 1, 0):
        texts = [[_written(cell, decimals) for cell in cells] for _, cells in table.rows]
        widest = max(_columns(text) for row in [table.columns, *texts] for text in row)
        if widest < room:
            break
    return texts, max(widest + 1, min(room, 9))


def _written(cell: "Cell", decimals: int) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:.4e}" if 1e8 <= abs(cell) < math.inf else f"{cell:z.{decimals}f}"


def _right(text: str, width: int) -> str:
    return " " * (width - _columns(text)) + text


def _columns(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


if __name__ == "__main__":
    sys.exit(run_command(main))
