"""Ports for the servers that benchmarks and tests start."""

import random
import socket

RANGE = range(20_000, 32_000)  # below what Linux gives out by itself: net.ipv4.ip_local_port_range


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no one listens on and that no other call gives, in any worker of any run.

    Some servers take a minute before they listen. A port that the kernel chose and that was let go may be
    another server's by then, and the one gets the other's requests. The UDP port of the same number is the
    claim: this process holds it to its end.
    """
    for port in random.SystemRandom().sample(RANGE, 200):
        with socket.socket(type=socket.SOCK_DGRAM) as claim:
            try:
                claim.bind(("127.0.0.1", port))
                with socket.create_server(("127.0.0.1", port)):
                    claim.detach()
                    return port
            except OSError:
                continue
    raise OSError(f"no port is free between {RANGE.start} and {RANGE.stop}")
