"""nanoGPT's train.py, run as it is from the user's checkout."""

import importlib.util
import os
import re
import shutil
import sys

from harness import Bench
from processes import NO_BYTECODE, Ended, Failure, run
from sizes import Shape
from timing import Numbers, training_speed

CONFIG = ("config/train_shakespeare_char.py", "--device=cpu", "--compile=False")


def train(bench: Bench, *flags: str) -> Ended:
    """Run nanoGPT's train.py; the checkpoint goes to the bench's folder.

    Raises:
        Failure: if its data is not prepared, or if it fails.
    """
    path, out = bench.peers["nanogpt"], bench.place / "nanogpt-out"
    if not (path / "data/shakespeare_char/train.bin").is_file():
        raise Failure(f"run python data/shakespeare_char/prepare.py in {path} first")
    shutil.rmtree(out, ignore_errors=True)  # an older checkpoint must not be scored
    command = [sys.executable, "train.py", *CONFIG, *flags, f"--out_dir={out}"]
    return run(command, path, os.environ | NO_BYTECODE)


def train_and_score(bench: Bench) -> Numbers:
    """Train as nanoGPT's README says for a CPU, always with one seed; the exact validation loss."""
    path = bench.peers["nanogpt"]
    val = path / "data/shakespeare_char/val.bin"
    ours = len(bench.text) - int(len(bench.text) * 0.9)  # characters of our validation split
    corpus = bench.sizes.corpus
    if corpus and val.is_file() and val.stat().st_size // 2 != ours:
        raise Failure(f"its data is not {corpus}: run its prepare.py")
    sampling = (path / "sample.py").read_text("utf-8")
    if "tiktoken" in sampling and not importlib.util.find_spec("tiktoken"):
        raise Failure("its sample.py, which loads what it saved, needs tiktoken: pip install it")
    ended = train(bench, *bench.sizes.nanogpt.split())
    out_dir = str(bench.place / "nanogpt-out")
    scored = bench.job("peers.score_nanogpt", cwd=path, path=str(path), out_dir=out_dir)
    return ended.numbers | scored


def step_speed(bench: Bench, shape: Shape, warmup: int, steps: int) -> Numbers:
    """Characters trained per second in fp32, by the times that nanoGPT prints."""
    sizes = [f"--{name}={value}" for name, value in shape._asdict().items()]
    rest = "--dropout=0.0 --dtype=float32 --eval_iters=1 --eval_interval=1000000 --log_interval=1"
    ended = train(bench, *sizes, *rest.split(), f"--max_iters={warmup + steps - 1}")
    printed = re.findall(r"^iter \d+: .*time ([\d.]+)ms", ended.stdout, re.MULTILINE)
    if len(printed) <= warmup:
        raise Failure("its train.py prints no times of its iterations")
    return training_speed(shape, [float(milliseconds) / 1000 for milliseconds in printed[warmup:]])
