"""What torchrun tells each process that it starts, for processes that are forked instead.

A fork has loaded torch already, so that a training of several processes takes tenths of a second.
"""

import os
import socket


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tell(rank: int, size: int, port: int) -> None:
    """Let this process be number `rank` of `size`, which meet at `port`."""
    os.environ |= told(rank, size, port)


def told(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment of process number `rank` of `size`, which meet at `port`."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",  # the machine's name may mean another address
    }
