"""From the resolved clan to the routes of one machine, and the table that keeps them at hand.

Every connection needs the routes of one machine and nothing else of the clan, so they are kept in
a small file under the name of all that they were worked out from. While nothing of that changes, a
connection reads neither the inventory nor any module.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clan import __version__
from clan.errors import did_you_mean
from clan.model.route import Jump, Network, Route
from clan.model.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clan.model.clan import Clan, Instance
    from clan.model.exports import Networking, Peer

FORMAT = 2
"""Of the table's files; raised when what is in them changes."""
LARGEST = 1 << 24
"""Bytes of clan files above which their routes are worked out anew each time."""
MOST_TABLES = 4
"""Tables kept a clan: the newest states of its files."""
SOURCES = {".toml", ".json", ".nix", ".py"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A machine and every route to it: `full_name` is what its host key is demanded under."""

    machine: str
    full_name: str
    routes: tuple[Route, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the destination as JSON values; `from_json` reads it back."""
        return {
            "machine": self.machine,
            "full_name": self.full_name,
            "routes": [route.to_json() for route in self.routes],
        }

    @classmethod
    def from_json(cls, shape: dict[str, Any]) -> Destination:
        """Read what `to_json` wrote."""
        return cls(
            machine=shape["machine"],
            full_name=shape["full_name"],
            routes=tuple(Route.from_json(route) for route in shape["routes"]),
        )


def named(clan: Clan, name: str) -> str | None:
    """Return the machine that `name` means: its name, its host name, or either with the domain."""
    bare = name.casefold()
    domain = f".{clan.meta.domain}".casefold()
    bare = bare.removesuffix(domain)
    if name in clan.machines:
        return name
    host_name = bare.replace("_", "-")
    for machine in clan.machines.values():
        if machine.host_name.casefold() == host_name:
            return machine.name
    return None


def near(clan: Clan, name: str) -> str:
    """Return a hint for a name that means no machine: `did you mean X?`, or where they are."""
    bare = name.removesuffix(f".{clan.meta.domain}")
    return did_you_mean(bare, clan.machines) or "`clan machines list` shows its machines"


def destination(clan: Clan, machine: str) -> Destination:
    """Work out every route to a machine."""
    routes = tuple(
        _route(clan, network_of(instance, networking), peer)
        for instance, networking in clan.networks()
        if (peer := networking.peers.get(machine)) is not None
    )
    return Destination(machine=machine, full_name=clan.full_name(machine), routes=routes)


def all_routes(clan: Clan) -> list[Route]:
    """Work out the routes of every peer of every network, highest priority first."""
    return [
        _route(clan, network, peer)
        for instance, networking in clan.networks()
        for network in [network_of(instance, networking)]
        for peer in networking.peers.values()
    ]


def _route(clan: Clan, network: Network, peer: Peer) -> Route:
    return Route(
        machine=peer.name,
        network=network,
        hosts=peer.hosts,
        port=peer.port,
        user=peer.user,
        jumps=tuple(_jump(clan, jump) for jump in peer.jump_hosts),
        ssh_options=peer.ssh_options,
    )


def network_of(instance: Instance, networking: Networking) -> Network:
    """Return an instance as a network; a technology `:Class` is of its module's own code."""
    written = networking.technology
    return Network(
        name=instance.name,
        module=instance.module.name,
        technology=f"{instance.code}{written}" if written.startswith(":") else written,
        priority=networking.priority,
        settings=networking.settings,
    )


def _jump(clan: Clan, written: str) -> Jump:
    target = parse_target(written)
    machine = named(clan, target.host) if target.port is None else None
    if machine is None:
        return Jump(target=target)
    user = target.user or login_user(clan, machine)
    return Jump(target=replace(target, user=user), machine=clan.full_name(machine))


def login_user(clan: Clan, machine: str) -> str | None:
    """Return who logs in to a machine, by the first of its networks that says so."""
    peers = (networking.peers.get(machine) for _, networking in clan.networks())
    return next((peer.user for peer in peers if peer is not None and peer.user), None)


class RouteTable:
    """The destinations of one clan's present files, under the user's cache folder."""

    def __init__(self, cache: Path, clan_file: Path) -> None:
        clan = hashlib.sha256(os.fsencode(clan_file.parent.resolve())).hexdigest()[:16]
        self.clan = cache / "routes" / clan
        self.clan_file = clan_file

    def read(self, name: str) -> Destination | None:
        """Return what is kept for a machine called `name`, or None."""
        state = fingerprint(self.clan_file)
        if state is None:
            return None
        try:
            return Destination.from_json(json.loads(self._file(state, name).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, name: str, state: str | None, found: Destination) -> None:
        """Keep a destination that was worked out from files whose fingerprint was `state`.

        A cache that cannot be written costs time, nothing else.
        """
        if state is None:
            return
        file = self._file(state, name)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(found.to_json(), separators=(",", ":")))
            draft.replace(file)
            states = sorted(self.clan.iterdir(), key=lambda path: path.stat().st_mtime)
            for old in states[:-MOST_TABLES]:
                shutil.rmtree(old)

    def _file(self, state: str, name: str) -> Path:
        return self.clan / state / hashlib.sha256(name.encode()).hexdigest()[:32]


def fingerprint(clan_file: Path) -> str | None:
    """Return a name for all that a clan's routes are worked out from; None to keep nothing.

    That is the clan's file, the modules in its folder, for `clan.nix` every file it may read, and
    this version of `clan` with the packages installed beside it.
    """
    digest = hashlib.sha256(f"{FORMAT} {__version__}\n".encode())
    size = 0
    try:
        for file in _sources(clan_file):
            text = file.read_bytes()
            size += len(text)
            if size > LARGEST:
                return None
            digest.update(f"{file}\0{len(text)}\0".encode(errors="surrogateescape"))
            digest.update(text)
        for folder in _installed():
            digest.update(f"{folder} {folder.stat().st_mtime_ns}\n".encode())
    except OSError:
        return None
    return digest.hexdigest()[:32]


def _sources(clan_file: Path) -> Iterable[Path]:
    yield clan_file
    folder = clan_file.parent
    roots = [folder] if clan_file.suffix == ".nix" else [folder / "modules"]
    for root in roots:
        for place, folders, files in os.walk(root):
            folders[:] = sorted(
                name for name in folders if name not in {".git", "vars", "__pycache__"}
            )
            for name in sorted(files):
                file = type(folder)(place, name)
                if file.suffix in SOURCES and file != clan_file:
                    yield file


def _installed() -> Iterable[Path]:
    """Yield the folders that change when a package, and so perhaps a module, is installed."""
    import sysconfig
    from pathlib import Path

    yield Path(sysconfig.get_path("purelib"))
    # In a checkout the modules' own files change, and no version with them.
    yield from sorted((Path(__file__).parents[1] / "modules").glob("*/module.py"))
