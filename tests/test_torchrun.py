"""Several processes as users start them: torchrun itself, its restarts, and two hosts."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from faults import ROOT, Workshop, differences, outcome
from test_faults_processes import FOREVER, NO_SAVES, rows, until

pytestmark = pytest.mark.slow  # each start of torch takes seconds

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ALONE = ["--standalone", "--nproc-per-node", "2"]
STEPS = ["--train.max_steps", "200", "--log.save_every", "7"]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def start(
    shop: Workshop, torch: list[str], argv: list[str], name: str = "output.txt", **more: str
) -> subprocess.Popen[bytes]:
    """Start train.py by torchrun, with `more` in its environment."""
    with (shop.folder / name).open("wb") as output:
        command = [*TORCHRUN, *torch, str(ROOT / "train.py"), *argv]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
        before = ["ip", "netns", "exec", more["HOST"]] if "HOST" in more else []
        return subprocess.Popen([*before, *command], stdout=output, stderr=output, env=environment)


def process_of(launcher: subprocess.Popen[bytes], rank: int) -> psutil.Process:
    """The process of this rank."""
    children = psutil.Process(launcher.pid).children(recursive=True)
    return next(child for child in children if child.environ().get("RANK") == str(rank))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("named", [True, False], ids=["run.dir", "without run.dir"])
def test_a_killed_process_is_started_again_and_the_run_goes_on(
    shop: Workshop, rank: int, named: bool
) -> None:
    """To the same bytes, by itself."""
    whole, run = shop.folder / "whole", shop.folder / "run"
    assert start(shop, ALONE, shop.fresh(whole, *STEPS)).wait(120) == 0
    argv = shop.fresh(run, *STEPS)
    if not named:  # the run is made in runs/ of the project
        argv = [*argv[:2], *STEPS]
    launcher = start(shop, [*ALONE, "--max-restarts", "3"], argv)
    try:
        if not named:
            until(lambda: "step      0" in (shop.folder / "output.txt").read_text())
            (run,) = (ROOT / "runs").glob("*-toy")
        until(lambda: rows(run) > 50)
        process_of(launcher, rank).kill()
        assert launcher.wait(120) == 0
        found = [part for part in differences(run, outcome(whole)) if "config" not in part]
        assert found == []  # config holds run.dir
    finally:
        launcher.kill()
        if not named:
            shutil.rmtree(run)


def test_sigterm_to_torchrun_stops_all_with_all_saved(shop: Workshop) -> None:
    run = shop.folder / "run"
    launcher = start(shop, ALONE, shop.fresh(run, *FOREVER, *NO_SAVES))
    until(lambda: rows(run) > 20)
    processes = [process_of(launcher, rank) for rank in range(2)]
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(60)
    said = (shop.folder / "output.txt").read_text()
    (step,) = re.findall(r"stopped after step (\d+); go on with: torchrun", said)
    assert not any(process.is_running() for process in processes)
    assert rows(run) == int(step) + 1
    assert (run / f"checkpoints/step-{int(step):06}").exists()


# --- two hosts: network namespaces with a cable between them ------------------------------------

HOSTS = {"gpt-left": "10.90.14.1", "gpt-right": "10.90.14.2"}


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)


def is_alive(process: psutil.Process) -> bool:
    """Not yet ended, whether torchrun has noticed or not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def cable() -> Iterator[list[str]]:
    """Two hosts; the arguments of `ip` for the left end of the cable between them."""
    left, right = HOSTS
    with ExitStack() as stack:
        for host in HOSTS:
            try:
                ip("netns", "add", host)
            except (OSError, subprocess.CalledProcessError) as problem:
                pytest.skip(f"NO TWO HOSTS: ip netns add: {problem}; run it as root, with iproute2")
            stack.callback(ip, "netns", "del", host)
        ip("link", "add", "cable", "netns", left, "type", "veth", "peer", "cable", "netns", right)
        for host, address in HOSTS.items():
            ip("-n", host, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "set", "cable", "up")
        yield ["-n", left, "link", "set", "cable"]


def on_both(shop: Workshop, argv: list[str]) -> list[subprocess.Popen[bytes]]:
    """Start torchrun on both hosts, which meet at the left one."""
    endpoint = f"{HOSTS['gpt-left']}:29511"
    common = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "x"]
    return [
        start(
            shop,
            [*common, "--rdzv-endpoint", endpoint, "--local-addr", address,
             "--rdzv-conf", f"is_host={int(host == 'gpt-left')}"],
            argv, f"{host}.txt", HOST=host, GLOO_SOCKET_IFNAME="cable", GPT_PEER_TIMEOUT="5",
        )
        for host, address in HOSTS.items()
    ]  # fmt: skip


def test_a_cable_that_is_cut_ends_both_and_the_run_goes_on(
    shop: Workshop, cable: list[str]
) -> None:
    whole, run = shop.folder / "whole", shop.folder / "run"
    assert [each.wait(120) for each in on_both(shop, shop.fresh(whole, *STEPS))] == [0, 0]
    launchers = on_both(shop, shop.fresh(run, *STEPS))
    until(lambda: rows(run) > 50)
    workers = [process_of(launcher, rank) for rank, launcher in enumerate(launchers)]
    ip(*cable, "down")
    began = time.monotonic()
    until(lambda: not any(is_alive(worker) for worker in workers))
    assert time.monotonic() - began < 15, "they wait for longer than the timeout"
    assert launchers[0].wait(60) == 1
    launchers[1].kill()  # torchrun itself waits for minutes for its rendezvous
    launchers[1].wait()
    ip(*cable, "up")
    for host in HOSTS:
        said = (shop.folder / f"{host}.txt").read_text()
        assert "error: another process is gone: Timed out waiting 5000ms" in said
    assert "(exitcode: 8)" in (shop.folder / "gpt-left.txt").read_text()
    assert [each.wait(120) for each in on_both(shop, ["--resume", str(run), "--exact"])] == [0, 0]
    found = [part for part in differences(run, outcome(whole)) if "config" not in part]
    assert found == []
