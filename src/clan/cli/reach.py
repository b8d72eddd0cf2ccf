"""From a name on the command line to a machine's routes, and what reaching it may use.

Kept light: while the clan's files stay as they are, neither the inventory nor a module is loaded.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clan.cli.context import clan_file, load_clan
from clan.errors import ClanError, UsageError, did_you_mean
from clan.model.route import Network, Route
from clan.model.target import parse_target
from clan.networks.memory import Memories
from clan.networks.routes import Destination, RouteTable, destination, fingerprint, named, near
from clan.networks.technology import Context, silent
from clan.system.names import SystemResolver
from clan.system.places import cache_home, state_home
from clan.system.ssh import find_ssh
from clan.system.underlay import observe_underlay
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from clan.deploy.lease import Leases
    from clan.model.inventory import Target

INTERNET = "clan.modules.internet.technology:Internet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What every command that reaches machines of a clan needs."""

    clan_file: Path
    store: Store
    memories: Memories

    @classmethod
    def of(cls, clan_option: str | None) -> Reach:
        """Find the clan; read nothing of it yet."""
        file = clan_file(clan_option)
        return cls(
            clan_file=file,
            store=Store.of(file.parent, os.environ),
            memories=Memories.of(state_home(os.environ), file.parent),
        )

    @property
    def leases(self) -> Leases:
        """What this user has under way on the clan's machines."""
        from clan.deploy.lease import Leases

        return Leases.of(state_home(os.environ), self.clan_file.parent)

    def destination(self, name: str) -> Destination:
        """Return the routes of the machine called `name`. Raises UsageError when there is none."""
        table = RouteTable(cache_home(os.environ), self.clan_file)
        kept = table.read(name)
        if kept is not None:
            return kept
        state = fingerprint(self.clan_file)
        clan = load_clan(str(self.clan_file.parent))
        machine = named(clan, name)
        if machine is None:
            raise UsageError(f"the clan has no machine {name!r}", hint=near(clan, name))
        found = destination(clan, machine)
        table.write(name, state, found)
        return found

    def host_key(self, machine: str) -> str | None:
        """Return the key that is demanded of a machine, None before first contact.

        A machine that changes its key has two, a line each: either will do.
        Raises ClanError when what is recorded is no key.
        """
        from clan.networks.hostkeys import well_formed

        recorded = self.store.host_key(machine)
        if recorded is None or all(map(well_formed, recorded.splitlines())):
            return recorded
        raise ClanError(
            f"the recorded host key of {machine} is no Ed25519 key",
            where=str(self.store.path(machine, *HOST_KEY)),
            hint="put the machine's /etc/ssh/ssh_host_ed25519_key.pub there, or delete the file",
        )

    def record_host_key(self, machine: str, key: str) -> None:
        """Keep a machine's host key as a public var of the clan, once it was taken."""
        self.store.write(machine, *HOST_KEY, key)

    def context(self, *, interactive: bool, progress: Callable[[str], None] = silent) -> Context:
        """Return what technologies may use of the world."""
        return Context(
            resolver=SystemResolver(),
            locate=observe_underlay,
            reveal=self.store.reveal,
            ssh=find_ssh,
            clan_command=(*clan_program(), "--clan", str(self.clan_file.parent)),
            interactive=interactive,
            progress=progress,
        )


def clan_program() -> tuple[str, ...]:
    """Return the words that run this `clan` from anywhere."""
    called = shutil.which(sys.argv[0])
    if called is not None and Path(called).name == "clan":
        return (str(Path(called).absolute()),)
    return (sys.executable, "-m", "clan")


def only(found: Destination, network: str | None) -> Destination:
    """Keep the routes of one network. Raises UsageError when the machine is not on it."""
    if network is None:
        return found
    routes = tuple(route for route in found.routes if route.network.name == network)
    if not routes:
        names = [route.network.name for route in found.routes]
        raise UsageError(
            f"{found.machine} is not on a network {network!r}",
            hint=did_you_mean(network, names)
            or (f"it is on {', '.join(names)}" if names else f"{found.machine} is on no network"),
        )
    return replace(found, routes=routes)


def straight_to(found: Destination, written: str) -> Destination:
    """Replace all routes by one to an address given by hand. Raises UsageError."""
    target = read_target(written)
    route = Route(
        machine=found.machine,
        network=Network(name="--target-host", module="internet", technology=INTERNET, priority=0),
        hosts=(target.host,),
        port=target.port or 22,
        user=target.user,
    )
    return replace(found, routes=(route,))


def read_target(written: str) -> Target:
    """Read `[user@]host[:port]`. Raises UsageError."""
    try:
        return parse_target(written)
    except ValueError as fault:
        raise UsageError(f"--target-host {written}: {fault}") from None
