"""Pairs of machines that talk: agents in network namespaces, with two cables between each two.

A cable may take a while, each way. Several pairs are harmed at once, each by a thread of its own.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.lab.agents import Box, Talk, meet
from tests.lab.internet import Town
from tests.lab.spaces import Space, join

from bench.harness.row import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.harness.ground import Ground

UPLINKS = ("eth0", "wlan0")
NEAR, FAR = 0.02, 0.15
"""Seconds of round trip."""
TOGETHER = 4
"""Pairs that are harmed at once."""
SETTLED = 120.0
"""Seconds within which everything is as it should be again."""


class Cable:
    """A cable between two spaces on which every frame takes a while: seconds each way."""

    def __init__(
        self, *, one: Space, other: Space, uplink: str, number: int, seconds: float
    ) -> None:
        self.space = Space()
        for end, space, last in (("a", one, 1), ("b", other, 2)):
            join(space, uplink, self.space, f"end{end}")
            self.space.run(f"ip tuntap add tap{end} mode tap")
            self.space.run(f"ip link add lan{end} type bridge forward_delay 0")
            for each in (f"end{end}", f"tap{end}"):
                self.space.run(f"ip link set {each} master lan{end} up")
            self.space.run(f"ip link set lan{end} up")
            space.run(f"ip addr add 192.0.{number}.{last}/24 dev {uplink}")
        ends = [f"{self.space.name}/tap{end}" for end in "ab"]
        words = [sys.executable, "-m", "clan.lab.delay", str(seconds), *ends]
        self._process = subprocess.Popen(words)

    def remove(self) -> None:
        """Take it away."""
        self._process.kill()
        self._process.wait()
        self.space.remove()


class Pair:
    """Two machines with two ways between them."""

    def __init__(self, one: Box, other: Box) -> None:
        self.one, self.other = one, other

    @property
    def both(self) -> tuple[Box, Box]:
        """Both machines."""
        return self.one, self.other

    def path(self) -> str:
        """Return the uplink of the path, when both links live."""
        wait(lambda: self.one.alive(self.other.name) == len(UPLINKS), "both links")
        return str((self.one.path(self.other.name) or {})["uplink"])

    def cut(self, uplink: str) -> None:
        """Let nothing more through by a cable, either way."""
        self.ready_to_cut(uplink)()

    def ready_to_cut(self, uplink: str) -> Callable[[], None]:
        """Return what cuts it, and takes nothing then from those who share this computer."""
        cuts = [each.ready_to_cut(uplink) for each in self.both]

        def cut() -> None:
            for each in cuts:
                each()

        return cut

    def mend(self, _: str = "") -> None:
        """Let it through again."""
        for each in self.both:
            each.mend()

    def settle(self) -> None:
        """Have the two talk until both links live."""
        for each in self.both:
            wait(lambda each=each: each.ask()["peers"], "the map")  # type: ignore[misc]
        with contextlib.closing(Talk(self.one, self.other)) as talk:
            self._settle(talk)

    def _settle(self, talk: Talk) -> None:
        end = time.monotonic() + SETTLED
        while any(a.alive(b.name) < len(UPLINKS) for a, b in (self.both, self.both[::-1])):
            talk.go(0.5)
            if time.monotonic() > end:
                raise BenchError("the two links did not come")

    def under(
        self,
        ready: Callable[[str], Callable[[], object]],
        mend: Callable[[str], None],
        before: float,
        after: float,
    ) -> Talk:
        """Harm the path under 50 datagrams a second; return the talk, which is closed.

        `ready` returns what harms the uplink that it is told.
        """
        talk = Talk(self.one, self.other)
        self._settle(talk)
        uplink = self.path()
        harm = ready(uplink)
        talk.go(before)
        talk.begin()
        try:
            harm()
            talk.go(after)
        finally:
            mend(uplink)
            talk.close()
        return talk

    def gap(
        self,
        ready: Callable[[str], Callable[[], object]],
        mend: Callable[[str], None],
        *,
        before: float = 1.0,
        after: float = 2.5,
    ) -> float:
        """Return the longest silence, in seconds, when the path is harmed."""
        return self.under(ready, mend, before, after).gap()


class Session:
    """A TCP connection between a pair's stable addresses, on which each byte comes back."""

    PORT = 2222

    def __init__(self, pair: Pair) -> None:
        with pair.other.space.inside():
            waiting = socket.create_server(
                (str(pair.other.address), self.PORT), family=socket.AF_INET6
            )
        with pair.one.space.inside():
            self._one = socket.socket(socket.AF_INET6)
        self._one.settimeout(30)
        self._one.connect((str(pair.other.address), self.PORT))
        self._other, _ = waiting.accept()
        self._other.settimeout(30)
        waiting.close()

    def echo(self) -> None:
        """Send a byte there and back. Raises OSError when the connection is no more."""
        for each, to in ((self._one, self._other), (self._other, self._one)):
            each.sendall(b"x")
            if not to.recv(1):
                raise ConnectionResetError

    def close(self) -> None:
        """End it."""
        self._one.close()
        self._other.close()


def wait(found: Callable[[], object], what: str, seconds: float = SETTLED) -> None:
    """Wait for something. Raises BenchError when it does not come."""
    end = time.monotonic() + seconds
    while not found():
        if time.monotonic() > end:
            raise BenchError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.05)


def at_once(do: Callable[[Pair], float], pairs: list[Pair]) -> list[float]:
    """Do something with all pairs at once, and return what came of each."""
    with ThreadPoolExecutor(len(pairs)) as pool:
        return list(pool.map(do, pairs))


@contextlib.contextmanager
def pairs(folder: Path, number: int, round_trip: float) -> Iterator[list[Pair]]:
    """Make so many pairs, each with two disjoint ways of a round trip, in seconds; 0 is at once."""
    with contextlib.ExitStack() as stack:
        made = []
        for n in range(number):
            town = Town(folder / str(n))
            stack.callback(town.remove)
            one, other = town.boxes("desk", "laptop")
            for network, uplink in enumerate(UPLINKS, 1):
                if round_trip:
                    cable = Cable(
                        one=one.space,
                        other=other.space,
                        uplink=uplink,
                        number=network,
                        seconds=round_trip / 2,
                    )
                    stack.callback(cable.remove)
                else:
                    join(one.space, uplink, other.space, uplink)
                    for host, each in enumerate((one, other), 1):
                        each.space.run(f"ip addr add 192.0.{network}.{host}/24 dev {uplink}")
            meet([one, other])
            made.append(Pair(one, other))
        for pair in made:
            pair.settle()
        yield made


@contextlib.contextmanager
def near(ground: Ground) -> Iterator[list[Pair]]:
    """Make pairs with a short round trip."""
    ground.report(f"{TOGETHER} pairs with two ways of {NEAR * 1000:.0f} ms between them")
    with pairs(ground.folder / "near", TOGETHER, NEAR) as made:
        yield made


@contextlib.contextmanager
def far(ground: Ground) -> Iterator[list[Pair]]:
    """Make pairs with a long one."""
    ground.report(f"{TOGETHER} pairs with two ways of {FAR * 1000:.0f} ms between them")
    with pairs(ground.folder / "far", TOGETHER, FAR) as made:
        yield made
