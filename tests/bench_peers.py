"""Stand-ins for the programs that the benchmark runs beside ours: what it uses of them, no more."""

from pathlib import Path

import numpy as np

MODEL = """
from dataclasses import dataclass
import torch
import torch.nn.functional as F

@dataclass
class GPTConfig:
    block_size: int = 8
    vocab_size: int = 5
    n_layer: int = 1
    n_head: int = 1
    n_embd: int = 4
    dropout: float = 0.0
    bias: bool = True

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        print("number of parameters: few")
        self.config = config
        wte = torch.nn.Embedding(config.vocab_size, config.vocab_size)
        self.transformer = torch.nn.ModuleDict({"wte": wte})

    def forward(self, idx, targets):
        assert idx.shape[1] <= self.config.block_size
        logits = self.transformer.wte(idx)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def generate(self, idx, max_new_tokens):
        return torch.zeros(len(idx), idx.shape[1] + max_new_tokens, dtype=torch.long)
"""
FLAGS = """
import sys
from pathlib import Path
assert "worker.py" not in sys.argv[0]
flags = dict(flag[2:].split("=") for flag in sys.argv[1:] if flag.startswith("--"))
"""
# an iteration takes one millisecond more than the one before it
TRAIN = f"""{FLAGS}
assert sys.argv[1] == "config/train_shakespeare_char.py" and Path(sys.argv[1]).exists()
Path(flags["out_dir"]).mkdir(exist_ok=True)
Path(flags["out_dir"], "ckpt.pt").write_text("0.0")
for i in range(int(flags["max_iters"]) + 1):
    print(f"iter {{i}}: loss 1.0000, time {{i + 1:.2f}}ms, mfu -100.00%")
"""
SAMPLE = f"""{FLAGS}
from model import GPTConfig, GPT
import torch
assert flags["num_samples"] == "0"
model = GPT(GPTConfig())
weight = float(Path(flags["out_dir"], "ckpt.pt").read_text())
torch.nn.init.constant_(model.transformer.wte.weight, weight)
"""
LECTURE = """
import torch
import torch.nn as nn
n_embd = 7

class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(n_embd, n_embd)

class WhateverItIsCalled(nn.Module):
    def __init__(self):
        super().__init__()
        assert (n_embd, n_head, block_size, dropout, device) == (16, 2, 16, 0.0, "cpu")
        self.table, self.wide = nn.Embedding(vocab_size, vocab_size), Table()

    def forward(self, idx, targets):
        assert idx.shape == (batch_size, block_size)
        logits = self.table(idx)
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

raise SystemExit("this trains for hours")
"""


def make_nanogpt(folder: Path, vocab_size: int = 5) -> Path:
    """A folder with nanoGPT's interface; its trained model gives all characters the same chance."""
    files = {"model.py": MODEL, "train.py": TRAIN, "sample.py": SAMPLE}
    files["config/train_shakespeare_char.py"] = "# settings\n"
    for name, source in files.items():
        path = folder / "nanogpt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    data = folder / "nanogpt/data/shakespeare_char"
    data.mkdir(parents=True)
    for name, length in (("train.bin", 900), ("val.bin", 101)):
        (np.arange(length) % vocab_size).astype(np.uint16).tofile(data / name)
    return folder / "nanogpt"


def make_lecture(folder: Path) -> Path:
    """A script with the lecture's interface, which must not run."""
    path = folder / "gpt.py"
    path.write_text(LECTURE, "utf-8")
    return path
