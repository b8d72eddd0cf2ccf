"""What every NetworkTechnology must do, as checks that are run where its network is.

    python -m tests.networks.conformance CHECK SUBJECT

runs one check in the place it is started in (a lab's), on a Subject in JSON, and exits with 0 when
the technology passes. tests/lab/test_conformance.py starts it for each technology and check.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clan.errors import ClanError
from clan.model.exports import Var
from clan.model.route import Route
from clan.networks.registry import technology
from clan.networks.technology import Aim, Context, DialError, NetworkTechnology, Traits
from clan.system.names import SystemResolver
from clan.system.ssh import find_ssh
from clan.system.underlay import observe_underlay
from clan.vars.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE = 60.0
"""Seconds that anything may take before it counts as hanging."""
CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A technology in a lab: a route to a machine that is on, and one that leads nowhere."""

    route: Route
    nowhere: Route

    def to_json(self) -> str:
        return json.dumps({"route": self.route.to_json(), "nowhere": self.nowhere.to_json()})

    @classmethod
    def from_json(cls, text: str) -> Subject:
        shape: dict[str, Any] = json.loads(text)
        return cls(**{name: Route.from_json(route) for name, route in shape.items()})

    @property
    def technology(self) -> NetworkTechnology:
        return technology(self.route.network.technology)


CONTEXT = Context(
    resolver=SystemResolver(),
    locate=observe_underlay,
    reveal=Store.of(Path.cwd(), os.environ).reveal,
    ssh=find_ssh,
    clan_command=(sys.executable, "-m", "clan"),
    interactive=False,
)


def held() -> set[str]:
    """Return what this process holds: its descriptors' targets, and its children."""
    found = {f"child {pid}" for pid in CHILDREN.read_text().split()}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add(str(entry.readlink()))
    return found


async def nothing_more_than(before: set[str]) -> None:
    """Wait until this process holds no more than before; what it started may take its time."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + 10
    while (more := held() - before) and clock() < deadline:  # noqa: ASYNC110 (the kernel tells nobody)
        await asyncio.sleep(0.05)
    assert not more, f"left behind: {more}"


async def it_declares_what_it_can_carry(subject: Subject) -> None:
    traits = subject.technology.traits
    assert isinstance(traits, Traits)
    assert not (traits.hides_location and traits.asks_by_multicast)


async def it_runs_here(subject: Subject) -> None:
    assert subject.technology.running(subject.route.network, CONTEXT) is True


async def the_ssh_port_counts_once_its_banner_is_there_unread(subject: Subject) -> None:
    async with subject.technology.session(subject.route.network, CONTEXT) as session:
        connection = await session.dial(subject.route, Aim())
        with connection.sock as sock:
            assert not sock.getblocking()
            assert sock.recv(8).startswith(b"SSH-2.0-")
        assert connection.address
        assert 0 < connection.rtt < PATIENCE


async def another_port_counts_once_the_far_end_accepted(subject: Subject) -> None:
    async with subject.technology.session(subject.route.network, CONTEXT) as session:
        connection = await session.dial(subject.route, Aim(port=subject.route.port))
        connection.sock.close()


async def one_session_serves_several_dials(subject: Subject) -> None:
    async with subject.technology.session(subject.route.network, CONTEXT) as session:
        dials = (session.dial(subject.route, Aim()) for _ in range(3))
        for connection in await asyncio.gather(*dials):
            connection.sock.close()


async def an_address_that_is_set_aside_is_not_used(subject: Subject) -> None:
    used: set[str] = set()
    async with subject.technology.session(subject.route.network, CONTEXT) as session:
        for _ in range(8):
            try:
                connection = await session.dial(subject.route, Aim(avoid=frozenset(used)))
            except DialError:
                assert used, "the machine is on, and nothing was set aside yet"
                return
            connection.sock.close()
            assert connection.address not in used
            used.add(connection.address)
    raise AssertionError(f"it goes on finding addresses: {used}")


async def a_known_address_is_only_a_hint(subject: Subject) -> None:
    async with subject.technology.session(subject.route.network, CONTEXT) as session:
        connection = await session.dial(subject.route, Aim(known="203.0.113.250:22"))
        connection.sock.close()
        again = await session.dial(subject.route, Aim(known=connection.address))
        again.sock.close()


async def a_machine_that_is_not_there_fails_in_words(subject: Subject) -> None:
    with pytest.raises(DialError, match=r"\w+ \w+"):
        async with (
            asyncio.timeout(PATIENCE),
            subject.technology.session(subject.nowhere.network, CONTEXT) as session,
        ):
            await session.dial(subject.nowhere, Aim())


async def leaving_a_session_leaves_nothing(subject: Subject) -> None:
    await the_ssh_port_counts_once_its_banner_is_there_unread(subject)
    before = held()
    await the_ssh_port_counts_once_its_banner_is_there_unread(subject)
    await nothing_more_than(before)


async def a_dial_that_is_cancelled_leaves_nothing(subject: Subject) -> None:
    await the_ssh_port_counts_once_its_banner_is_there_unread(subject)
    before = held()
    for route in (subject.route, subject.nowhere):
        for patience in (0.0, 0.01, 0.3):
            try:
                async with asyncio.timeout(patience):
                    async with subject.technology.session(route.network, CONTEXT) as session:
                        connection = await session.dial(route, Aim())
                        connection.sock.close()
            except (TimeoutError, DialError):
                continue
    await nothing_more_than(before)


async def a_secret_host_is_revealed_when_it_is_used(subject: Subject) -> None:
    """A technology that takes hosts takes them as vars too, and fails in words without."""
    secret = Var(machine=subject.route.machine, generator="conformance", file="host")
    asked = []

    def reveal(var: Var) -> str:
        asked.append(var)
        raise ClanError("not there yet")

    route = replace(subject.route, hosts=(secret,))
    context = replace(CONTEXT, reveal=reveal)
    with pytest.raises(ClanError, match="not there yet"):
        async with subject.technology.session(route.network, context) as session:
            await session.dial(route, Aim())
    assert asked == [secret]


CHECKS: dict[str, Callable[[Subject], Awaitable[None]]] = {
    check.__name__: check
    for check in (
        it_declares_what_it_can_carry,
        it_runs_here,
        the_ssh_port_counts_once_its_banner_is_there_unread,
        another_port_counts_once_the_far_end_accepted,
        one_session_serves_several_dials,
        an_address_that_is_set_aside_is_not_used,
        a_known_address_is_only_a_hint,
        a_machine_that_is_not_there_fails_in_words,
        leaving_a_session_leaves_nothing,
        a_dial_that_is_cancelled_leaves_nothing,
        a_secret_host_is_revealed_when_it_is_used,
    )
}


async def main(name: str, subject: str) -> None:
    async with asyncio.timeout(4 * PATIENCE):
        await CHECKS[name](Subject.from_json(subject))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
