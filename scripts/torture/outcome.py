"""What a finished run leaves on disk: however it was treated, it must be the same."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

CLOCKS = ("elapsed_seconds", "chars_per_second")  # all that may differ
TEXT = "ROMEO:\nBut soft, what light through yonder window breaks?\n\nJULIET:\nAy me!\n\n" * 12


def outcome(run: Path) -> dict[str, Any]:
    """The checkpoints, metrics and names that a run has left, without clocks."""
    paths = sorted((run / "checkpoints").glob("step-*"))
    left: dict[str, Any] = {"checkpoints": [path.name for path in paths]}
    for path in paths:
        for name in ("model.safetensors", "optimizer.safetensors", "config.json"):
            left[f"{path.name}/{name}"] = sha256(_bytes(path / name)).hexdigest()
        left[f"{path.name}/training.json"] = _training(_bytes(path / "training.json"))
    lines = _bytes(run / "metrics.jsonl").splitlines()
    left["metrics.jsonl"] = [_without_clocks(json.loads(line)) for line in lines]
    for name in ("best", "last", "config.yaml"):
        left[name] = _bytes(run / name)
    return left


def _training(data: bytes) -> dict[str, Any]:
    try:
        return _without_clocks(json.loads(data))
    except ValueError:  # torn
        return {"torn": data}


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def differences(run: Path, undisturbed: dict[str, Any]) -> list[str]:
    """Names of the parts of `outcome` in which a run differs from the undisturbed one."""
    found = outcome(run)
    return sorted(
        key for key in found.keys() | undisturbed.keys() if found.get(key) != undisturbed.get(key)
    )


def _without_clocks(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in CLOCKS}
