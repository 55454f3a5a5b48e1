"""What the numbers depend on beside the programs: processor, load, versions."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import torch
from timing import Numbers


def facts() -> Numbers:
    """The machine and the versions that are compared, by name."""
    listed = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", listed.read_text("utf-8")) if listed.exists() else None
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    here = Path(__file__).parent  # in the checkout, of which `gpt` is a copy
    commit = subprocess.run(git, cwd=here, capture_output=True, encoding="utf-8", check=False)
    found = {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
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
