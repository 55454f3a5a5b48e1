"""Checkpoints: verified, without pickle, whole or not there.

runs/<name>/checkpoints/step-000500/
    model.safetensors      the weights
    optimizer.safetensors  the optimizer state
    training.json          step, losses, what the run's bytes depend on
    config.json            the resolved config
    vocabulary.json        the alphabet
    manifest.json          size and SHA-256 of each of them and of itself, written last
step-000500-stopped/       the same, before the evaluation that is due after step 500 is made
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gpt import files
from gpt.config import Config
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.optim import optimizer_state_shapes
from gpt.storage.manifest import (
    FOREIGN,
    checkpoint_name,
    damaged,
    is_checkpoint_name,
    to_json,
    verified_files,
    with_manifest,
)
from gpt.storage.run_directory import checkpoints_of, tidy

Count = Annotated[int, Field(ge=0, le=10**12)]
Part = TypeVar("Part")


@checked_dataclass(config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Progress:
    """How far a run has come: all that the loop needs beside weights and optimizer state."""

    step: Count = 0
    val_loss: float | None = None  # exact, of these weights [nats]; None: not measured
    best_val_loss: float | None = None
    best_step: Count = 0
    waiting: Count = 0  # evaluations since the best one
    loss_sum: float = 0.0  # of the steps since the last logged one
    loss_count: Count = 0
    grad_norm: float = 0.0  # of the last step, before clipping
    owes_evaluation: bool = False  # it is still to be made: a stop came first, or it is step 0's
    elapsed_seconds: float = 0.0
    # what the run's bytes depend on
    identity: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """Everything that sampling and resuming need."""

    config: Config
    tokenizer: CharTokenizer
    progress: Progress
    weights: dict[str, Tensor]
    optimizer_state: dict[str, Tensor]  # see gpt.optim.optimizer_state; empty before step 1

    @property
    def name(self) -> str:
        """Of the folder that it is saved in."""
        return checkpoint_name(self.progress.step, self.progress.owes_evaluation)

    def make_model(self) -> GPT:
        """The model with its weights, in evaluation mode, on the CPU."""
        model = GPT(self.config.model, len(self.tokenizer))
        model.load_state_dict(self.weights)
        return model.eval()


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Publish a checkpoint, then delete old ones; the best and the newest are always kept.

    Raises:
        Mistake: with exit code 5 if it cannot be written; the earlier checkpoints are whole then.
    """
    progress = checkpoint.progress
    with files.storage_errors(run):
        files.make_directory(run / "checkpoints")
    contents = {
        "model.safetensors": save(_plain(checkpoint.weights)),
        "optimizer.safetensors": save(_plain(checkpoint.optimizer_state)),
        "training.json": to_json(asdict(progress)),
        "config.json": to_json(checkpoint.config.model_dump()),
        "vocabulary.json": to_json(checkpoint.tokenizer.alphabet),
    }
    path = run / "checkpoints" / checkpoint.name
    files.publish_directory(path, with_manifest(contents, progress.step, progress.val_loss))
    tidy(run, checkpoint.config.log.keep)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify each of its bytes.

    Raises:
        Mistake: with exit code 4, naming the file that is missing, damaged or foreign; 5 if it may
            be whole but may not be read.
    """
    if not path.is_dir():
        names = ", ".join(other.name for other in checkpoints_of(path.absolute().parents[1])[-5:])
        fix = f"there are: {names}" if names else "give a run or one of its checkpoints"
        raise Mistake(Exit.CHECKPOINT, f"no checkpoint {path}", fix)
    content = verified_files(path)

    def parsed(name: str, parse: Callable[[bytes], Part]) -> Part:
        try:
            return parse(content[name])
        except (ValidationError, SafetensorError, *FOREIGN) as problem:
            what = f"{name} is not one of this project ({type(problem).__name__})"
            raise damaged(path, what) from None

    checkpoint = Checkpoint(
        config=parsed("config.json", lambda data: Config.model_validate(json.loads(data))),
        tokenizer=parsed("vocabulary.json", lambda data: _tokenizer(json.loads(data))),
        progress=parsed("training.json", lambda data: Progress(**json.loads(data))),
        weights=parsed("model.safetensors", load),
        optimizer_state=parsed("optimizer.safetensors", load),
    )
    if checkpoint.progress.step != json.loads(content["manifest.json"])["step"]:
        raise damaged(path, f"training.json is that of step {checkpoint.progress.step}")
    if is_checkpoint_name(path.name) and path.name != checkpoint.name:
        raise damaged(path, f"it was renamed: it is {checkpoint.name}")
    _check_sizes(path, checkpoint)
    _check_tensors(path, checkpoint)
    return checkpoint


def _tokenizer(alphabet: Any) -> CharTokenizer:
    if not isinstance(alphabet, str) or not alphabet or list(alphabet) != sorted(set(alphabet)):
        raise ValueError("not the sorted characters of an alphabet")
    alphabet.encode()  # raises for half a surrogate pair, which cannot be printed
    return CharTokenizer(alphabet)


def _check_sizes(path: Path, checkpoint: Checkpoint) -> None:
    """Compare the config's sizes with the weights' before anything of that size is allocated."""
    config, weights = checkpoint.config.model, checkpoint.weights
    shapes = {name: (*tensor.shape, 0, 0) for name, tensor in weights.items()}
    vocabulary, width = shapes.get("token_embedding.weight", (0, 0))[:2]
    positions = shapes.get("position_embedding.weight", (config.block_size,))[0]
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    for what, said, found in (
        ("vocabulary.json's length", len(checkpoint.tokenizer), vocabulary),
        ("model.n_embd", config.n_embd or len(checkpoint.tokenizer), width),
        ("model.n_layer", config.n_layer, len(layers)),
        ("model.block_size", config.block_size, positions),
    ):
        if said != found:
            what = f"model.safetensors does not fit config.json: {what} is {said}, not {found}"
            raise damaged(path, what)


def _check_tensors(path: Path, checkpoint: Checkpoint) -> None:
    """Compare names, shapes and types of all tensors with the model's; refuse NaN and infinity."""
    model = GPT(checkpoint.config.model, len(checkpoint.tokenizer))
    weights = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state = optimizer_state_shapes(model, checkpoint.config.train)
    for file, wanted, tensors in (
        ("model.safetensors", weights, checkpoint.weights),
        ("optimizer.safetensors", state, checkpoint.optimizer_state),
    ):
        if not tensors and file == "optimizer.safetensors":
            continue  # before step 1
        found = {name: tensor.shape for name, tensor in tensors.items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                sizes = f"{_size(found.get(name))}, not {_size(wanted.get(name))}"
                raise damaged(path, f"{file} does not fit config.json: {name} is {sizes}")
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not tensor.isfinite().all():
                what = f"{file}: {name} holds numbers that are not finite 32-bit floats"
                raise damaged(path, what)


def _size(shape: torch.Size | None) -> str:
    return "×".join(map(str, shape)) if shape is not None else "missing"


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
