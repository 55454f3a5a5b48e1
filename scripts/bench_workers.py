"""The jobs that `bench.py` measures, each in a process of its own: `bench_workers.py JOB JSON`.

The last line of stdout is one JSON object of raw numbers. `gpt` is the copy that bench.py made.
Peers are run as they are: nanoGPT's model and sampler are imported from the checkout that the user
named, the lecture's classes from a module that holds nothing else of its script.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import platform
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

Numbers = dict[str, Any]


class Shape(NamedTuple):
    """A model, and how much of the text it reads in a step."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int

    @property
    def parameters(self) -> int:
        """Weights inside of the blocks; the embeddings of characters are few."""
        return 12 * self.n_layer * self.n_embd**2


class Product(NamedTuple):
    """`pieces` matrix products (rows, inner) @ (inner, columns), `times` in a forward pass."""

    pieces: int
    rows: int
    inner: int
    columns: int
    times: int


def products(shape: Shape, vocab_size: int) -> list[Product]:
    """Every matrix product of a forward pass.

    Of attention's squares only the half that is not masked counts, so that nobody can be faster
    than the limit by leaving out the rest.
    """
    layers, heads, C, T, B = shape
    half = Product(B * heads, T, C // heads, T // 2, 2 * layers)  # scores, and the mixing of values
    linears = [(C, 3 * C, layers), (C, C, layers), (C, 4 * C, layers), (4 * C, C, layers)]
    linears += [(C, vocab_size, 1)]
    return [*(Product(1, B * T, inner, out, times) for inner, out, times in linears), half]


def step_flops(shape: Shape, vocab_size: int) -> int:
    """Multiplications and additions of a training step: backward is two products for each one."""
    return 3 * sum(
        2 * one.pieces * one.rows * one.inner * one.columns * one.times
        for one in products(shape, vocab_size)
    )


# --- training ----------------------------------------------------------------------------------


class Enough(Exception):
    """All steps are timed."""


class Clock:
    """Takes the monitor's place in a training and ends it when enough steps are timed."""

    def __init__(self, steps: int):
        self.steps, self.times = steps, [time.perf_counter()]

    def say(self, line: str) -> None:
        raise RuntimeError(line)  # a flag that had no effect

    def advance(self) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) > self.steps:
            raise Enough

    @property
    def seconds(self) -> list[float]:
        """Of each step."""
        return [end - start for start, end in zip(self.times, self.times[1:], strict=False)]


def train_ours(
    shape: list[int], text: str, warmup: int, steps: int, train: dict[str, Any]
) -> Numbers:
    """The trainer's own loop on tiny.yaml's kind of model, with AdamW as the peers have it.

    Args:
        train: keys of the config's section of that name.
    """
    from gpt.command.config_file import find_config, load_config
    from gpt.data.corpus import load_corpus
    from gpt.training.fine_tune import fresh
    from gpt.training.trainer import Trainer

    size = Shape(*shape)
    never = 10**12
    overrides = {f"model.{key}": value for key, value in size._asdict().items()}
    overrides["train.batch_size"] = overrides.pop("model.batch_size")
    overrides |= {"train.optimizer": "adamw", "train.device": "cpu", "train.max_steps": never}
    overrides |= {f"train.{key}": value for key, value in train.items()}
    overrides |= {f"log.{key}_every": never for key in ("log", "eval", "save")}
    config = load_config(find_config("tiny.yaml"), overrides | {"data.text": text})
    corpus = load_corpus(config, say=lambda line: None)
    clock: Any = Clock(warmup + steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, corpus, Path(folder), fresh(config, corpus), clock)
        try:
            trainer.train()
        except Enough:
            return speed(size, clock.seconds[warmup:])
    raise AssertionError("the training ended before its time")


def train_huggingface(shape: list[int], vocab: int, warmup: int, steps: int) -> Numbers:
    """GPT2LMHeadModel, stepped as transformers' Trainer does by default."""
    import torch

    size, model = Shape(*shape), _huggingface(Shape(*shape), vocab).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        tokens = torch.randint(vocab, (size.batch_size, size.block_size))
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return speed(size, _timed(step, warmup, steps))


def train_lecture(shape: list[int], path: str, vocab: int, warmup: int, steps: int) -> Numbers:
    """The lecture's classes with its constants set to the shape, stepped as its loop does.

    The lecture's gpt.py is one script that trains for hours while it is imported. So its imports
    and classes alone are written into a module; what they read from the script's top is set there.
    The model is the last of the classes, whose name has changed once.
    """
    import torch

    size = Shape(*shape)
    lecture, last = _classes_of(Path(path))
    for name, value in size._asdict().items() | {("vocab_size", vocab), ("dropout", 0.0)}:
        setattr(lecture, name, value)
    lecture.device = "cpu"
    model = getattr(lecture, last)()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = torch.randint(vocab, (10**6,))

    def step() -> None:
        starts = torch.randint(len(data) - size.block_size, (size.batch_size,)).tolist()
        tokens, targets = (
            torch.stack([data[i + shift : i + shift + size.block_size] for i in starts])
            for shift in (0, 1)
        )
        _, loss = model(tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return speed(size, _timed(step, warmup, steps))


def _classes_of(script: Path) -> tuple[Any, str]:
    """A module with the imports and classes of `script` and nothing else; its last class."""
    tree = ast.parse(script.read_text("utf-8"))
    kept = (ast.Import, ast.ImportFrom, ast.ClassDef)
    body: list[ast.stmt] = [node for node in tree.body if isinstance(node, kept)]
    last = [node.name for node in body if isinstance(node, ast.ClassDef)][-1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lecture.py").write_text(ast.unparse(ast.Module(body, [])), "utf-8")
        sys.path.insert(0, folder)
        return importlib.import_module("lecture"), last


def train_limit(shape: list[int], vocab: int, warmup: int, steps: int) -> Numbers:
    """The matrix products of a step and nothing else, into memory that is there already."""
    import torch

    size = Shape(*shape)
    work = [(one.times, list(_with_backward(one))) for one in products(size, vocab)]

    def step() -> None:
        for times, calls in work:
            for _ in range(times):
                for multiply, a, b, out in calls:
                    multiply(a, b, out=out)

    with torch.inference_mode():
        found = speed(size, _timed(step, warmup, steps))
    found["gflops"] = step_flops(size, vocab) / found["seconds"] / 1e9
    return found


def _with_backward(product: Product) -> Iterator[tuple[Any, Any, Any, Any]]:
    """The forward product and the two of the gradients: (function, a, b, out)."""
    import torch

    pieces, rows, inner, columns, _ = product
    multiply = torch.mm if pieces == 1 else torch.bmm
    sizes = [(rows, inner), (columns, inner), (rows, columns)]  # weights as nn.Linear keeps them
    many = () if pieces == 1 else (pieces,)
    x, weight, y = (torch.randn(*many, *size) for size in sizes)
    grad_x, grad_weight, out = (torch.empty(*many, *size) for size in sizes)
    yield multiply, x, weight.transpose(-2, -1), out
    yield multiply, y, weight, grad_x
    yield multiply, y.transpose(-2, -1), x, grad_weight


def _timed(step: Callable[[], None], warmup: int, steps: int) -> list[float]:
    clock = Clock(warmup + steps)
    try:
        while True:
            step()
            clock.advance()
    except Enough:
        return clock.seconds[warmup:]


def speed(shape: Shape, seconds: list[float]) -> Numbers:
    """Characters a second in the median step."""
    median = statistics.median(seconds)
    chars = shape.batch_size * shape.block_size
    return {"chars_per_second": chars / median, "seconds": median, "steps": seconds}


# --- sampling; first weights will do, a trained model is no faster ------------------------------


def sample_ours(
    shape: list[int], vocab: int, chars: int, num_samples: int, least: float
) -> Numbers:
    """`generate` on a model in tiny.yaml's form, from a single character on."""
    import numpy as np
    import torch

    from gpt.command.config_file import find_config, load_config
    from gpt.generation.generate import generate
    from gpt.model import GPT

    overrides = {f"model.{key}": value for key, value in Shape(*shape)._asdict().items()}
    del overrides["model.batch_size"]
    torch.manual_seed(1)
    model = GPT(load_config(find_config("tiny.yaml"), overrides).model, vocab).eval()

    def write(count: int) -> None:
        written = generate(model, np.zeros(1, np.int64), num_samples=num_samples, seed=1)
        for _ in islice(written, count):
            pass

    return _written(write, chars, num_samples, least)


def sample_nanogpt(
    shape: list[int], path: str, vocab: int, chars: int, num_samples: int, least: float
) -> Numbers:
    """The `generate` of nanoGPT's own model."""
    import torch

    layers, heads, width, block_size, _ = shape
    sys.path.insert(0, path)
    peer = importlib.import_module("model")
    torch.manual_seed(1)
    sizes = {"n_layer": layers, "n_head": heads, "n_embd": width, "block_size": block_size}
    with redirect_stdout(sys.stderr):
        model = peer.GPT(peer.GPTConfig(**sizes, vocab_size=vocab, dropout=0.0, bias=False)).eval()

    def write(count: int) -> None:
        with torch.no_grad():
            model.generate(torch.zeros((num_samples, 1), dtype=torch.long), count)

    return _written(write, chars, num_samples, least)


def sample_huggingface(
    shape: list[int], vocab: int, chars: int, num_samples: int, least: float
) -> Numbers:
    """GPT2LMHeadModel's `generate` with its cache; it cannot go past block_size."""
    import torch

    torch.manual_seed(1)
    model = _huggingface(Shape(*shape), vocab).eval()

    def write(count: int) -> None:
        with torch.inference_mode():
            start = torch.zeros((num_samples, 1), dtype=torch.long)
            length = {"max_new_tokens": count, "min_new_tokens": count}
            model.generate(start, attention_mask=start + 1, do_sample=True, top_k=0, **length)

    return _written(write, chars, num_samples, least)


def sample_limit(shape: list[int], chars: int, num_samples: int, least: float) -> Numbers:
    """All weights once a character, as one matrix, in the fastest of the ways to go through them.

    For one text these are the product either way round and, as no product can be faster than the
    memory it reads, their sum.
    """
    import torch

    size = Shape(*shape)
    weights = torch.randn(size.parameters // size.n_embd, size.n_embd)  # (N, C)
    columns, x = weights.t().contiguous(), torch.randn(num_samples, size.n_embd)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "weights @ x": lambda: weights @ x.t(),
        "x @ weights": lambda: x @ columns,
    }
    if num_samples == 1:
        ways["sum"] = lambda: weights.sum()
    found: dict[str, Numbers] = {}
    for name, way in ways.items():

        def write(count: int, way: Callable[[], torch.Tensor] = way) -> None:
            with torch.inference_mode():
                for _ in range(count):
                    way()

        found[name] = _written(write, chars, num_samples, least) | {"way": name}
    best = max(found.values(), key=lambda one: one["chars_per_second"])
    reads = best["chars_per_second"] / num_samples
    return best | {"gigabytes_per_second": reads * weights.nbytes / 1e9}


def _written(write: Callable[[int], None], chars: int, num_samples: int, least: float) -> Numbers:
    """The median of as many times as fill `least` seconds; the first of several warms up."""
    seconds: list[float] = []
    while not seconds or sum(seconds) < least:
        began = time.perf_counter()
        write(chars)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[1:] or seconds)
    written = chars * num_samples
    return {"chars_per_second": written / median, "seconds": seconds, "chars": written}


def _huggingface(shape: Shape, vocab: int) -> Any:
    transformers: Any = importlib.import_module("transformers")  # installed or not
    config = transformers.GPT2Config(
        vocab_size=vocab, n_positions=shape.block_size, n_embd=shape.n_embd,
        n_layer=shape.n_layer, n_head=shape.n_head,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


# --- scoring, corpora, and the rest -------------------------------------------------------------


def score_nanogpt(path: str, out_dir: str) -> Numbers:
    """Our exact evaluation of the checkpoint that nanoGPT left in `out_dir`.

    nanoGPT's own sample.py, told to write nothing, loads it; so it runs as if in its folder.
    """
    import numpy as np
    import torch

    from gpt.evaluate import exact_loss

    class Peer(torch.nn.Module):
        """nanoGPT's model under the names that `exact_loss` knows."""

        def __init__(self, model: Any):
            super().__init__()
            self.model, self.config = model, model.config
            self.token_embedding = model.transformer.wte

        def forward(self, tokens: torch.Tensor) -> Any:
            return self.model(tokens, tokens)[0]  # without targets it gives the last logits alone

    sys.path.insert(0, path)
    flags = ["--num_samples=0", "--device=cpu", "--dtype=float32", f"--out_dir={out_dir}"]
    sys.argv = ["sample.py", *flags]
    with redirect_stdout(sys.stderr):
        model = runpy.run_path("sample.py")["model"]
    ids = np.fromfile("data/shakespeare_char/val.bin", dtype=np.uint16)
    peer: Any = Peer(model)
    return {"val_loss": exact_loss(peer, ids), "val_characters": len(ids)}


def prepare(text: str) -> Numbers:
    """Make a corpus ready to train on, as train.py does before anything else."""
    from gpt.config import Config, DataConfig
    from gpt.data.corpus import load_corpus

    began = time.perf_counter()
    load_corpus(Config(data=DataConfig(text=text)), say=lambda line: None)
    return _throughput(text, time.perf_counter() - began)


def prepare_limit(text: str) -> Numbers:
    """Read the text and take its SHA-256, once."""
    began = time.perf_counter()
    with Path(text).open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return _throughput(text, time.perf_counter() - began)


def _throughput(text: str, seconds: float) -> Numbers:
    megabytes = Path(text).stat().st_size / 1e6
    return {"megabytes_per_second": megabytes / seconds, "seconds": seconds, "megabytes": megabytes}


def ngram(text: str, most: int) -> Numbers:
    """The loss of an n-gram model on the validation split, its order chosen without it."""
    import numpy as np
    from ngram import best_order, loss

    from gpt.config import Config, DataConfig
    from gpt.data.corpus import load_corpus

    corpus = load_corpus(Config(data=DataConfig(text=text)), say=lambda line: None)
    train, val = (ids.astype(np.int64) for ids in (corpus.train_ids, corpus.val_ids))
    order = best_order(train, len(corpus.tokenizer), most)
    return {"val_loss": loss(train, val, order, len(corpus.tokenizer)), "order": order}


def facts() -> Numbers:
    """What torch knows of this machine, and which versions are compared."""
    import numpy as np
    import torch

    found = {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": bool(torch.cpu.get_capabilities().get("avx512_bf16")),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if importlib.util.find_spec("transformers"):
        found["transformers"] = importlib.metadata.version("transformers")
    return found


JOBS: dict[str, Callable[..., Numbers]] = {
    job.__name__: job
    for job in (
        train_ours, train_huggingface, train_lecture, train_limit,
        sample_ours, sample_nanogpt, sample_huggingface, sample_limit,
        score_nanogpt, prepare, prepare_limit, ngram, facts,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))
