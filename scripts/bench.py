"""How fast this program is, beside nanoGPT, Hugging Face's GPT-2 and the lecture's script.

Every measured thing is a process of its own. Ours runs in a copy of the program that is removed
afterwards; a peer runs from the checkout that --peer names, as it is. They take turns, each turn
begins with another one, and the medians are compared. All is on the CPU. Ours trains as it does
for its user, so in bf16 where the processor has instructions for it; the rows `train`, `sample` and
`sample-64` compare in fp32.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bench_report import Goal, Measured, amount, plot, ratio
from bench_runs import PEERS, Bench, Contenders, Failure, Numbers, made_up, progress, write_text
from bench_workers import Shape, speed

from gpt.command.cli import Parser, number
from gpt.command.process import run_command
from gpt.errors import Exit, Mistake
from gpt.paths import PROJECT

# the fastest known way to the loss
TO_TARGET = (
    "--config tiny.yaml --model.block_size 64 --train.max_steps 260 --log.eval_every 260 "
    "--log.tensorboard false"
)
FIRST_SEED = 1337
# nanoGPT's README: what to run on a computer without a GPU
NANOGPT_CPU = (
    "--eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 "
    "--n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


@dataclass(frozen=True)
class Sizes:
    """How much of everything is done."""

    corpus: str | None  # a named corpus, or a made-up text
    target: float  # val loss in nats
    to_target: str  # train.py's flags
    tiny: str
    nanogpt: str
    train: list[tuple[Shape, int]]  # and how many steps are timed
    sample: list[tuple[Shape, Shape, int, float]]  # ours, theirs, what nanoGPT writes, the goal
    chars: int
    seconds: float  # of writing at least
    warmup: int  # steps that are not timed
    few_steps: int
    prepare_mb: float
    train_mb: float
    most_order: int  # of the n-gram model


FULL = Sizes(
    corpus="tinyshakespeare",
    target=1.88,
    to_target=TO_TARGET,
    tiny="--config tiny.yaml",
    nanogpt=NANOGPT_CPU,
    train=[
        (Shape(4, 4, 64, 64, 12), 200),
        (Shape(4, 4, 128, 64, 12), 100),
        (Shape(6, 6, 384, 256, 8), 8),
        (Shape(6, 10, 640, 256, 4), 8),
    ],
    sample=[
        (Shape(4, 4, 128, 128, 1), Shape(4, 4, 128, 64, 1), 1000, 4),
        (Shape(6, 6, 384, 256, 1), Shape(6, 6, 384, 256, 1), 1000, 15),
    ],
    chars=1000,
    seconds=3,
    warmup=3,
    few_steps=20,
    prepare_mb=300,
    train_mb=2000,
    most_order=8,
)
TOY, TOY_RUN = Shape(1, 2, 16, 16, 4), "--config debug.yaml --log.tensorboard false"
SMOKE = Sizes(
    corpus=None,
    target=9,
    to_target=TOY_RUN,
    tiny=TOY_RUN,
    nanogpt="--eval_interval=2 --max_iters=2 --eval_iters=1 --n_layer=1 --n_head=2 --n_embd=16 "
    "--always_save_checkpoint=True --block_size=16 --batch_size=4",
    train=[(TOY, 2)],
    sample=[(TOY, TOY, 8, 4)],
    chars=40,
    seconds=0,
    warmup=1,
    few_steps=2,
    prepare_mb=0.3,
    train_mb=0.6,
    most_order=3,
)

# --- to a loss ----------------------------------------------------------------------------------


def to_target(bench: Bench, sizes: Sizes) -> None:
    """seconds from start to end, at an exact val loss of at most 1.88; nanoGPT's CPU line"""
    found = race(bench, sizes)
    for name in ("ours", "nanogpt"):
        bench.show(found, name, {"seconds": "s", "val_loss": "nats"})
    if "nanogpt" in found:
        bench.tell(ratio(found["ours"], found["nanogpt"], "seconds", Goal("<=", 0.2)))


def val_in_time(bench: Bench, sizes: Sizes) -> None:
    """exact val loss of tiny.yaml, and its seconds beside those of nanoGPT's CPU line"""
    found = race(bench, sizes)
    bench.show(found, "tiny.yaml", {"val_loss": "nats", "seconds": "s"}, Goal("<=", 1.6))
    bench.show(found, "nanogpt", {"val_loss": "nats", "seconds": "s"})
    if "nanogpt" in found:
        bench.tell(ratio(found["tiny.yaml"], found["nanogpt"], "seconds", Goal("<=", 1)))


def race(bench: Bench, sizes: Sizes) -> dict[str, Measured]:
    """What either row needs, measured once: both are compared with the same runs of nanoGPT."""
    if not bench.race:
        contenders: Contenders = {}
        if "to-1.88" in bench.rows:
            contenders["ours"] = partial(_run_to_target, bench, sizes)
        if "val-in-nanogpt-time" in bench.rows:
            contenders["tiny.yaml"] = partial(_run_tiny, bench, sizes)
        contenders["nanogpt"] = partial(_run_nanogpt, bench, sizes)
        bench.race = bench.in_turn("race", "", contenders)
        for name, row in (("ours", "to-1.88"), ("tiny.yaml", "val-in-nanogpt-time")):
            if name in bench.race:
                bench.race[name].row = row
    return bench.race


def _run_to_target(bench: Bench, sizes: Sizes) -> Numbers:
    done = _scored(bench, sizes.to_target)
    if done["val_loss"] > sizes.target:
        raise Failure(f"val {done['val_loss']:.4f} in the end, not {sizes.target}")
    return done


def _run_tiny(bench: Bench, sizes: Sizes) -> Numbers:
    return _scored(bench, sizes.tiny)


def _scored(bench: Bench, flags: str) -> Numbers:
    """A whole training and its last loss; each turn has another seed."""
    done = bench.train(*flags.split(), "--train.seed", str(FIRST_SEED + bench.turn))
    return done | {"val_loss": done["log"][-1]["val_loss"]}


def _run_nanogpt(bench: Bench, sizes: Sizes) -> Numbers:
    """Its one seed stands in its script."""
    path = bench.peers["nanogpt"]
    val = path / "data/shakespeare_char/val.bin"
    ours = bench.chars - int(bench.chars * 0.9)  # characters that ours is scored on
    if sizes.corpus and val.is_file() and val.stat().st_size // 2 != ours:
        raise Failure(f"its data is not {sizes.corpus}: run its prepare.py")
    if "tiktoken" in (path / "sample.py").read_text() and not importlib.util.find_spec("tiktoken"):
        raise Failure("its sample.py, which loads what it saved, needs tiktoken: pip install it")
    ended = bench.nanogpt(*sizes.nanogpt.split())
    out = str(bench.place / "nanogpt-out")
    return ended.numbers | bench.job("score_nanogpt", cwd=path, path=str(path), out_dir=out)


# --- characters a second ------------------------------------------------------------------------

SPEED = "chars_per_second"
FEW = 50  # characters of each text that nanoGPT writes where it writes 64, about 10 seconds
SHOWN = {SPEED: "chars/s"}


def describe(shape: Shape) -> str:
    return (
        f"{shape.parameters / 1e6:.1f} M: {shape.n_layer} layers, {shape.n_head} heads, "
        f"{shape.n_embd} wide, block {shape.block_size}"
    )


def train(bench: Bench, sizes: Sizes) -> None:
    """characters trained a second, same shape, AdamW, fp32 if not said; limit: matrix products"""
    for shape, steps in sizes.train:
        size: Numbers = {"shape": shape, "warmup": sizes.warmup, "steps": steps}
        peer, path = size | {"vocab": bench.vocab}, str(bench.peers.get("lecture"))
        ours = partial(bench.job, "train_ours", text=str(bench.text), **size)
        contenders: Contenders = {
            "ours": partial(ours, train={"precision": "fp32"}),
            "ours, compiled": partial(ours, train={"precision": "fp32", "compile": True}),
            "ours, bf16": partial(ours, train={"precision": "bf16"}),
            "ours, bf16, compiled": partial(ours, train={"precision": "bf16", "compile": True}),
            "nanogpt": partial(_nanogpt_steps, bench, shape, sizes.warmup, steps),
            "huggingface": partial(bench.job, "train_huggingface", **peer),
            "lecture": partial(bench.job, "train_lecture", path=path, **peer),
            "limit": partial(bench.job, "train_limit", **peer),
        }
        case = f"{describe(shape)}, batch {shape.batch_size}"
        found = bench.measure("train", case, contenders, SHOWN)
        bench.compare(
            found, {"nanogpt": 1.2, "huggingface": None, "lecture": None, "limit": 0.7}, SPEED
        )
        for variant in ("ours, compiled", "ours, bf16", "ours, bf16, compiled"):
            bench.compare(found, {"nanogpt": None}, SPEED, variant)


def _nanogpt_steps(bench: Bench, shape: Shape, warmup: int, steps: int) -> Numbers:
    """nanoGPT's whole train.py, which prints how long each of its iterations took."""
    sizes = [f"--{name}={value}" for name, value in shape._asdict().items()]
    rest = "--dropout=0.0 --dtype=float32 --eval_iters=1 --eval_interval=1000000 --log_interval=1"
    ended = bench.nanogpt(*sizes, *rest.split(), f"--max_iters={warmup + steps - 1}")
    printed = re.findall(r"^iter \d+: .*time ([\d.]+)ms", ended.stdout, re.MULTILINE)
    if len(printed) <= warmup:
        raise Failure("its train.py prints no times of its iterations")
    return speed(shape, [float(milliseconds) / 1000 for milliseconds in printed[warmup:]])


def sample(bench: Bench, sizes: Sizes) -> None:
    """characters written a second, one stream; limit: all weights read once a character"""
    for shape, theirs, count, goal in sizes.sample:
        found = _sampled(bench, sizes, "sample", shape, theirs, count, num_samples=1)
        bench.compare(found, {"nanogpt": goal, "limit": None}, SPEED)
        bench.compare(found, {"huggingface": None}, SPEED, "ours, as few")


def sample_64(bench: Bench, sizes: Sizes) -> None:
    """characters written a second, 64 streams together; limit: one product of all weights"""
    for shape, theirs, count, _ in sizes.sample:
        few = min(count, FEW)
        found = _sampled(bench, sizes, "sample-64", shape, theirs, few, num_samples=64)
        goals: dict[str, float | None]
        goals = {"one stream": 20, "limit": None}
        bench.compare(found, goals, SPEED)
        bench.compare(found, {"nanogpt": None, "huggingface": None}, SPEED, "ours, as few")


def _sampled(
    bench: Bench,
    sizes: Sizes,
    row: str,
    shape: Shape,
    theirs: Shape,
    count: int,
    num_samples: int,
) -> dict[str, Measured]:
    """Everybody writes `num_samples` texts at a time; nanoGPT the first `count` characters."""
    size: Numbers = {"shape": shape, "chars": sizes.chars, "least": sizes.seconds}
    ours = partial(bench.job, "sample_ours", vocab=bench.vocab, **size)
    peer: Numbers = {"shape": theirs, "vocab": bench.vocab, "num_samples": num_samples}
    peer["least"] = sizes.seconds
    path = str(bench.peers.get("nanogpt"))
    few = min(sizes.chars, theirs.block_size - 1)  # its cache goes no further
    contenders: Contenders = {
        "ours": partial(ours, num_samples=num_samples),
        "ours, as few": partial(ours, num_samples=num_samples, chars=few),
        "one stream": partial(ours, num_samples=1),
        "nanogpt": partial(bench.job, "sample_nanogpt", path=path, chars=count, **peer),
        "huggingface": partial(bench.job, "sample_huggingface", chars=few, **peer),
        "limit": partial(bench.job, "sample_limit", num_samples=num_samples, **size),
    }
    if num_samples == 1:
        del contenders["one stream"]
    case = f"{describe(shape)}, first weights; nanogpt: block {theirs.block_size}, the first "
    case += f"{count} characters; huggingface, and ours as few: the first {few}"
    return bench.measure(row, case, contenders, SHOWN)


# --- start, memory, corpora ---------------------------------------------------------------------


def startup(bench: Bench, sizes: Sizes) -> None:
    """seconds to the end of --help, of the first training step, to the first sampled character"""
    kept = bench.place / "kept"
    few = [*sizes.tiny.split(), "--train.max_steps", "2", "--log.log_every", "1"]
    where = ["--data.text", str(bench.text), "--run.dir", str(kept), "--device", "cpu"]
    bench.ours("train.py", *few, *where)  # a run to write with

    def first_step() -> Numbers:
        return {"seconds": bench.train(*few)["log"][0]["elapsed_seconds"]}

    contenders: Contenders = {
        "import torch": bench.torch,
        "train.py --help": lambda: bench.ours("train.py", "--help").numbers,
        "sample.py --help": lambda: bench.ours("sample.py", "--help").numbers,
        "first training step": first_step,
        "first character": lambda: {"seconds": _first_byte(bench, kept)},
    }
    goals = {name: Goal("<=", 0.4) for name in contenders if name.endswith("--help")}
    found = bench.measure("startup", "", contenders, {"seconds": "s"}, goals)
    for name, goal in (("first training step", None), ("first character", Goal("<=", 0.5))):
        bench.tell(amount(found[name], "seconds", "s", goal, less=found["import torch"]))


def _first_byte(bench: Bench, run: Path) -> float:
    """Seconds from the start of sample.py to its first byte on stdout."""
    command = [sys.executable, "sample.py", "--run", str(run), "--device", "cpu"]
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=bench.place, env=bench.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        first = process.stdout.read(1)
        seconds = time.perf_counter() - began
        process.kill()
    if not first:
        raise Failure("sample.py printed nothing")
    return seconds


def memory(bench: Bench, sizes: Sizes) -> None:
    """peak resident memory of a few training steps, with tiny.yaml and as nanoGPT's CPU line"""
    ours = [*sizes.tiny.split(), "--train.max_steps", str(sizes.few_steps)]
    theirs = [*sizes.nanogpt.split(), f"--max_iters={sizes.few_steps}"]
    contenders: Contenders = {
        "ours": lambda: bench.train(*ours),
        "nanogpt": lambda: bench.nanogpt(*theirs).numbers,
        "import torch": bench.torch,
    }
    found = bench.measure("memory", "", contenders, {"peak_mb": "MB"})
    bench.compare(found, {"nanogpt": None, "import torch": None}, "peak_mb")


def corpus(bench: Bench, sizes: Sizes) -> None:
    """MB of text prepared a second (limit: read it, take its SHA-256); memory for a big text"""
    big, key = bench.place / "big.txt", "megabytes_per_second"
    for kind, accents in (("ASCII", False), ("not all ASCII", True)):
        write_text(big, sizes.prepare_mb, accents)
        contenders: Contenders = {
            "ours": partial(_afresh, bench, partial(bench.job, "prepare", text=str(big))),
            "limit": partial(bench.job, "prepare_limit", text=str(big)),
        }
        case = f"{sizes.prepare_mb:g} MB, {kind}"
        goals = {"ours": Goal(">=", 50)}
        found = bench.measure("corpus", case, contenders, {key: "MB/s"}, goals)
        bench.compare(found, {"limit": None}, key)
    write_text(big, sizes.train_mb, accents=True)
    few = [*sizes.tiny.split(), "--train.max_steps", str(sizes.few_steps)]

    def trained_on(text: Path) -> Numbers:
        share = min(0.1, 1e5 / text.stat().st_size)  # or the evaluation would take hours
        return bench.train(*few, "--data.val_fraction", str(share), text=text, watch=True)

    contenders = {
        "big text": partial(_afresh, bench, partial(trained_on, big)),
        "small text": partial(_afresh, bench, partial(trained_on, bench.text)),
    }
    case = f"anonymous memory (RssAnon) at most, preparing and training on {sizes.train_mb:g} MB"
    found = bench.measure("corpus", case, contenders, {"anonymous_mb": "MB"})
    less = found["small text"]
    bench.tell(amount(found["big text"], "anonymous_mb", "MB", Goal("<=", 1000), less=less))
    big.unlink()


def _afresh(bench: Bench, measure: Callable[[], Numbers]) -> Numbers:
    """Measure with no corpus prepared yet."""
    shutil.rmtree(bench.place / "data", ignore_errors=True)
    return measure()


def ngram(bench: Bench, sizes: Sizes) -> None:
    """exact val loss of counted n-grams (Kneser-Ney) on the same split: what a GPT must beat"""
    job = partial(bench.job, "ngram", text=str(bench.text), most=sizes.most_order)
    bench.measure("ngram", "", {"n-grams": job}, {"val_loss": "nats", "order": "order"})


ROWS: dict[str, Callable[[Bench, Sizes], None]] = {
    "to-1.88": to_target,
    "val-in-nanogpt-time": val_in_time,
    "train": train,
    "sample": sample,
    "sample-64": sample_64,
    "startup": startup,
    "memory": memory,
    "corpus": corpus,
    "ngram": ngram,
}

# --- the command --------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    """Measure the rows, print a table, write JSON and a plot."""
    args = _arguments(argv)
    sizes = SMOKE if args.smoke else FULL
    text = _text(sizes)
    facts = machine()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), args.rows or list(ROWS), args.repeat, args.peer, text)
        facts |= bench.job("facts")
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        for name, how in bench.left_out().items():
            print(f"{name}: left out; {how}")
        for name in [name for name in ROWS if name in bench.rows]:
            print(f"\n{name}: {ROWS[name].__doc__}", flush=True)
            try:
                ROWS[name](bench, sizes)
            except Failure as problem:  # what it needed before anything could be measured
                bench.measured.append(Measured(name, "", "ours", error=str(problem)))
                print(f"    failed: {problem}")
            if args.json:
                _write_json(args.json, facts, bench)
    if args.plot:
        plot(bench.lines, args.plot)
    progress(f"{time.perf_counter() - began:.0f} seconds")
    peers = {*PEERS, "huggingface"}
    failed = any(one.error and one.who not in peers for one in bench.measured)
    return Exit.BUG if failed else Exit.DONE


def _arguments(argv: list[str]) -> argparse.Namespace:
    rows = "\n".join(f"  {name:<20} {row.__doc__}" for name, row in ROWS.items())
    parser = Parser(
        prog="scripts/bench.py",
        description=f"{__doc__}\nrows:\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="row", help="[all]")
    add("--peer", action="append", type=_peer, default=[], metavar="NAME=PATH",
        help="nanogpt=CHECKOUT or lecture=gpt.py, run as they are [left out]")  # fmt: skip
    add("--repeat", type=number(int, 1), default=3, metavar="N", help="turns [3]")
    add("--json", type=Path, metavar="FILE", help="every number and what machine it is from")
    add("--plot", type=Path, metavar="FILE.png", help="the ratios as bars")
    add("--smoke", action="store_true", help="toy sizes: does all of it work?")
    args = parser.parse_all(argv)
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        raise Mistake(Exit.USAGE, f"no row {unknown[0]}", f"there are: {', '.join(ROWS)}")
    for path in filter(None, (args.json, args.plot)):
        if not path.absolute().parent.is_dir():
            raise Mistake(Exit.USAGE, f"{path}: no such folder", "make it first")
    args.peer = dict(args.peer)
    return args


def _peer(text: str) -> tuple[str, Path]:
    name, _, place = text.partition("=")
    path = Path(place).expanduser().absolute()
    needed = path / "train.py" if name == "nanogpt" else path
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"{text}: NAME is {' or '.join(PEERS)}")
    if not needed.is_file():
        raise argparse.ArgumentTypeError(f"{needed} is not there")
    return name, path


def _text(sizes: Sizes) -> str:
    """What all train on."""
    if sizes.corpus is None:
        return made_up(20_000)
    path = PROJECT / "data" / f"{sizes.corpus}.txt"
    if not path.is_file():
        fix = f"python scripts/prepare_data.py {sizes.corpus}"
        raise Mistake(Exit.CORPUS, f"{path} is not there", fix)
    return path.read_text("utf-8")


def machine() -> Numbers:
    """What the numbers depend on, beside the program."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0], "commit": commit}


def _write_json(path: Path, facts: Numbers, bench: Bench) -> None:
    """All that is known so far."""
    table = [asdict(line) | {"met": line.met} for line in bench.lines]
    measured = [asdict(one) for one in bench.measured]
    whole = {"machine": facts, "repeat": bench.repeat, "table": table, "measured": measured}
    path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.SIGTERM))  # so that it tidies up
    sys.exit(run_command(main))
