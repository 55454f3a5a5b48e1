"""Checkpoints and the run directory they live in: verified, without pickle, whole or not there.

runs/<name>/checkpoints/step-000500/
    model.safetensors      the weights
    optimizer.safetensors  the optimizers' averages
    training.json          step, losses, what the run was made of
    config.json            the resolved config
    vocabulary.json        the alphabet
    manifest.json          size and SHA-256 of each of them and of itself, written last
runs/<name>/best, last     the names of two of them, for people; scanning is the truth
"""

import fcntl
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gpt import storage
from gpt.config import RUNS, Config
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer

FORMAT = 1


@dataclass
class Progress:
    """How far a run has come; all that the loop needs to go on beside weights and averages."""

    step: int = 0
    val_loss: float | None = None  # exact, of these very weights; None where it was not measured
    best_val_loss: float | None = None
    best_step: int = 0
    waiting: int = 0  # evaluations since the best one
    loss_sum: float = 0.0  # of the steps since the last logged one
    loss_count: int = 0
    elapsed_seconds: float = 0.0
    identity: dict[str, Any] = field(default_factory=dict)  # what the run's bytes depend on


@dataclass
class Checkpoint:
    """Everything a run needs: to write text, and to go on."""

    config: Config
    tokenizer: CharTokenizer
    progress: Progress
    weights: dict[str, Tensor]
    averages: dict[str, Tensor]  # see optim.averages_of

    def make_model(self) -> GPT:
        """The model with its weights, in evaluation mode, on the CPU."""
        model = GPT(self.config.model, len(self.tokenizer))
        model.load_state_dict(self.weights)
        return model.eval()


# --- one checkpoint ----------------------------------------------------------------------------


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Publish a checkpoint, then let older ones go: the best and the newest are always kept."""
    progress = checkpoint.progress
    files = {
        "model.safetensors": save(_plain(checkpoint.weights)),
        "optimizer.safetensors": save(_plain(checkpoint.averages)),
        "training.json": _json(asdict(progress)),
        "config.json": _json(checkpoint.config.model_dump()),
        "vocabulary.json": _json(checkpoint.tokenizer.alphabet),
    }
    files["manifest.json"] = _manifest(files, progress)
    path = run / "checkpoints" / f"step-{progress.step:06d}"
    storage.publish_directory(path, files)
    _rotate(run, checkpoint.config.log.keep)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify each of its bytes.

    Raises:
        Mistake: with exit code 4, naming the file that is missing, damaged or foreign.
    """
    if not path.is_dir():
        raise Mistake(
            Exit.CHECKPOINT, f"no checkpoint {path}", "give a run or one of its checkpoints"
        )
    files = _verified_files(path)
    try:
        checkpoint = Checkpoint(
            Config.model_validate(json.loads(files["config.json"])),
            CharTokenizer(json.loads(files["vocabulary.json"])),
            Progress(**json.loads(files["training.json"])),
            load(files["model.safetensors"]),
            load(files["optimizer.safetensors"]),
        )
    except (ValidationError, SafetensorError, ValueError, TypeError, KeyError) as problem:
        raise _damaged(
            path, f"not a checkpoint of this project ({type(problem).__name__})"
        ) from None
    _check_weights(path, checkpoint)
    return checkpoint


def _verified_files(path: Path) -> dict[str, bytes]:
    try:
        manifest = (path / "manifest.json").read_bytes()
        body = json.loads(manifest)
        if body["format"] != FORMAT:
            fix = "use the version of this project that wrote it"
            raise Mistake(Exit.CHECKPOINT, f"{path} has format {body['format']}, not {FORMAT}", fix)
        files = {name: (path / name).read_bytes() for name in body["files"] if _is_plain(name)}
        present = {item.name for item in path.iterdir()} - {"manifest.json"}
    except FileNotFoundError as problem:
        raise _damaged(path, f"{Path(problem.filename).name} is missing") from None
    except OSError as problem:
        raise _damaged(path, f"unreadable: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(path, "manifest.json is damaged") from None
    strangers = present.symmetric_difference(files)
    if strangers:
        raise _damaged(path, f"{min(strangers)} does not belong to it")
    for name, data in files.items():
        if body["files"][name] != _fingerprint(data):
            raise _damaged(path, f"{name} is damaged")
    if manifest != _sealed({key: value for key, value in body.items() if key != "seal"}):
        raise _damaged(path, "manifest.json is damaged")
    if path.name != f"step-{body['step']:06d}":
        raise _damaged(path, f"its manifest is that of step {body['step']}")
    return files


def _check_weights(path: Path, checkpoint: Checkpoint) -> None:
    """Names, shapes and finite numbers: nothing that a model is built of is taken on trust."""
    with torch.device("meta"):
        model = GPT(checkpoint.config.model, len(checkpoint.tokenizer))
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            sizes = f"{_size(found.get(name))}, not {_size(wanted.get(name))}"
            raise _damaged(path, f"{name} is {sizes}, as its config's model section says")
    for name, tensor in checkpoint.weights.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise _damaged(path, f"{name} holds numbers that are not finite 32-bit floats")


def _size(shape: torch.Size | None) -> str:
    return "×".join(map(str, shape)) if shape is not None else "missing"


def _damaged(path: Path, what: str) -> Mistake:
    fix = "use another checkpoint of the run; a run is resumed from its newest whole one"
    return Mistake(Exit.CHECKPOINT, f"{path}: {what}", fix)


def _is_plain(name: str) -> bool:
    if re.fullmatch(r"[a-z]+\.(safetensors|json)", name) is None:
        raise ValueError(name)
    return True


def _manifest(files: dict[str, bytes], progress: Progress) -> bytes:
    return _sealed(
        {
            "format": FORMAT,
            "step": progress.step,
            "val_loss": progress.val_loss,
            "files": {name: _fingerprint(data) for name, data in files.items()},
        }
    )


def _sealed(body: dict[str, Any]) -> bytes:
    """The manifest's only valid bytes: `body` with the SHA-256 of itself."""
    return _json({**body, "seal": hashlib.sha256(_json(body)).hexdigest()})


def _fingerprint(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=True).encode()


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


# --- the checkpoints of a run ------------------------------------------------------------------


def checkpoints_of(run: Path) -> list[Path]:
    """All checkpoints of a run, the oldest first; they may be damaged."""
    found = [path for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def load_last(run: Path, say: Callable[[str], None]) -> Checkpoint:
    """The newest whole checkpoint of a run; steps lost to a damaged one are said.

    Raises:
        Mistake: with exit code 4 if there is none.
    """
    damage: list[Mistake] = []
    for path in reversed(checkpoints_of(run)):
        try:
            checkpoint = load_checkpoint(path)
        except Mistake as mistake:
            damage.append(mistake)
            continue
        if damage:
            newest = int(checkpoints_of(run)[-1].name[5:])
            lost = f"steps {checkpoint.progress.step + 1} to {newest} are lost"
            say(f"warning: {damage[0].what}; going on from step {checkpoint.progress.step}, {lost}")
        return checkpoint
    if damage:
        damage[0].fix = "no checkpoint of this run is whole: train anew, in another directory"
        raise damage[0]
    raise Mistake(Exit.CHECKPOINT, f"no checkpoint in {run}", f"train first: {known_runs()}")


def load_best(run: Path, say: Callable[[str], None]) -> Checkpoint:
    """The whole checkpoint with the lowest exact validation loss, else the newest."""
    by_loss = {path: loss for path in checkpoints_of(run) if (loss := _val_loss(path)) is not None}
    for path in sorted(by_loss, key=by_loss.__getitem__):
        try:
            return load_checkpoint(path)
        except Mistake as mistake:
            say(f"warning: {mistake.what}; taking the next best")
    return load_last(run, say)


def find_checkpoint(name: str | None, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that `--run NAME` means: a checkpoint, a run's best, or the newest run's."""
    path = newest_run() if name is None else Path(name)
    if (path / "manifest.json").exists() or path.name.startswith("step-"):
        return load_checkpoint(path)
    if not path.is_dir():
        raise Mistake(Exit.CHECKPOINT, f"no run {path}", known_runs())
    return load_best(path, say)


def newest_run() -> Path:
    """The run whose newest checkpoint is the youngest."""
    runs = [path for path in RUNS.glob("*") if checkpoints_of(path)]
    if not runs:
        fix = "train one first: python train.py --config tiny.yaml"
        raise Mistake(Exit.CHECKPOINT, f"no run with a checkpoint in {RUNS}", fix)
    return max(runs, key=lambda run: checkpoints_of(run)[-1].stat().st_mtime)


def known_runs() -> str:
    """What to say when a run is not there."""
    names = sorted(path.name for path in RUNS.glob("*") if checkpoints_of(path))
    if not names:
        return "python train.py --config tiny.yaml trains one"
    return f"there are, in {RUNS}: {', '.join(names[-5:])}"


def _val_loss(path: Path) -> float | None:
    try:
        loss = json.loads((path / "manifest.json").read_bytes())["val_loss"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return loss if isinstance(loss, float) else None


def _rotate(run: Path, keep: int) -> None:
    """Delete all but the best and the `keep` newest (0: delete none), then name best and last."""
    paths = checkpoints_of(run)
    by_loss = {path: loss for path in paths if (loss := _val_loss(path)) is not None}
    best = min(by_loss, key=by_loss.__getitem__, default=paths[-1])
    for path in paths[:-keep] if keep else []:
        if path != best:
            storage.remove(path)
    storage.replace_file(run / "best", best.name.encode() + b"\n")
    storage.replace_file(run / "last", paths[-1].name.encode() + b"\n")


# --- the run directory -------------------------------------------------------------------------


def create_run(config: Config, name: str) -> Path:
    """Make the directory of a new run: run.dir, or runs/<time stamp>-<name>.

    Raises:
        Mistake: with exit code 7 if something lies there already.
    """
    path = Path(config.run.dir or RUNS / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{name}").absolute()
    with storage.storage_errors(path):
        for attempt in itertools.count(2):
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                if config.run.dir and (not path.is_dir() or any(path.iterdir())):
                    fix = f"go on with --resume {config.run.dir}, or give another --run.dir"
                    what = f"{config.run.dir} is not empty: a new run does not write over it"
                    raise Mistake(Exit.BUSY, what, fix) from None
                if config.run.dir:
                    return path
                path = path.with_name(f"{path.name.removesuffix(f'-{attempt - 1}')}-{attempt}")
    raise AssertionError("unreachable")


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run directory: one writer at a time, until the process ends, however it ends.

    Raises:
        Mistake: with exit code 7 if another process holds it.
    """
    with storage.storage_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it to end, or give another --run.dir"
            raise Mistake(Exit.BUSY, f"another process is training in {run}", fix) from None
        yield
    finally:
        os.close(descriptor)
