"""A run and the rows that it logs, for the tests of what is written while training."""

import json
from pathlib import Path
from typing import Any

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.training.run import train_new


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def trained(config: Config, run: Path, **log: Any) -> Path:
    keys = {f"log.{key}": value for key, value in log.items()}
    assert train_new(overridden(config, {**keys, "run.dir": str(run)}), "toy") == 0
    return run
