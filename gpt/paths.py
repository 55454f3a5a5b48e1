"""Where the project keeps its files."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "configs"
DATA = PROJECT / "data"
RUNS = PROJECT / "runs"
