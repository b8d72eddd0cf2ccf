"""Delay on a lab's uplink: a process that carries frames between two TAPs, each after a while.

    python -m clan.lab.delay SECONDS NAMESPACE/DEVICE NAMESPACE/DEVICE

The kernel's own delay (netem) is often not there. The devices exist already and are persistent, so
their addresses and rules stay when this process goes. It ends when it is killed, and only then.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_FRAME = 65_536
_QUEUE = 10_000
"""Frames on their way before the next is lost: a second of 100 Mbit/s."""
_BATCH = 64
"""Frames read from one end before the other has its turn."""


@dataclass(slots=True, kw_only=True)
class _End:
    """One TAP, and the frames on their way out of it, each with the time it is due."""

    tap: int
    due: deque[tuple[float, bytes]] = field(default_factory=deque)


def enter_network(namespace: Path) -> None:
    """Move this thread into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns", str(namespace))
    finally:
        os.close(handle)


def open_tap(namespace: str, device: str) -> int:
    """Return a descriptor of a persistent TAP that is in a named network namespace."""
    enter_network(Path("/run/netns", namespace))
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    request = struct.pack("16sH22x", device.encode(), _IFF_TAP | _IFF_NO_PI)
    fcntl.ioctl(tap, _TUNSETIFF, request)
    return tap


def carry(delay: float, first: int, second: int) -> None:
    """Carry frames both ways between two TAPs, each `delay` seconds late, until killed."""
    a, b = _End(tap=first), _End(tap=second)
    selector = selectors.DefaultSelector()
    selector.register(first, selectors.EVENT_READ, b)
    selector.register(second, selectors.EVENT_READ, a)
    while True:
        due = min((end.due[0][0] for end in (a, b) if end.due), default=None)
        wait = None if due is None else max(due - time.monotonic(), 0)
        # A poll rounds up to whole milliseconds and epoll has no finer clock in Python, so the last
        # one is slept: frames that arrive meanwhile are read right after.
        if wait is not None and wait < 0.001:  # noqa: PLR2004 (the poll's resolution)
            time.sleep(wait)
            wait = 0
        elif wait is not None:
            wait -= 0.001
        for key, _ in selector.select(wait):
            _read(key.fd, key.data, delay)
        now = time.monotonic()
        for end in (a, b):
            while end.due and end.due[0][0] <= now:
                _write(end.tap, end.due.popleft()[1])


def _read(tap: int, towards: _End, delay: float) -> None:
    """Queue what has come in by one TAP for the other end."""
    due = time.monotonic() + delay
    for _ in range(_BATCH):
        try:
            frame = os.read(tap, _FRAME)
        except BlockingIOError:
            return
        if len(towards.due) < _QUEUE:
            towards.due.append((due, frame))


def _write(tap: int, frame: bytes) -> None:
    """Send a frame, or lose it as a wire would where the other end is down or full."""
    try:
        os.write(tap, frame)
    except OSError:
        return


def main() -> None:
    """Carry frames as the command line says."""
    delay, *ends = sys.argv[1:]
    first, second = (open_tap(*end.split("/")) for end in ends)
    carry(float(delay), first, second)


if __name__ == "__main__":
    main()
