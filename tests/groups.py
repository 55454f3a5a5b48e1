"""Trainings of several processes, forked from a process that has loaded torch."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from faults import System, Workshop, train_command, wait_for
from kills import fork
from launch import free_port, tell

from gpt import files, paths
from gpt.command.process import run_command

Prepare = Callable[[int], None]  # changes something in a process; is given its rank


def nothing(rank: int) -> None:
    """The process stays as it is."""


@dataclass
class Members:
    """The processes of one training: their ids and what they print."""

    children: list[int]
    outputs: list[Path]

    def said(self, rank: int) -> str:
        return self.outputs[rank].read_text("utf-8")

    def end(self) -> list[int]:
        """Wait for all; their exit codes, a signal's number negative."""
        codes = [wait_for(child) for child in self.children]
        for rank, code in enumerate(codes):
            assert "Traceback" not in self.said(rank), self.said(rank)
            assert code != 1, self.said(rank)
        return codes


def begin(
    shop: Workshop,
    argv: Sequence[str],
    size: int = 2,
    prepare: Prepare = nothing,
    timeout: float = 60,
) -> Members:
    """Start `train.py` in `size` processes.

    Args:
        timeout: seconds that a process waits for another.
    """
    port = free_port()
    outputs = [shop.folder / f"output-{rank}.txt" for rank in range(size)]

    def work(rank: int) -> int:
        torch.set_num_threads(1)
        tell(rank, size, port)
        os.environ["GPT_PEER_TIMEOUT"] = str(timeout)
        paths.DATA, paths.RUNS = shop.folder / "data", shop.folder / "runs"
        files.os = files.shutil = System()  # type: ignore[assignment]
        sys.argv = ["train.py", *argv]
        prepare(rank)
        return run_command(train_command.main)

    for output in outputs:
        output.write_text("", "utf-8")
    children = [fork(lambda r=rank: work(r), outputs[rank]) for rank in range(size)]
    return Members(children, outputs)


def train(shop: Workshop, argv: Sequence[str], size: int = 2, **more: Any) -> Members:
    """Train to the end, with exit code 0 everywhere."""
    members = begin(shop, argv, size, **more)
    codes = members.end()
    assert codes == [0] * size, [members.said(rank) for rank in range(size)]
    return members


def on(rank: int, change: Callable[[], None]) -> Prepare:
    """`change` in one process alone."""
    return lambda own: change() if own == rank else None
