"""The rows of the benchmark: what each one measures, and what is compared with what."""

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import nanogpt
from harness import Bench, Contenders, Found
from processes import Failure
from report import Goal, amount, ratio
from sizes import Shape
from texts import write_text
from timing import SPEED, Numbers

FIRST_SEED = 1337

# --- to a loss ----------------------------------------------------------------------------------


def to_target(bench: Bench) -> None:
    """seconds from start to end, at an exact val loss of at most 1.88; nanoGPT's CPU line"""
    found = _race(bench)
    for name in ("ours", "nanogpt"):
        bench.show(found.get(name), {"seconds": "s", "val_loss": "nats"})
    if "nanogpt" in found:
        bench.tell(ratio(found["ours"], found["nanogpt"], "seconds", Goal("<=", 0.2)))


def val_in_time(bench: Bench) -> None:
    """exact val loss of tiny.yaml, and its seconds beside those of nanoGPT's CPU line"""
    found = _race(bench)
    units = {"val_loss": "nats", "seconds": "s"}
    bench.show(found["tiny.yaml"], units, Goal("<=", 1.6))
    bench.show(found.get("nanogpt"), units)
    if "nanogpt" in found:
        bench.tell(ratio(found["tiny.yaml"], found["nanogpt"], "seconds", Goal("<=", 1)))


@cache
def _race(bench: Bench) -> Found:
    """What both rows need, measured once: they share the runs of nanoGPT."""
    contenders: Contenders = {}
    sizes = bench.sizes
    if "to-1.88" in bench.rows:
        contenders["ours"] = partial(_train_and_score, bench, sizes.to_target, sizes.target)
    if "val-in-nanogpt-time" in bench.rows:
        contenders["tiny.yaml"] = partial(_train_and_score, bench, sizes.tiny)
    contenders["nanogpt"] = partial(nanogpt.train_and_score, bench)
    found = bench.in_turn("race", "", contenders)
    for name, row in (("ours", "to-1.88"), ("tiny.yaml", "val-in-nanogpt-time")):
        if name in found:
            found[name].row = row
    return found


def _train_and_score(bench: Bench, flags: str, target: float = math.inf) -> Numbers:
    """A whole training and its last validation loss; each turn has another seed."""
    done = bench.train(*flags.split(), "--train.seed", str(FIRST_SEED + bench.turn))
    val_loss = done["log"][-1]["val_loss"]
    if val_loss > target:
        raise Failure(f"val {val_loss:.4f} in the end, not {target}")
    return done | {"val_loss": val_loss}


# --- characters per second ----------------------------------------------------------------------

UNITS = {SPEED: "chars/s"}


def train(bench: Bench) -> None:
    """characters trained a second, same shape, AdamW, fp32 if not said; limit: matrix products"""
    path = str(bench.peers.get("lecture"))
    for shape, steps in bench.sizes.train:
        size: Numbers = {"shape": shape, "warmup": bench.sizes.warmup, "steps": steps}
        ours = partial(bench.job, "ours.train", text=str(bench.text_file), **size)
        peer = partial(bench.job, vocab=bench.vocab, **size)
        contenders: Contenders = {
            "ours": partial(ours, precision="fp32"),
            "ours, compiled": partial(ours, precision="fp32", compiled=True),
            "ours, bf16": partial(ours, precision="bf16"),
            "ours, bf16, compiled": partial(ours, precision="bf16", compiled=True),
            "nanogpt": partial(nanogpt.step_speed, bench, **size),
            "huggingface": partial(peer, "peers.train_huggingface"),
            "lecture": partial(peer, "peers.train_lecture", path=path),
            "limit": partial(peer, "limits.train"),
        }
        found = bench.measure("train", f"{shape}, batch {shape.batch_size}", contenders, UNITS)
        goals = {"nanogpt": 1.2, "huggingface": None, "lecture": None, "limit": 0.7}
        bench.compare(found, SPEED, goals)
        for variant in ("ours, compiled", "ours, bf16", "ours, bf16, compiled"):
            bench.compare(found, SPEED, {"nanogpt": None}, variant)


def sample(bench: Bench) -> None:
    """characters written a second, one stream; limit: all weights read once a character"""
    for shape, theirs, goal in bench.sizes.sample:
        found = _sampled(bench, "sample", shape, theirs, bench.sizes.nanogpt_chars, num_samples=1)
        bench.compare(found, SPEED, {"nanogpt": goal, "limit": None})
        bench.compare(found, SPEED, {"huggingface": None}, "ours, as few")


def sample_64(bench: Bench) -> None:
    """characters written a second, 64 streams together; limit: one product of all weights"""
    for shape, theirs, _ in bench.sizes.sample:
        chars = bench.sizes.nanogpt_chars_of_64
        found = _sampled(bench, "sample-64", shape, theirs, chars, num_samples=64)
        bench.compare(found, SPEED, {"one stream": 20, "limit": None})
        bench.compare(found, SPEED, {"nanogpt": None, "huggingface": None}, "ours, as few")


def _sampled(
    bench: Bench, row: str, shape: Shape, theirs: Shape, nanogpt_chars: int, num_samples: int
) -> Found:
    """Each contender writes `num_samples` texts together; nanoGPT shorter ones, as it is slow."""
    sizes, path = bench.sizes, str(bench.peers.get("nanogpt"))
    few = min(sizes.chars, theirs.block_size - 1)  # Hugging Face's KV cache goes no further
    job = partial(bench.job, least=sizes.seconds, num_samples=num_samples)
    ours = partial(job, "ours.sample", shape=shape, vocab=bench.vocab)
    peer: Numbers = {"shape": theirs, "vocab": bench.vocab}
    contenders: Contenders = {
        "ours": partial(ours, chars=sizes.chars),
        "ours, as few": partial(ours, chars=few),
        "one stream": partial(ours, chars=sizes.chars, num_samples=1),
        "nanogpt": partial(job, "peers.sample_nanogpt", path=path, chars=nanogpt_chars, **peer),
        "huggingface": partial(job, "peers.sample_huggingface", chars=few, **peer),
        "limit": partial(job, "limits.sample", shape=shape, chars=sizes.chars),
    }
    if num_samples == 1:
        del contenders["one stream"]
    case = f"{shape}, first weights; nanogpt: block {theirs.block_size}, the first "
    case += f"{nanogpt_chars} characters; huggingface, and ours as few: the first {few}"
    return bench.measure(row, case, contenders, UNITS)


# --- start, memory, corpora ---------------------------------------------------------------------


def startup(bench: Bench) -> None:
    """seconds to the end of --help, of the first training step, to the first sampled character"""
    run = bench.place / "kept"  # to sample from
    few = [*bench.sizes.tiny.split(), "--train.max_steps", "2", "--log.log_every", "1"]
    where = ["--data.text", str(bench.text_file), "--run.dir", str(run), "--device", "cpu"]
    bench.python("train.py", *few, *where)
    contenders: Contenders = {
        "import torch": lambda: bench.python("-c", "import torch").numbers,
        "train.py --help": lambda: bench.python("train.py", "--help").numbers,
        "sample.py --help": lambda: bench.python("sample.py", "--help").numbers,
        "first training step": lambda: {"seconds": bench.train(*few)["log"][0]["elapsed_seconds"]},
        "first character": lambda: {"seconds": _seconds_to_first_byte(bench, run)},
    }
    goals = {name: Goal("<=", 0.4) for name in contenders if name.endswith("--help")}
    found = bench.measure("startup", "", contenders, {"seconds": "s"}, goals)
    for name, goal in (("first training step", None), ("first character", Goal("<=", 0.5))):
        bench.tell(amount(found[name], "seconds", "s", goal, less=found["import torch"]))


def _seconds_to_first_byte(bench: Bench, run: Path) -> float:
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


def busy(bench: Bench) -> None:
    """seconds of a training and of a sampling, on an idle machine and beside busy processes"""
    run = bench.place / "sampled"
    steps = [*bench.sizes.tiny.split(), "--train.max_steps", str(bench.sizes.busy_steps)]
    where = ["--data.text", str(bench.text_file), "--run.dir", str(run), "--device", "cpu"]
    bench.python("train.py", *steps, *where)
    chars = ["--max-new-chars", str(bench.sizes.busy_chars), "--run", str(run), "--device", "cpu"]
    works = {
        "training": lambda: bench.train(*steps),
        "sampling": lambda: bench.python("sample.py", *chars).numbers,
    }
    for name, work in works.items():
        contenders: Contenders = {
            "idle": work,
            "beside one": partial(_beside, 1, work),
            "beside two": partial(_beside, 2, work),
        }
        found = bench.measure("busy", name, contenders, {"seconds": "s"})
        for who, goal in (("beside one", Goal("<=", 1.6)), ("beside two", None)):
            bench.tell(ratio(found[who], found["idle"], "seconds", goal))


def _beside(processes: int, work: Callable[[], Numbers]) -> Numbers:
    """`work` beside as many processes that keep a core busy."""
    endless = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(endless) for _ in range(processes)]
    try:
        return work()
    finally:
        for other in others:
            other.kill()
            other.wait()


def memory(bench: Bench) -> None:
    """peak resident memory of a few training steps, with tiny.yaml and as nanoGPT's CPU line"""
    sizes = bench.sizes
    ours = [*sizes.tiny.split(), "--train.max_steps", str(sizes.few_steps)]
    theirs = [*sizes.nanogpt.split(), f"--max_iters={sizes.few_steps}"]
    contenders: Contenders = {
        "ours": lambda: bench.train(*ours),
        "nanogpt": lambda: nanogpt.train(bench, *theirs).numbers,
        "import torch": lambda: bench.python("-c", "import torch").numbers,
    }
    found = bench.measure("memory", "", contenders, {"peak_mb": "MB"})
    bench.compare(found, "peak_mb", {"nanogpt": None, "import torch": None})


def corpus(bench: Bench) -> None:
    """MB of text prepared a second (limit: read it, take its SHA-256); memory for a big text"""
    sizes, key = bench.sizes, "megabytes_per_second"
    big, prepared = bench.place / "big.txt", bench.place / "data"
    few = [*sizes.tiny.split(), "--train.max_steps", str(sizes.few_steps)]

    def prepare() -> Numbers:
        shutil.rmtree(prepared, ignore_errors=True)
        return bench.job("corpora.prepare", text=str(big))

    def train_on(text: Path) -> Numbers:
        shutil.rmtree(prepared, ignore_errors=True)
        share = min(0.1, 1e5 / text.stat().st_size)  # or the evaluation would take hours
        return bench.train(*few, "--data.val_fraction", str(share), text=text, watch=True)

    read = partial(bench.job, "corpora.read", text=str(big))
    contenders: Contenders = {"ours": prepare, "limit": read}
    for kind, accents in (("ASCII", False), ("not all ASCII", True)):
        write_text(big, sizes.prepare_mb, accents)
        case, goals = f"{sizes.prepare_mb:g} MB, {kind}", {"ours": Goal(">=", 50)}
        found = bench.measure("corpus", case, contenders, {key: "MB/s"}, goals)
        bench.compare(found, key, {"limit": None})
    write_text(big, sizes.train_mb, accents=True)
    contenders = {
        "big text": partial(train_on, big),
        "small text": partial(train_on, bench.text_file),
    }
    case = f"anonymous memory (RssAnon) at most, preparing and training on {sizes.train_mb:g} MB"
    found = bench.measure("corpus", case, contenders, {"anonymous_mb": "MB"})
    less = found["small text"]
    bench.tell(amount(found["big text"], "anonymous_mb", "MB", Goal("<=", 1000), less=less))
    big.unlink()


def ngram(bench: Bench) -> None:
    """exact val loss of counted n-grams (Kneser-Ney) on the same split: what a GPT must beat"""
    job = partial(bench.job, "corpora.count_ngrams", text=str(bench.text_file))
    contenders: Contenders = {"n-grams": partial(job, most_order=bench.sizes.most_order)}
    bench.measure("ngram", "", contenders, {"val_loss": "nats", "order": "order"})


ROWS: dict[str, Callable[[Bench], None]] = {
    "to-1.88": to_target,
    "val-in-nanogpt-time": val_in_time,
    "train": train,
    "sample": sample,
    "sample-64": sample_64,
    "startup": startup,
    "busy": busy,
    "memory": memory,
    "corpus": corpus,
    "ngram": ngram,
}
