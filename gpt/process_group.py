"""Several processes, as torchrun starts them, on one machine or more; torch.distributed joins them.

A step has one all-reduce, of one flat buffer: the gradients, the loss, and which signal a process
heard. So all stop after the same step, for a signal or for a loss that is not finite, without any
other message between them.
"""

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from gpt.errors import Exit, Mistake
from gpt.processes import PeerLost, Processes

TIMEOUT = "GPT_PEER_TIMEOUT"  # environment variable: seconds to wait for another process
DEFAULT_TIMEOUT = "600"  # the leading process may have a large text to prepare
SIGNALS = 32  # their numbers are smaller
STORE_ANSWERS = 1.0  # seconds; it does so in thousandths
PIECE = 2**28  # bytes that are sent at a time
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")

Result = TypeVar("Result")


@contextmanager
def joined() -> Iterator["Group"]:
    """Inside, the processes that torchrun started, once they have met.

    All but the leading one print nothing inside. One that ends tells the others its exit code, and
    they end with the same, in silence.

    Raises:
        Mistake: with exit code 2 if the environment is not torchrun's.
        PeerLost: if not all come within the timeout.
    """
    group, code = Group(*_launch()), int(Exit.BUG)
    try:
        with group.silent_unless_leading():
            yield group
            group.finish()
        code = Exit.DONE
    except Mistake as mistake:
        code = mistake.exit_code
        if not group.speaks_of(mistake):
            group.is_over = True
            raise SystemExit(code) from None
        raise
    except KeyboardInterrupt:
        code = Exit.SIGINT
        raise
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else code
        raise
    finally:
        group.leave(code)


def _launch() -> tuple[int, int, timedelta]:
    """The local rank, the number of processes on this machine, and the timeout.

    Raises:
        Mistake: with exit code 2 if the environment does not say, or says nonsense.
    """
    fix = "start it with torchrun, or unset RANK"
    for name in LAUNCHED:
        if name not in os.environ:
            raise Mistake(Exit.USAGE, f"RANK is set, but not {name}", fix)
        if not os.environ[name].isdecimal():
            raise Mistake(Exit.USAGE, f"{name} is {os.environ[name]!r}, no number", fix)
    given, seconds = os.environ.get(TIMEOUT, DEFAULT_TIMEOUT), 0.0
    with suppress(ValueError):
        seconds = float(given)
    if not 0 < seconds < 10**6:
        raise Mistake(Exit.USAGE, f"{TIMEOUT} is {given!r}", "give seconds, such as 600")
    local_rank, local_size = (int(os.environ[f"LOCAL_{name}"]) for name in ("RANK", "WORLD_SIZE"))
    return local_rank, local_size, timedelta(seconds=seconds)


class Group(Processes):
    """Processes joined by Gloo, and by NCCL where each has a GPU of its own.

    Args:
        local_rank: of this process on its machine, where there are `local_size`.
        timeout: how long to wait for another process. One that dies is noticed at once; only one
            that hangs, or is cut off, after that time.
    """

    def __init__(self, local_rank: int, local_size: int, timeout: timedelta):
        self.local_size, self.agreed = local_size, 0
        self.training = self.is_over = False  # the start is sent; the others know that all ends
        self.backend = _take_gpu(local_rank, local_size)
        backends = "cpu:gloo,cuda:nccl" if self.backend == "nccl" else "gloo"
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # NCCL raises, and does not abort

        def meet() -> tuple[PrefixStore, int, int]:
            store, rank, size = next(rendezvous("env://", timeout=timeout))
            launch = PrefixStore("char-gpt", store)
            dist.init_process_group(
                backends, store=_of_attempt(launch), rank=rank, world_size=size, timeout=timeout
            )
            return launch, rank, size

        try:
            self.launch, self.rank, self.size = waited_for(meet)
        except RuntimeError as problem:
            size, seconds = os.environ["WORLD_SIZE"], f"{timeout.total_seconds():g}"
            what = f"the {size} processes did not meet within {seconds} s: {_reason(problem)}"
            fix = "start torchrun on as many machines as it was told, with one rendezvous endpoint"
            raise PeerLost(Exit.PEER, what, fix) from None
        self.store = _of_attempt(self.launch)

    @property
    def launcher(self) -> str:  # type: ignore[override]
        here = self.size == self.local_size
        return f"torchrun --nproc-per-node {self.size}" if here else "torchrun ..."

    @property
    def stop_signal(self) -> int:
        return self.agreed

    def average(self, tensors: Sequence[Tensor]) -> None:
        sizes = [tensor.numel() for tensor in tensors]
        flat = torch.cat([*(tensor.flatten() for tensor in tensors), self._hearing(tensors[0])])
        self._reduce(flat)
        *means, heard = flat.div_(self.size).split([*sizes, SIGNALS])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))
        self._agree(heard)

    def total(self, part: float) -> float:
        own = torch.tensor([part], dtype=torch.float64)
        flat = torch.cat([own, self._hearing(own)])
        self._reduce(flat)
        self._agree(flat[1:])
        return float(flat[0])

    def from_leader(self, data: bytes = b"") -> bytes:
        length, exit_code = self._head(len(data))
        if not length:
            self.is_over = True
            raise SystemExit(exit_code)
        self.training = True
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.leads else None
        content = torch.empty(length, dtype=torch.uint8) if sent is None else sent
        for piece in content.split(PIECE):
            self._do(partial(dist.broadcast, piece, 0))
        return content.numpy().tobytes()

    def _head(self, length: int, exit_code: int = 0) -> tuple[int, int]:
        head = torch.tensor([length, exit_code])
        self._do(lambda: dist.broadcast(head, 0))
        return int(head[0]), int(head[1])

    @property
    def begun(self) -> Path | None:
        return Path(self.launch.get("run").decode()) if self.launch.check(["run"]) else None

    def begin(self, run: Path) -> None:
        self.launch.set("run", str(run))

    # --- who speaks ----------------------------------------------------------------------------

    @contextmanager
    def silent_unless_leading(self) -> Iterator[None]:
        """Inside, stdout and stderr of all but the leading process go nowhere."""
        with ExitStack() as stack:
            if not self.leads:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield

    def speaks_of(self, mistake: Mistake) -> bool:
        """Whether it is for this process to tell of a mistake, which others may see as well."""
        if self.leads:
            return True
        if not isinstance(mistake, PeerLost):
            return mistake.exit_code != Exit.NUMERIC  # an average: the leading process sees it
        with suppress(RuntimeError):  # the store may be gone too
            return not mistake.told and self._ask(lambda: self.store.add("noticed", 1)) == 1
        return True

    def finish(self) -> None:
        """Return once all have come here: torchrun ends those that are not done with a signal."""
        if self.training:
            with suppress(PeerLost):  # there is nothing left to do
                self._reduce(torch.zeros(1))

    def leave(self, exit_code: int) -> None:
        """Tell those who wait for this process that it ends, and with which code."""
        if self.is_over:
            return
        if self.leads and not self.training:  # the others still wait for the start
            with suppress(PeerLost):
                self._head(0, exit_code)
        elif exit_code != Exit.DONE:
            with suppress(RuntimeError):
                left = f"{self.rank} {exit_code} {socket.gethostname()}"
                self._ask(lambda: self.store.compare_set("left", "", left))
        if exit_code == Exit.DONE:
            dist.destroy_process_group()

    # --- waiting for the others ----------------------------------------------------------------

    def _hearing(self, like: Tensor) -> Tensor:
        """(SIGNALS,) with a one at the number of the signal that this process heard."""
        heard = like.new_zeros(SIGNALS)
        heard[self.heard] = 1
        return heard

    def _agree(self, heard: Tensor) -> None:
        """Stop for the lowest of the signals that any process heard."""
        self.agreed = next((n for n, count in enumerate(heard.tolist()) if n and count), 0)

    def _reduce(self, tensor: Tensor) -> None:
        self._do(lambda: dist.all_reduce(tensor))

    def _do(self, together: Callable[[], object]) -> None:
        """Do what all processes do together."""
        try:
            waited_for(together)
        except RuntimeError as problem:
            self.lost, self.is_over = self._lost(problem), True
            raise self.lost from None

    def _ask(self, store: Callable[[], Result]) -> Result:
        """What the store answers, unless it is cut off as well."""
        return waited_for(store, STORE_ANSWERS)

    def _lost(self, problem: RuntimeError) -> PeerLost:
        """What became of the process that does not answer."""
        left = ""
        with suppress(RuntimeError):  # the store may be gone too
            there = self._ask(lambda: self.store.check(["left"]))
            left = self._ask(lambda: self.store.get("left")).decode() if there else ""
        if left:
            rank, code, host = left.split(" ")
            known = Exit(int(code)) if int(code) in set(Exit) else Exit.PEER
            what = f"process {rank} on {host} ended with exit code {code} and said why"
            return PeerLost(known, what, "see what it says there", told=True)
        fix = "start them all again; a run that has begun goes on with --resume"
        return PeerLost(Exit.PEER, f"another process is gone: {_reason(problem)}", fix)


def waited_for(work: Callable[[], Result], limit: float | None = None) -> Result:
    """`work()`, done in a thread: within torch no signal is handled, while Python waits it is.

    Raises:
        RuntimeError: if it takes longer than `limit` seconds, as torch does at its own timeouts.
    """
    results: list[Result] = []
    problems: list[Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except Exception as problem:
            problems.append(problem)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    if not done.wait(limit):
        raise RuntimeError(f"no answer within {limit} s")
    if problems:
        raise problems[0]
    return results[0]


def _of_attempt(launch: PrefixStore) -> PrefixStore:
    """The part of a store for these processes alone: torchrun's own outlives those it restarts."""
    return PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), launch)


def _take_gpu(local_rank: int, local_size: int) -> str:
    """Make a GPU the current one, before anything is put there; what reduces its tensors."""
    count = torch.cuda.device_count()
    if not count:
        return "gloo"
    torch.cuda.set_device(local_rank % count)
    return "nccl" if local_size <= count else "gloo"  # NCCL refuses two processes on one GPU


def _reason(problem: RuntimeError) -> str:
    """The first sentence of torch's message, without the place in its source."""
    return re.sub(r"^\[\S+:\d+\] ", "", f"{problem}\n".splitlines()[0]).split(". ")[0][:200]
