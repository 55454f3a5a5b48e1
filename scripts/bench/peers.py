"""What is measured of the other programs inside of a worker process.

Each program is used as it is: nanoGPT's model and sampler are imported from the user's checkout,
the lecture's classes are run without the rest of its script.
"""

import ast
import importlib
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sizes import Shape
from timing import Numbers, sampling_speed, step_seconds, training_speed

from gpt.evaluate import exact_loss


def train_huggingface(shape: Shape, vocab: int, warmup: int, steps: int) -> Numbers:
    """GPT2LMHeadModel, stepped as transformers' Trainer does by default."""
    model = _huggingface(shape, vocab).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        tokens = torch.randint(vocab, (shape.batch_size, shape.block_size))
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return training_speed(shape, step_seconds(step, warmup, steps))


def sample_huggingface(
    shape: Shape, vocab: int, chars: int, num_samples: int, least: float
) -> Numbers:
    """GPT2LMHeadModel's `generate` with its KV cache, which cannot go past block_size."""
    torch.manual_seed(1)
    model = _huggingface(shape, vocab).eval()
    start = torch.zeros((num_samples, 1), dtype=torch.long)
    length = {"max_new_tokens": chars, "min_new_tokens": chars}

    def write() -> None:
        with torch.inference_mode():
            model.generate(start, attention_mask=start + 1, do_sample=True, top_k=0, **length)

    return sampling_speed(write, chars * num_samples, least)


def _huggingface(shape: Shape, vocab: int) -> Any:
    transformers: Any = importlib.import_module("transformers")  # installed or not
    config = transformers.GPT2Config(
        vocab_size=vocab, n_positions=shape.block_size, n_embd=shape.n_embd,
        n_layer=shape.n_layer, n_head=shape.n_head,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def train_lecture(shape: Shape, path: str, vocab: int, warmup: int, steps: int) -> Numbers:
    """The lecture's model, stepped as its script does."""
    constants = shape._asdict() | {"vocab_size": vocab, "dropout": 0.0, "device": "cpu"}
    model = _lecture(Path(path), constants)()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = torch.randint(vocab, (10**6,))

    def step() -> None:
        starts = torch.randint(len(data) - shape.block_size, (shape.batch_size,)).tolist()
        tokens, targets = (
            torch.stack([data[i + shift : i + shift + shape.block_size] for i in starts])
            for shift in (0, 1)
        )
        _, loss = model(tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return training_speed(shape, step_seconds(step, warmup, steps))


def _lecture(script: Path, constants: dict[str, Any]) -> Any:
    """The class of the lecture's model: the last one of its script, as its name has changed once.

    The script cannot be imported, as that would train for hours. So its imports and classes alone
    are run, with `constants` in place of those at its top.
    """
    body = ast.parse(script.read_text("utf-8")).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = [f"{name} = {value!r}" for name, value in constants.items()]
    lines += [ast.unparse(node) for node in [*imports, *classes]]
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "lecture.py"
        module.write_text("\n".join(lines), "utf-8")
        return runpy.run_path(str(module))[classes[-1].name]


def sample_nanogpt(
    shape: Shape, path: str, vocab: int, chars: int, num_samples: int, least: float
) -> Numbers:
    """The `generate` of nanoGPT's own model, with its initial weights."""
    sys.path.insert(0, path)
    nanogpt = importlib.import_module("model")
    torch.manual_seed(1)
    sizes = shape._asdict()
    del sizes["batch_size"]
    config = nanogpt.GPTConfig(**sizes, vocab_size=vocab, dropout=0.0, bias=False)
    with redirect_stdout(sys.stderr):
        model = nanogpt.GPT(config).eval()

    def write() -> None:
        with torch.no_grad():
            model.generate(torch.zeros((num_samples, 1), dtype=torch.long), chars)

    return sampling_speed(write, chars * num_samples, least)


def score_nanogpt(path: str, out_dir: str) -> Numbers:
    """The exact validation loss, as ours is measured, of nanoGPT's checkpoint in `out_dir`.

    nanoGPT's own sample.py loads the checkpoint; it is told to write no text. The working directory
    must be `path`.
    """
    sys.path.insert(0, path)
    flags = ["--num_samples=0", "--device=cpu", "--dtype=float32", f"--out_dir={out_dir}"]
    sys.argv = ["sample.py", *flags]
    with redirect_stdout(sys.stderr):
        model = runpy.run_path("sample.py")["model"]
    forward, model.token_embedding = model.forward, model.transformer.wte  # as `exact_loss` expects
    model.forward = lambda tokens: forward(tokens, tokens)[0]  # with targets: the logits of all
    ids = np.fromfile("data/shakespeare_char/val.bin", dtype=np.uint16)
    return {"val_loss": exact_loss(model, ids), "val_characters": len(ids)}
