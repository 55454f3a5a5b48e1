"""Climb the lecture's ladder: train each rung of configs/ladder/ and show what each part buys.

python scripts/ladder.py                      # all rungs; the GPT only where there is a GPU
python scripts/ladder.py --quick              # all but the GPT, a quarter of the steps
python scripts/ladder.py 5-residual 6-norm    # these two

The runs are those of train.py, in runs/ladder/. A rung that is trained already is taken from there;
one that was stopped goes on. Flags of train.py are handed to it; write them as --KEY=VALUE.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from gpt import paths
from gpt.command.cli import Parser, add_config_flags, number, overrides_of, user_path
from gpt.command.config_file import load_config, overridden, to_yaml
from gpt.command.process import ending_with_reader, run_command
from gpt.config import Config
from gpt.data.sources import settled
from gpt.errors import Exit, Mistake, say
from gpt.storage.run_directory import checkpoints_of, for_shell

if TYPE_CHECKING:
    from gpt.storage.checkpoint import Checkpoint


class Rung(NamedTuple):
    """What a rung adds to the one before it."""

    adds: str
    lecture: float | None = None  # loss of the lecture's code [nats a character]
    before: str | None = None  # the rung that it is compared with


RUNGS = {  # the lecture's code was evaluated as ours is; of its GPT, Karpathy reports the loss
    "1-bigram": Rung("one table", 2.489),
    "2-one-head": Rung("one head of size 32", 2.405, "1-bigram"),
    "3-several-heads": Rung("four heads of size 8 instead", 2.275, "2-one-head"),
    "4-feed-forward": Rung("a feed-forward layer", 2.235, "3-several-heads"),
    "5-residual": Rung("three blocks, residual connections", 2.076, "4-feed-forward"),
    "6-norm": Rung("LayerNorm", 2.055, "5-residual"),
    "7-gpt": Rung("6 layers, 384 wide, 256 characters", 1.48, "6-norm"),
    "8-modern": Rung("rung 6 in the form of tiny.yaml", None, "6-norm"),
}
GPT = "7-gpt"
QUICK = 4  # which share of the steps is trained: one in so many
SAMPLE = 200  # characters
COLUMNS = ("rung", "parameters", "val loss", "bought", "lecture", "seconds", "what was added")


class Climbed(NamedTuple):
    """A rung, trained with each seed."""

    name: str
    runs: list["Checkpoint"]  # the last one of each

    @property
    def losses(self) -> list[float]:
        """Exact validation loss of each seed [nats a character]."""
        return [run.progress.val_loss for run in self.runs if run.progress.val_loss is not None]


def main(argv: list[str]) -> int:
    """Print a table in Markdown, each row as its rung is trained, then a sample of each rung."""
    args, overrides = _arguments(argv)
    out = Path(args.out) if args.out else paths.RUNS / "ladder" / ("quick" if args.quick else "")
    known = {path.stem: path for path in sorted((paths.CONFIGS / "ladder").glob("*.yaml"))}
    unknown = [name for name in args.rungs if name not in known]
    if unknown:
        raise Mistake(Exit.USAGE, f"no rung {unknown[0]}", f"there are: {', '.join(known)}")
    say(f"curves, samples and attention: tensorboard --logdir {for_shell(out)}")
    _print("Loss in nats per character, exact; the lecture's code is trained with all steps.\n")
    _print(_row(COLUMNS))
    _print(_row(["---"] * len(COLUMNS)))
    climbed: dict[str, Climbed] = {}
    for name in args.rungs or known:
        if name == GPT and not args.rungs and (args.quick or not _has_gpu()):
            _print(_row([name, "", "not here", "", f"{RUNGS[GPT].lecture}", "", RUNGS[GPT].adds]))
            say(f"{name} takes hours without a GPU; to train it: python scripts/ladder.py {name}")
            continue
        config = load_config(known[name], overrides)
        if args.quick:
            steps = max(1, config.train.max_steps // QUICK)
            config = overridden(config, {"train.max_steps": steps})
        climbed[name] = Climbed(name, [_run(config, seed, out, name) for seed in range(args.seeds)])
        _print(_row(_cells(climbed, name)))
    for rung in climbed.values():
        _print(f"\n{rung.name} writes:\n{_sample(rung.runs[0])}")
    draw(climbed, out / "ladder.png")
    say(f"figure: {for_shell(out / 'ladder.png')}")
    return Exit.DONE


def _arguments(argv: list[str]) -> tuple[Any, dict[str, Any]]:
    """The arguments, and the config flags among them: dotted key -> value."""
    parser = Parser(prog="scripts/ladder.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("rungs", nargs="*", help="names in configs/ladder/ [all; 7-gpt only with a GPU]")
    add("--quick", action="store_true", help="a quarter of the steps: two minutes on two cores")
    add("--seeds", type=number(int, 1), default=1, metavar="N", help="seeds per rung [1]")
    out = "folder of the runs [runs/ladder, with --quick runs/ladder/quick]"
    add("--out", type=user_path, metavar="DIR", help=out)
    args, rest = parser.parse_known_args(argv)
    flags = Parser(prog="train.py")
    add_config_flags(flags)
    overrides = overrides_of(flags.parse_all(rest))
    if "run.dir" in overrides:
        raise Mistake(Exit.USAGE, "--run.dir is one run's, not a ladder's", "give --out instead")
    if "data.text" in overrides:
        overrides["data.text"] = settled(overrides["data.text"], say)
    return args, overrides


def _has_gpu() -> bool:
    from gpt.device import find_device

    return find_device("auto").type == "cuda"


# --- training ----------------------------------------------------------------------------------


def _run(config: Config, seed: int, out: Path, name: str) -> "Checkpoint":
    """Train a rung with the seed of its config plus `seed`."""
    run = (out / (f"{name}-seed-{seed + 1}" if seed else name)).absolute()
    keys = {"train.seed": config.train.seed + seed, "run.dir": str(run)}
    return trained(overridden(config, keys), run)


def trained(config: Config, run: Path) -> "Checkpoint":
    """The last checkpoint of a run that was trained to its end, or is now.

    Raises:
        Mistake: with exit code 7 if the run was trained with other settings.
        SystemExit: with train.py's exit code, if it fails or is stopped.
    """
    from gpt.storage.find import load_last  # imports torch

    begun = bool(checkpoints_of(run))
    if begun:
        last = load_last(run, say)
        if any(getattr(last.config, part) != getattr(config, part) for part in PARTS):
            fix = "give another folder with --out"
            raise Mistake(Exit.BUSY, f"{for_shell(run)} was trained with other settings", fix)
        if last.progress.step >= config.train.max_steps and not last.progress.owes_evaluation:
            say(f"{for_shell(run)}: trained already")
            return last
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(to_yaml(config), "utf-8")
        _train(["--resume", str(run)] if begun else ["--config", str(file)])
    return load_last(run, say)


PARTS = ("model", "data", "train")  # of a config, on which the weights depend


def _train(arguments: list[str]) -> None:
    """Run train.py; its messages are shown if it fails or is stopped."""
    command = [sys.executable, str(paths.PROJECT / "train.py"), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        _, said = process.communicate()
    except KeyboardInterrupt:  # Ctrl-C reaches train.py too, which saves its step
        process.wait()
        raise
    if process.returncode:
        sys.stderr.write(said)
        raise SystemExit(process.returncode)


def _sample(run: "Checkpoint") -> str:
    """What the model writes, as TensorBoard shows it."""
    from itertools import islice

    from gpt.generation.generate import generate
    from gpt.generation.writer import start_of

    tokenizer = run.tokenizer
    steps = generate(run.make_model(), tokenizer.encode(start_of("", tokenizer)))
    return tokenizer.decode([int(ids[0]) for ids in islice(steps, SAMPLE)]).strip()


# --- what is shown -----------------------------------------------------------------------------


def _cells(climbed: dict[str, Climbed], name: str) -> list[str]:
    rung, one = RUNGS.get(name, Rung("")), climbed[name]
    bought = ""
    if rung.before in climbed:
        bought = f"{mean(one.losses) - mean(climbed[rung.before].losses):+.3f}"
    return [
        name,
        f"{sum(tensor.numel() for tensor in one.runs[0].weights.values()):,}",
        " ".join(f"{loss:.4f}" for loss in one.losses),
        bought,
        f"{rung.lecture or ''}",
        f"{mean(run.progress.elapsed_seconds for run in one.runs):.0f}",
        rung.adds,
    ]


def _row(cells: Any) -> str:
    name, *numbers, added = cells
    return f"| {name:<15} | {' | '.join(f'{cell:>10}' for cell in numbers)} | {added} |"


def _print(text: str) -> None:
    with ending_with_reader(sys.stdout):
        print(text, flush=True)


def draw(climbed: dict[str, Climbed], path: Path) -> None:
    """The loss of each rung, a dot for each seed, beside that of the lecture's code."""
    from matplotlib.figure import Figure

    from gpt.attention.figures import INK, LINE, SOFT

    figure = Figure(figsize=(9, 1.3 + 0.45 * len(climbed)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    rungs = [RUNGS.get(name, Rung("")) for name in climbed]
    here = [(loss, y) for y, one in enumerate(climbed.values()) for loss in one.losses]
    lecture = [(rung.lecture, y) for y, rung in enumerate(rungs) if rung.lecture]
    style: dict[str, Any] = {"linestyle": "none", "markersize": 8}
    axes.plot(*zip(*here, strict=True), marker="o", color="#0072b2", label="here", **style)
    if lecture:
        label = "the lecture's code, all steps"
        style |= {"color": "#d55e00", "markerfacecolor": "none"}
        axes.plot(*zip(*lecture, strict=True), marker="D", label=label, **style)
    for y, one in enumerate(climbed.values()):
        axes.annotate(
            f"{mean(one.losses):.3f}", (min(one.losses), y), (-12, 0), textcoords="offset points",
            ha="right", va="center", color=INK, fontsize=9,
        )  # fmt: skip
    names = [f"{name}: {rung.adds}" for name, rung in zip(climbed, rungs, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("validation loss [nats a character]", color=SOFT)
    axes.tick_params(labelsize=9, color=LINE, labelcolor=INK)
    axes.grid(axis="x", color="#ebebeb")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(run_command(main))
