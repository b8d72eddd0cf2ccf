"""The contract of a network technology: what makes a network module usable by `clan`.

A technology is one file. It says what it can carry (`traits`), whether it runs here (`running`),
and opens sessions; a session dials routes. Everything else (ranking, racing, remembering,
observing, ssh) is written once, above it. tests/networks/conformance.py is what each must pass.

To say whether it runs, a technology is imported and nothing connects: what only a dial needs, such
as asyncio, is imported there.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from clan.model.exports import Var
    from clan.model.route import Network, Route
    from clan.system.names import Resolver
    from clan.system.underlay import Underlay


USUAL_PATIENCE = 0.35
"""Seconds: what connects at once has long connected then, on the far side of the earth too."""


class Throughput(enum.IntEnum):
    """How much a technology carries, in classes: what `--action bulk` looks at first."""

    LOW = 1
    """A few Mbit/s: onion routing."""
    MEDIUM = 2
    """Hundreds of Mbit/s: encryption in user space."""
    HIGH = 3
    """What the link carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a technology can carry and promises."""

    throughput: Throughput
    hides_location: bool = False
    """Neither end, nor anyone between, learns where the other is."""
    asks_by_multicast: bool = False
    """Peers are found by asking everyone on the LAN: anyone there can answer."""
    end_to_end: bool = False
    """Encrypted between the two machines by the network itself."""
    binds_address_to_key: bool = False
    """An address is proof of a key: nobody else can have it."""
    keeps: bool = False
    """Streams may live only as long as the session does: what it started carries them."""


class DialError(Exception):
    """A route did not lead to the machine; the message says what happened, for people."""


def silent(what: str) -> None:
    """Report nothing."""
    del what


class SetAsideError(DialError):
    """All addresses of a route did not prove to be the machine, and were not tried again."""

    def __init__(self, addresses: str) -> None:
        super().__init__(f"set aside: {addresses} showed another host key, or none")


def crashed(fault: BaseException) -> str:
    """Say that code of others raised what it should not."""
    return f"crashed: {type(fault).__name__}: {fault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An open stream to a machine.

    `sock` is connected and non-blocking, nothing of it has been read. `address` is what it leads
    to as people write it, `rtt` the time in seconds that the first round trip took. `remark` is
    what a person should know of how it was made. `former` is whether it goes by what the clan
    has replaced, and the machine is to give up.
    """

    sock: socket.socket
    address: str
    rtt: float
    remark: str | None = None
    former: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a technology may use of the world: handed in, so that tests can hand in their own."""

    resolver: Resolver
    locate: Callable[[], Underlay]
    """Where this computer is now."""
    reveal: Callable[[Var], str]
    """Decrypt a var. Raises ClanError."""
    ssh: Callable[[], str]
    """The path of the `ssh` program. Raises MissingProgramError."""
    clan_command: tuple[str, ...]
    """The words that run `clan` for this clan, for a proxy command."""
    interactive: bool = True
    """Whether anything started may ask at the terminal."""
    progress: Callable[[str], None] = silent
    """Say what is waited for, in a few words, each time that it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a dial is to reach.

    `port` None means the machine's ssh port: the stream counts when sshd's banner can be seen.
    Addresses in `avoid` are passed over; `known` is one that answered here before.
    """

    port: int | None = None
    avoid: frozenset[str] = frozenset()
    known: str | None = None


class Session(ABC):
    """A technology made ready for connections; leaving it stops what was started for it."""

    @property
    def keeps(self) -> bool:
        """Whether leaving it ends the streams that it opened; only where the traits say so."""
        return False

    @abstractmethod
    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Open a stream by one route. Raises DialError; cancelling it leaves nothing open."""


class NetworkTechnology(ABC):
    """A way to reach machines. Instances are made with no arguments and hold no state."""

    traits: ClassVar[Traits]
    returns_within: ClassVar[float] = 10.0
    """Seconds after which the network has to answer again when a machine's part was restarted."""

    @abstractmethod
    def running(self, network: Network, context: Context) -> bool:
        """Say whether a connection would find the network running here, starting nothing."""

    def patience(self, route: Route) -> float:
        """Return the seconds after which silence on a route means that it does not work now.

        A worse network may be used before; silence for longer puts this one behind next time.
        """
        del route
        return USUAL_PATIENCE

    @abstractmethod
    def session(self, network: Network, context: Context) -> AbstractAsyncContextManager[Session]:
        """Start what is needed for the duration of a connection. Raises DialError."""
