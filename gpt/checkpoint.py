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

import errno
import hashlib
import itertools
import json
import math
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gpt import storage
from gpt.config import RUNS, Config
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.optim import averages_shapes
from gpt.tokenizer import CharTokenizer

FORMAT = 1


Count = Annotated[int, Field(ge=0, le=10**12)]


@checked_dataclass(config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Progress:
    """How far a run has come; all that the loop needs to go on beside weights and averages."""

    step: Count = 0
    val_loss: float | None = None  # exact, of these very weights; None where it was not measured
    best_val_loss: float | None = None
    best_step: Count = 0
    waiting: Count = 0  # evaluations since the best one
    loss_sum: float = 0.0  # of the steps since the last logged one
    loss_count: Count = 0
    elapsed_seconds: float = 0.0
    # what the run's bytes depend on
    identity: dict[str, str | int | bool] = field(default_factory=dict)


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
        model = self.bare_model()
        model.load_state_dict(self.weights)
        return model.eval()

    def bare_model(self) -> GPT:
        """The model before its first weights are drawn: whatever is in the memory."""
        with _NoFirstWeights():
            return GPT(self.config.model, len(self.tokenizer))


class _NoFirstWeights(TorchFunctionMode):
    """Inside, `nn.init` does nothing. (On the meta device torch takes a second to do nothing.)"""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


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
    path = run / "checkpoints" / _name(progress.step)
    storage.publish_directory(path, files)
    tidy(run, checkpoint.config.log.keep)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify each of its bytes.

    Raises:
        Mistake: with exit code 4, naming the file that is missing, damaged or foreign.
    """
    if not path.is_dir():
        names = ", ".join(other.name for other in checkpoints_of(path.absolute().parents[1])[-5:])
        fix = f"there are: {names}" if names else "give a run or one of its checkpoints"
        raise Mistake(Exit.CHECKPOINT, f"no checkpoint {path}", fix)
    files = _verified_files(path)
    readers: dict[str, Callable[[bytes], Any]] = {
        "config.json": lambda data: Config.model_validate(json.loads(data)),
        "vocabulary.json": lambda data: _tokenizer(json.loads(data)),
        "training.json": lambda data: Progress(**json.loads(data)),
        "model.safetensors": load,
        "optimizer.safetensors": load,
    }
    parts = []
    for name, read in readers.items():
        try:
            parts.append(read(files[name]))
        except _NOT_OURS as problem:
            what = f"{name} is not one of this project ({type(problem).__name__})"
            raise _damaged(path, what) from None
    checkpoint = Checkpoint(*parts)
    if checkpoint.progress.step != json.loads(files["manifest.json"])["step"]:
        raise _damaged(path, f"training.json is that of step {checkpoint.progress.step}")
    _check_sizes(path, checkpoint)
    _check_tensors(path, checkpoint)
    return checkpoint


# what readers raise at bytes that are consistently hashed, but were not written by this project
_NOT_OURS = (
    ValidationError, SafetensorError, ValueError, TypeError, KeyError, AttributeError,
    RecursionError, OverflowError,
)  # fmt: skip


def _tokenizer(alphabet: Any) -> CharTokenizer:
    if not isinstance(alphabet, str) or not alphabet or list(alphabet) != sorted(set(alphabet)):
        raise ValueError("not the sorted characters of an alphabet")
    alphabet.encode()  # half a surrogate pair cannot be written
    return CharTokenizer(alphabet)


def _verified_files(path: Path) -> dict[str, bytes]:
    try:
        manifest = _read(path / "manifest.json", 2**20)
        body = json.loads(manifest)
        if body["format"] != FORMAT:
            what = f"{path}: manifest.json says format {body['format']!r}, not {FORMAT}"
            fix = "use the version of this project that wrote it"
            raise Mistake(Exit.CHECKPOINT, what, fix)
        if manifest != _sealed({key: value for key, value in body.items() if key != "seal"}):
            raise ValueError
        if re.fullmatch(r"step-\d+", path.name) and path.name != _name(body["step"]):
            raise _damaged(path, f"manifest.json is that of step {body['step']}")
        files = {
            name: _read(path / name, known["bytes"])
            for name, known in body["files"].items()
            if _is_plain(name)
        }
        present = {item.name for item in path.iterdir()} - {"manifest.json"}
    except FileNotFoundError as problem:
        raise _damaged(path, f"{Path(problem.filename).name} is missing") from None
    except OSError as problem:
        name = Path(problem.filename or path).name
        raise _damaged(path, f"{name} is unreadable: {problem.strerror}") from None
    except _NOT_OURS:
        raise _damaged(path, "manifest.json is damaged") from None
    strangers = present.symmetric_difference(files)
    if strangers:
        raise _damaged(path, f"{min(strangers)} does not belong to it")
    for name, data in files.items():
        if body["files"][name] != _fingerprint(data):
            raise _damaged(path, f"{name} is damaged")
    return {**files, "manifest.json": manifest}


def _read(path: Path, most: int) -> bytes:
    """The bytes of a plain file of at most `most` bytes; of a larger one, one too many."""
    if path.exists() and (path.is_symlink() or not path.is_file()):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    with path.open("rb") as file:
        return file.read(min(most, path.stat().st_size) + 1)


def _check_sizes(path: Path, checkpoint: Checkpoint) -> None:
    """Hold the config against the weights before anything is built as large as it says."""
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
            raise _damaged(path, what)


def _check_tensors(path: Path, checkpoint: Checkpoint) -> None:
    """Names, shapes and finite numbers: nothing that a model is built of is taken on trust."""
    model = checkpoint.bare_model()
    weights = {name: tensor.shape for name, tensor in model.state_dict().items()}
    averages = averages_shapes(model, checkpoint.config.train) if checkpoint.averages else {}
    for file, wanted, tensors in (
        ("model.safetensors", weights, checkpoint.weights),
        ("optimizer.safetensors", averages, checkpoint.averages),
    ):
        found = {name: tensor.shape for name, tensor in tensors.items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                sizes = f"{_size(found.get(name))}, not {_size(wanted.get(name))}"
                raise _damaged(path, f"{file} does not fit config.json: {name} is {sizes}")
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not tensor.isfinite().all():
                what = f"{file}: {name} holds numbers that are not finite 32-bit floats"
                raise _damaged(path, what)


def _name(step: int) -> str:
    return f"step-{step:06d}"


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
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_step)


_NAME = re.compile(r"step-[0-9]{6,13}")


def _step(path: Path) -> int:
    return int(path.name[5:])


def load_last(run: Path, say: Callable[[str], None]) -> Checkpoint:
    """The newest whole checkpoint of a run; steps lost to a damaged one are said.

    Raises:
        Mistake: with exit code 4 if there is none.
    """
    checkpoint, damage = _first_whole(run, lambda: checkpoints_of(run)[::-1])
    if checkpoint:
        step = checkpoint.progress.step
        if damage:
            path, mistake = next(iter(damage.items()))
            lost = f"steps {step + 1} to {_step(path)} are lost"
            say(f"warning: {mistake.what}; going on from step {step}, {lost}")
        return checkpoint
    for mistake in damage.values():
        mistake.fix = "no checkpoint of this run is whole: train anew, in another directory"
        raise mistake
    raise Mistake(Exit.CHECKPOINT, f"no checkpoint in {run}", f"train first: {known_runs()}")


def load_best(run: Path, say: Callable[[str], None]) -> Checkpoint:
    """The whole checkpoint with the lowest exact validation loss, else the newest."""
    checkpoint, damage = _first_whole(run, lambda: _by_loss(run))
    for mistake in damage.values():
        say(f"warning: {mistake.what}; taking the next best")
    return checkpoint or load_last(run, say)


def _first_whole(
    run: Path, list_paths: Callable[[], list[Path]]
) -> tuple[Checkpoint | None, dict[Path, Mistake]]:
    """The first of the listed checkpoints that is whole, and what is wrong with those before it.

    A training may delete one while it is read: then the list is made anew.
    """
    damage: dict[Path, Mistake] = {}
    while paths := [path for path in list_paths() if path not in damage]:
        try:
            return load_checkpoint(paths[0]), damage
        except Mistake as mistake:
            if paths[0].exists() or paths[0].is_symlink():
                damage[paths[0]] = mistake
    return None, damage


def _by_loss(run: Path) -> list[Path]:
    """The checkpoints whose validation loss was measured, the best first."""
    losses = {path: _val_loss(path) for path in checkpoints_of(run)}
    return sorted((path for path in losses if losses[path] < math.inf), key=losses.__getitem__)


def set_aside(run: Path, step: int) -> None:
    """Rename what was found damaged after `step`: the run goes on from there and writes anew."""
    for path in checkpoints_of(run):
        if _step(path) > step:
            aside = path.with_name(f"damaged-{path.name}")
            with storage.storage_errors(path):
                storage.remove(aside)
                storage.rename(path, aside)


def find_checkpoint(name: str | None, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that `--run NAME` means: a checkpoint, a run's best, or the newest run's."""
    path = newest_run() if name is None else Path(name)
    if (path / "manifest.json").exists() or _NAME.fullmatch(path.name):
        return load_checkpoint(path)
    if not path.is_dir():
        raise Mistake(Exit.CHECKPOINT, f"no run {path}", known_runs())
    return load_best(path, say)


def newest_run() -> Path:
    """The run that saved last; those that have not learned anything yet come after all others."""
    runs = [path for path in RUNS.glob("*") if checkpoints_of(path)]
    if not runs:
        fix = "train one first: python train.py --config tiny.yaml"
        raise Mistake(Exit.CHECKPOINT, f"no run with a checkpoint in {RUNS}", fix)

    def age(run: Path) -> tuple[bool, float]:
        return _step(checkpoints_of(run)[-1]) > 0, (run / "checkpoints").stat().st_mtime

    return max(runs, key=age)


def known_runs() -> str:
    """What to say when a run is not there."""
    names = sorted(path.name for path in RUNS.glob("*") if checkpoints_of(path))
    if not names:
        return "python train.py --config tiny.yaml trains one"
    return f"there are, in {RUNS}: {', '.join(names[-5:])}"


def _val_loss(path: Path) -> float:
    """As the manifest says; infinite where it was not measured."""
    try:
        loss = json.loads(_read(path / "manifest.json", 2**20))["val_loss"]
    except (OSError, *_NOT_OURS):
        return math.inf
    return loss if isinstance(loss, float) and math.isfinite(loss) else math.inf


def tidy(run: Path, keep: int) -> None:
    """Delete all but the best and the `keep` newest (0: delete none), then name best and last."""
    paths = checkpoints_of(run)
    best = next(iter(_by_loss(run)), paths[-1])
    old = [path for path in paths[:-keep] if path != best] if keep else []
    with storage.storage_errors(run / "checkpoints"):
        for path in [*old, *(run / "checkpoints").glob(".step-*")]:  # and what crashes left
            storage.remove(path)
    storage.replace_file(run / "best", best.name.encode() + b"\n")
    storage.replace_file(run / "last", paths[-1].name.encode() + b"\n")


# --- the run directory -------------------------------------------------------------------------


def create_run(config: Config, name: str) -> Path:
    """Make the directory of a new run: run.dir, or runs/<time stamp>-<name>.

    Raises:
        Mistake: with exit code 7 if something lies there already.
    """
    path = Path(config.run.dir or RUNS / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{name}")
    path = path.expanduser().absolute()
    first = path.name
    with storage.storage_errors(path):
        for attempt in itertools.count(2):
            try:
                storage.make_directory(path, exist_ok=False)
                return path
            except FileExistsError:
                if config.run.dir:
                    return _unused(path, config.run.dir)
                path = path.with_name(f"{first}-{attempt}")
    raise AssertionError("unreachable")


def _unused(path: Path, given: str) -> Path:
    """`path`, if nothing lies there but what a start cut short may leave."""
    left = {".lock", "checkpoints"}
    if not path.is_dir() or {item.name for item in path.iterdir()} - left or checkpoints_of(path):
        what = f"{given} is not empty: a new run does not write over it"
        fix = f"go on with --resume {given}, or give another --run.dir"
        raise Mistake(Exit.BUSY, what, fix)
    return path


def locked(run: Path) -> AbstractContextManager[None]:
    """Hold a run directory: one writer at a time, until the process ends, however it ends.

    Raises:
        Mistake: with exit code 7 if another process holds it.
    """
    return storage.lock(run / ".lock", wait=False)
