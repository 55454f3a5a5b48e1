"""The manifest of a checkpoint: size and SHA-256 of each file, and a seal over itself. No torch.

It is written last and read first: whatever does not match it, byte for byte, is refused by name.
"""

import errno
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

from gpt.errors import Exit, Mistake, cannot
from gpt.files import open_plain

FORMAT = 1
STOPPED = "-stopped"  # ends the name of a checkpoint that a stop left before its evaluation
MOST_BYTES = 2**20  # of a manifest
# why a whole file may be unreadable: rights, too many open files, no memory
NOT_ITS_FAULT = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def checkpoint_name(step: int, stopped: bool = False) -> str:
    """The folder of the checkpoint after `step` steps; `stopped`: before their evaluation."""
    return f"step-{step:06d}{STOPPED if stopped else ''}"


def is_checkpoint_name(name: str) -> bool:
    return re.fullmatch(rf"step-[0-9]{{6,13}}({STOPPED})?", name) is not None


def step_of(path: Path) -> int:
    """The step of the checkpoint at `path`, by its name."""
    return int(path.name.split("-")[1])


def age_of(path: Path) -> tuple[int, bool]:
    """Sorts checkpoints, the oldest first: the one before an evaluation, then the one after it."""
    return step_of(path), not path.name.endswith(STOPPED)


def with_manifest(files: dict[str, bytes], step: int, val_loss: float | None) -> dict[str, bytes]:
    """`files` and the manifest.json that describes them, last."""
    body = {
        "format": FORMAT,
        "step": step,
        "val_loss": val_loss,
        "files": {name: _fingerprint(data) for name, data in files.items()},
    }
    return {**files, "manifest.json": _sealed(body)}


def verified_files(path: Path) -> dict[str, bytes]:
    """The bytes of each file of the checkpoint at `path`, manifest.json among them.

    Raises:
        Mistake: with exit code 4, naming the file that is missing, damaged or foreign; with 5 if
            it may be whole, but the system does not let it be read.
    """
    try:
        manifest = _read(path / "manifest.json", MOST_BYTES)
        body = json.loads(manifest)
        if body["format"] != FORMAT:
            what = f"{path}: manifest.json says format {body['format']!r}, not {FORMAT}"
            fix = "use the version of this project that wrote it"
            raise Mistake(Exit.CHECKPOINT, what, fix)
        if manifest != _sealed({key: value for key, value in body.items() if key != "seal"}):
            raise ValueError("the seal does not match")
        right = {checkpoint_name(body["step"], stopped) for stopped in (False, True)}
        if re.fullmatch(rf"step-\d+({STOPPED})?", path.name) and path.name not in right:
            raise damaged(path, f"manifest.json is that of step {body['step']}")
        files = {
            name: _read(path / _plain_name(name), known["bytes"])
            for name, known in body["files"].items()
        }
        present = {item.name for item in path.iterdir()} - {"manifest.json"}
    except FileNotFoundError as problem:
        if not path.exists():  # a training keeps the newest and the best, and deletes the others
            fix = "use another checkpoint of the run"
            raise Mistake(Exit.CHECKPOINT, f"{path} was deleted while it was read", fix) from None
        raise damaged(path, f"{Path(problem.filename).name} is missing") from None
    except OSError as problem:
        if problem.errno in NOT_ITS_FAULT:
            fix = "see to it that you may read it; it may be whole"
            raise cannot("read", path, problem, Exit.STORAGE, fix) from None
        name = Path(problem.filename or path).name
        raise damaged(path, f"{name} is unreadable: {problem.strerror}") from None
    except FOREIGN:
        raise damaged(path, "manifest.json is damaged") from None
    if strangers := present.symmetric_difference(files):
        raise damaged(path, f"{min(strangers)} does not belong to it")
    for name, data in files.items():
        if body["files"][name] != _fingerprint(data):
            raise damaged(path, f"{name} is damaged")
    return {**files, "manifest.json": manifest}


def val_loss_of(path: Path) -> float:
    """The validation loss in the manifest of `path` [nats]; infinite where there is none."""
    try:
        loss = json.loads(_read(path / "manifest.json", MOST_BYTES))["val_loss"]
    except (OSError, *FOREIGN):
        return math.inf
    return loss if isinstance(loss, float) and math.isfinite(loss) else math.inf


def corpus_sha256_of(path: Path) -> str | None:
    """SHA-256 of the text that the checkpoint at `path` was trained on; None where none is said."""
    try:
        sha256 = json.loads(_read(path / "training.json", MOST_BYTES))["identity"]["corpus"]
    except (OSError, *FOREIGN):
        return None
    return sha256 if isinstance(sha256, str) else None


# Raised by Python's readers when the content is not what this project writes.
FOREIGN = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def damaged(path: Path, what: str) -> Mistake:
    """The mistake of a checkpoint that cannot be used."""
    fix = "use another checkpoint of the run; a run is resumed from its newest whole one"
    return Mistake(Exit.CHECKPOINT, f"{path}: {what}", fix)


def to_json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=True).encode()


def _sealed(body: dict[str, Any]) -> bytes:
    """The only valid bytes of a manifest: `body` with the SHA-256 of itself."""
    return to_json({**body, "seal": hashlib.sha256(to_json(body)).hexdigest()})


def _fingerprint(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read(path: Path, most: int) -> bytes:
    """The bytes of a plain file of at most `most` bytes; of a larger one, one byte too many."""
    if path.is_symlink():
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    with open_plain(path) as file:
        return file.read(min(most, path.stat().st_size) + 1)


def _plain_name(name: str) -> str:
    if re.fullmatch(r"[a-z]+\.(safetensors|json)", name) is None:
        raise ValueError(f"{name} is no file of a checkpoint")
    return name
