"""Addresses of members: the IPv4 alias, and what becomes of connections with who is removed."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Box, content
from tests.lab.links import until
from tests.mesh.signers import signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.internet import Town

    from clan.mesh.chart.content import Content

pytestmark = pytest.mark.lab

Session = tuple[socket.socket, socket.socket]
Opener = Callable[[Box, Box, str], Session]

ALIASES = IPv4Network("10.224.128.0/20")
OF = {"desk": "10.224.128.10", "nas": "10.224.128.20", "thief": "10.224.128.30"}


def aliased(boxes: Sequence[Box]) -> Content:
    said = content(boxes)
    machines = tuple(replace(each, alias=IPv4Address(OF[each.name])) for each in said.machines)
    return replace(said, machines=machines, aliases=ALIASES)


@pytest.fixture
def three(town: Town) -> tuple[Box, Box, Box]:
    """Machines on a LAN that know each other, with a map of all as the last."""
    desk, nas, thief = boxes = town.boxes(*OF)
    lan = town.switch()
    for each in boxes:
        lan.plug(each)
        each.give(signed(aliased(boxes)))
        each.start()
    for each in (nas, thief):
        until(lambda each=each: desk.links(each.name), 60)  # type: ignore[misc]
    return desk, nas, thief


@pytest.fixture
def session() -> Iterator[Opener]:
    """What opens a TCP connection from a machine to an address of another, as programs do."""
    with contextlib.ExitStack() as stack:

        def opened(one: Box, other: Box, address: str) -> Session:
            with other.space.inside():
                # As most servers do: one socket for both versions of IP.
                waiting = socket.create_server(
                    ("", 4242), family=socket.AF_INET6, dualstack_ipv6=True
                )
            with waiting, one.space.inside():
                made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                stack.callback(made.close)
                made.settimeout(60)
                made.connect((address, 4242))
                taken = waiting.accept()[0]
                stack.callback(taken.close)
                taken.settimeout(60)
            return made, taken

        yield opened


def echoes(session: Session) -> bool:
    one, other = session
    one.sendall(b"?")
    other.sendall(other.recv(1) + b"!")
    return one.recv(2, socket.MSG_WAITALL) == b"?!"


def test_programs_without_ipv6_reach_members_by_their_aliases(
    three: tuple[Box, Box, Box], session: Opener
) -> None:
    desk, nas, _ = three
    assert desk.ask()["alias"] == OF["desk"]
    here = session(desk, nas, OF["nas"])
    assert echoes(here)
    assert here[1].getpeername()[0] == f"::ffff:{OF['desk']}"
    back = session(nas, desk, OF["desk"])
    assert echoes(back)


def test_a_connection_ends_with_the_membership(
    three: tuple[Box, Box, Box], session: Opener
) -> None:
    desk, nas, thief = three
    first = signed(aliased(three))
    for each in three:
        each.take(first)
    kept = [session(desk, nas, to) for to in (str(nas.address), OF["nas"])]
    ended = [session(desk, thief, to) for to in (str(thief.address), OF["thief"])]
    ended += [session(thief, desk, to)[::-1] for to in (str(desk.address), OF["desk"])]
    assert all(map(echoes, kept + ended))
    desk.take(signed(aliased([desk, nas]), after=[first]))
    begun = time.monotonic()
    for one, _ in ended:
        with pytest.raises(ConnectionAbortedError):
            one.recv(1)
    assert time.monotonic() - begun < 25
    assert all(map(echoes, kept))
