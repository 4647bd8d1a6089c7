"""Ports of this machine, for the servers that tests start themselves."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

HOST = "127.0.0.1"

PORTS = range(10_000, 32_768)
"""Below those that systems give to connections and to whoever asks for any port.

A server may be stopped and started again, and nobody else has its port meanwhile.
"""


def free_port() -> int:
    """Return a port on which nobody listens."""
    while True:
        # Not by `random`: other tests seed that, in several processes alike.
        port = secrets.choice(PORTS)
        with socket.socket() as listening, suppress(OSError):
            listening.bind((HOST, port))
            return port


def accepts(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with socket.socket() as connecting:
        return connecting.connect_ex((HOST, port)) == 0
