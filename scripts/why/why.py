"""Why is attention as it is? Change one thing, train, and see what it costs.

python scripts/why scale    # why are the scores divided by the root of head_size?
python scripts/why mask     # why may no character attend to a later one?
python scripts/why value    # why a query, a key and a value, and not less?
python scripts/why heads    # why several heads?

The models of a question differ in one thing alone: with the same seed they start with the same
weights and read the same batches. All that is not said here is as in configs/ladder/. The answer is
the last sentence; it claims what differs by more than the seeds do.
"""

import sys
import textwrap
from pathlib import Path
from statistics import mean
from typing import Any

import heads
import mask
import scale
import torch
import value
from matplotlib.figure import Figure
from measures import write
from question import Found, Question
from training import find

from gpt import paths
from gpt.command.cli import Parser, number, user_path
from gpt.command.process import ending_with_reader
from gpt.data.corpus import load_corpus
from gpt.data.sources import settled
from gpt.errors import Exit, say
from gpt.storage.run_directory import for_shell

QUESTIONS = {
    "scale": scale.QUESTION,
    "mask": mask.QUESTION,
    "value": value.QUESTION,
    "heads": heads.QUESTION,
}


def main(argv: list[str]) -> int:
    """Print a table, a row as soon as it is found, and the answer; write a figure and curves."""
    parser = Parser(prog="scripts/why", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    asked = "; ".join(f"{name}: {question.asks}" for name, question in QUESTIONS.items())
    add("question", choices=QUESTIONS, help=asked)
    add("--seeds", type=number(int, 1), default=3, metavar="N", help="trainings of a model [3]")
    steps = "optimizer steps [as many as take two minutes on two cores]"
    add("--steps", type=number(int, 1), metavar="N", help=steps)
    text = "your own UTF-8 text [tinyshakespeare]"
    add("--data.text", dest="text", metavar="X", nargs="+", type=user_path, help=text)
    args = parser.parse_all(argv)
    overrides = {"train.max_steps": args.steps} if args.steps else {}
    if args.text:
        overrides["data.text"] = settled(args.text if len(args.text) > 1 else args.text[0], say)
    folder = paths.RUNS / "why" / args.question
    answer(QUESTIONS[args.question], overrides, args.seeds, folder)
    picture = for_shell(folder / f"{args.question}.png")
    say(f"figure: {picture}; curves: tensorboard --logdir {for_shell(folder)}")
    return Exit.DONE


def answer(
    question: Question, overrides: dict[str, Any], seeds: int, folder: Path
) -> dict[str, Found]:
    """Print the answer to a question, and what it rests on; write a figure."""
    first = question.config(question.variants[0], overrides)
    torch.set_num_threads(first.train.threads)
    corpus = load_corpus(first, say)
    many = f"{seeds} seeds; ± is half of their range" if seeds > 1 else "one seed"
    _print(f"{question.asks} {first.train.max_steps:,} steps, {many}.\n")
    _print(_row("", [heading for heading, _ in question.columns.values()]))
    _print(_row("---", ["---"] * len(question.columns)))
    found = {}
    for variant in question.variants:
        configs = (question.config(variant, overrides, seed) for seed in range(seeds))
        one = found[variant.name] = find(question, variant, corpus, configs, folder)
        cells = [_cell(one.numbers[key], form) for key, (_, form) in question.columns.items()]
        _print(_row(variant.name, cells))
    for name, one in found.items() if question.writes else ():
        _print(f"\n{name}, it writes:\n{write(one.subject, 200)}")
    figure = Figure(figsize=(10, 3.8), layout="constrained", facecolor="white")
    question.draw(figure, found)
    figure.savefig(folder / f"{folder.name}.png", dpi=120)
    caution = "With one seed: " if seeds == 1 else ""
    sentence = question.answer({name: one.numbers for name, one in found.items()})
    _print("\n" + textwrap.fill(caution + sentence, 100))
    return found


def _row(name: str, cells: list[str]) -> str:
    return f"| {name:<29} | {' | '.join(f'{cell:>20}' for cell in cells)} |"


def _cell(values: list[float], form: str) -> str:
    """The mean over the seeds and, where they differ, half of their range."""
    half = (max(values) - min(values)) / 2
    return f"{mean(values):{form}}" + (f" ± {half:{form}}" if half else "")


def _print(text: str) -> None:
    with ending_with_reader(sys.stdout):
        print(text, flush=True)
