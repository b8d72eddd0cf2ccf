"""What a user sees of two machines of a mesh: whether they talk, and by which path."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.lab.agents import Talk
from tests.lab.links import until

if TYPE_CHECKING:
    from tests.lab.agents import Box


class Chat(Talk):
    """A talk of two machines that can be asked for their paths."""

    def __init__(self, one: Box, other: Box) -> None:
        super().__init__(one, other)
        self.boxes = one, other


def know_server(*boxes: Box) -> None:
    """Wait until machines have a link to the server `vps`."""
    for each in boxes:
        until(partial(each.alive, "vps"), 60)


def reach(one: Box, other: Box, seconds: float = 30) -> Chat:
    """Talk until there is an answer."""
    talk = Chat(one, other)
    end = time.monotonic() + seconds
    while not talk.answered:
        talk.go(0.1)
        assert time.monotonic() < end, "nothing was answered"
    return talk


def settles(talk: Chat, seconds: float = 90, **what: object) -> None:
    """Talk until both ends have a path that lives of which all this is true, as `kind="lan"`."""
    one, other = talk.boxes

    def seen() -> bool:
        talk.go(0.5)
        paths = (one.path(other.name), other.path(one.name))
        return all(path is not None and what.items() <= path.items() for path in paths)

    until(seen, seconds)


def goes_on(talk: Talk, seconds: float = 20) -> float:
    """Talk until packets pass again, one after the other; return the seconds until then."""
    begun = time.monotonic()
    while True:
        before, now = len(talk.answered), time.monotonic()
        talk.go(0.5)
        if len(talk.answered) - before > 15:
            return now - begun
        assert now < begun + seconds, f"{len(talk.answered) - before} answers in half a second"


def handshakes(box: Box) -> frozenset[int]:
    """Return when each session of a machine's interfaces began, in nanoseconds of 1970."""
    found: list[int] = []
    for each in (box.folder / "wireguard").glob("clan-*.sock"):
        with socket.socket(socket.AF_UNIX) as told:
            told.connect(str(each))
            told.sendall(b"get=1\n\n")
            with told.makefile() as lines:
                read = [line.partition("=") for line in iter(lines.readline, "\n")]
        said = [int(value) for key, _, value in read if "handshake_time" in key]
        found += [10**9 * s + ns for s, ns in zip(said[::2], said[1::2], strict=True) if s]
    return frozenset(found)
