"""A process that trains along: what the leading one sends to it, and what it does with that.

It reads no command line and no checkpoint, and writes nothing but prepared texts. So nothing that
it does can come between the leading process and the disk.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from gpt.config import Config
from gpt.data.corpus import load_corpus
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake, say
from gpt.model import GPT
from gpt.processes import PeerLost, Processes
from gpt.storage.checkpoint import Checkpoint, Progress
from gpt.storage.run_directory import for_shell
from gpt.threads import sharing_cores, use_threads
from gpt.training.identity import identity
from gpt.training.monitor import Monitor
from gpt.training.trainer import Trainer


@sharing_cores()
def follow(processes: Processes) -> int:
    """Train along from where the leading process says; the exit code.

    Raises:
        Mistake: with exit code 2 if the bytes would not be the leading process's, since this
            machine, or the text on it, is another; 3 if the text is not there; else as `Trainer`.
        PeerLost: if another process is gone.
    """
    start, run = _received(processes.from_leader())
    config = start.config
    use_threads(config.train.threads, processes.local_size)
    corpus = load_corpus(config, say)
    theirs, ours = start.progress.identity, identity(config, corpus, processes)
    if differing := [f"{key} {ours.get(key)}, not {theirs[key]}" for key in theirs
                     if ours.get(key) != theirs[key]]:  # fmt: skip
        what = f"process {processes.rank} is not like the first one: {'; '.join(differing)}"
        fix = "use machines alike, with the same packages, the same text and as many threads"
        raise Mistake(Exit.USAGE, what, fix)
    Trainer(config, corpus, None, start, Unseen(), processes=processes).train()
    if processes.lost:
        raise going_on(processes.lost, processes, run)
    return 128 + processes.stop_signal if processes.stop_signal else Exit.DONE


def going_on(lost: PeerLost, processes: Processes, run: Path, saved: str = "") -> PeerLost:
    """`lost` with the way on as the fix, after what is `saved`."""
    fix = f"{saved}go on with: {processes.launcher} train.py --resume {for_shell(run)}"
    return PeerLost(lost.exit_code, lost.what, fix, lost.told)


def lead(processes: Processes, start: Checkpoint, config: Config, run: Path) -> None:
    """Send to the processes that follow where the training goes on from."""
    about = {
        "run": str(run.absolute()),
        "config": config.model_dump(),
        "alphabet": start.tokenizer.alphabet,
        "progress": asdict(start.progress),
    }
    tensors = {"about": torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}
    tensors |= {f"weights/{name}": tensor for name, tensor in start.weights.items()}
    tensors |= {f"state/{name}": tensor for name, tensor in start.optimizer_state.items()}
    processes.from_leader(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _received(data: bytes) -> tuple[Checkpoint, Path]:
    """What `lead` sent."""
    tensors = load(data)
    about: dict[str, Any] = json.loads(tensors.pop("about").numpy().tobytes())
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "state": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    config, tokenizer = Config.model_validate(about["config"]), CharTokenizer(about["alphabet"])
    progress = Progress(**about["progress"])
    start = Checkpoint(config, tokenizer, progress, parts["weights"], parts["state"])
    return start, Path(about["run"])


class Unseen(Monitor):
    """Shows and logs nothing: the leading process does."""

    def __init__(self) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def advance(self, loss: Tensor) -> None:
        pass

    def evaluating(self) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        pass

    def look_inside(self, model: GPT, step: int, between: Callable[[], None]) -> None:
        pass

    def finish(self, model: GPT, step: int) -> None:
        pass

    def sync(self) -> None:
        pass
