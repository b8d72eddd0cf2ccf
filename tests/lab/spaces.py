"""Network namespaces joined by cables, for what needs a network of its own and no whole machine.

`Space.inside()` moves this thread there: what is opened or started meanwhile stays there.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)


class Space:
    """A network namespace."""

    def __init__(self) -> None:
        self.name = f"clan-{os.getpid()}-{next(_NUMBERS)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip link set lo up")
        # An address is there at once, as nobody else has it.
        self.run("sysctl -qw net.ipv6.conf.default.accept_dad=0")

    def run(self, command: str) -> str:
        """Run a command there; return what it printed."""
        words = ["ip", "netns", "exec", self.name, *command.split()]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be there for a while."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(Path("/run/netns", self.name), os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(own)
            os.close(own)
            os.close(there)

    def remove(self) -> None:
        """Take it away, with all in it."""
        subprocess.run(["ip", "netns", "delete", self.name], check=True)


def join(one: Space, there: str, other: Space, here: str) -> None:
    """Lay a cable from one's interface `there` to another's `here`, both up and with IPv6."""
    one.run(f"ip link add name {there} type veth peer name {here} netns {other.name}")
    one.run(f"ip link set {there} up")
    other.run(f"ip link set {here} up")
    for space, name in ((one, there), (other, here)):
        while "fe80:" not in space.run(f"ip -6 addr show dev {name} -tentative"):
            time.sleep(0.02)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
