"""Others' tunnels as ways between members, such as Yggdrasil's or a WireGuard of the user's own.

A tunnel is used only if what carries it is known, so that its own packets can be kept out of the
mesh: an overlay whose packets went by the mesh, whose packets go by the overlay, would be a loop.
What is kept out, and how, is the firewall's to say.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clan.mesh.agent import marks
from clan.mesh.agent.kernel import TUN, WIREGUARD
from clan.mesh.agent.rtnetlink import PROTOCOL, UNICAST
from clan.mesh.agent.uplinks import Carrier
from clan.mesh.agent.wireguard.kernel import InKernel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.rtnetlink import Route
    from clan.mesh.agent.uplinks import Attachment

GROUPS = Path("/sys/fs/cgroup")
"""Where nft(8) looks for control groups."""
_HYBRID = "unified"
"""Where systemd has cgroup2 below that, if it still has the old ones too."""
_EVERY_TABLE = 0
_DEVICE = "/dev/net/tun"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tunnel's index, and what was found to carry it."""

    index: int
    carrier: Carrier | None


class Overlays:
    """This machine's; who carries what is looked for once, and when it changes."""

    def __init__(self, kernel: Kernel, *, proc: Path = Path("/proc")) -> None:
        self._kernel = kernel
        self._proc = proc
        self._seen: dict[str, _Seen] = {}

    def look(self, attachments: Iterable[Attachment]) -> list[Attachment]:
        """Return the uplinks, tunnels with what carries them and where they lead.

        Raises NetlinkError.
        """
        attachments = list(attachments)
        tunnels = {e.name for e in attachments if e.kind in {TUN, WIREGUARD} and e.works}
        self._seen = {name: each for name, each in self._seen.items() if name in tunnels}
        routes = self._kernel.routes(table=_EVERY_TABLE) if tunnels else []
        return [
            replace(each, carrier=self._carrier(each), ways=tuple(ways(each.index, routes)))
            if each.name in tunnels
            else each
            for each in attachments
        ]

    def _carrier(self, tunnel: Attachment) -> Carrier | None:
        if tunnel.kind == WIREGUARD:
            with contextlib.suppress(OSError):
                return Carrier(port=InKernel(self._kernel, tunnel.name).read().port)
            return None
        seen = self._seen.get(tunnel.name)
        if seen is None or seen.index != tunnel.index or _is_gone(seen.carrier):
            seen = _Seen(tunnel.index, self._find(tunnel.name))
            self._seen[tunnel.name] = seen
        return seen.carrier

    def _find(self, name: str) -> Carrier | None:
        """Return the control group of the program that has a tunnel open."""
        own = self._proc / "self"
        for each in self._proc.iterdir():
            if not each.name.isdecimal():
                continue
            try:
                if not (each / "ns/net").samefile(own / "ns/net") or not _opens(each, name):
                    continue
                return _group((each / "cgroup").read_text(), (own / "cgroup").read_text())
            except OSError:
                continue  # it ended
        return None


def ways(index: int, routes: Iterable[Route]) -> list[Route]:
    """Return the routes by an interface, in whatever table, but for default ones.

    Tailscale and wg-quick have tables of their own.
    """
    return [
        route
        for route in routes
        if route.index == index
        and route.kind == UNICAST
        and route.protocol != PROTOCOL
        and route.table < marks.TABLES
        and route.to.prefixlen
    ]


def _opens(process: Path, name: str) -> bool:
    """Whether a process has a tunnel open."""
    for each in (process / "fd").iterdir():
        if str(each.readlink()) == _DEVICE:
            lines = (process / "fdinfo" / each.name).read_text().splitlines()
            if any(line.split() == ["iff:", name] for line in lines):
                return True
    return False


def _group(text: str, own: str) -> Carrier | None:
    """Return a control group from what /proc says of a process and of this one.

    None for one that has others in it: this one, or what somebody started by hand.
    """
    path, here = _path(text), _path(own)
    is_shared = path in {"", "/"} or here == path or here.startswith(f"{path}/")
    if is_shared or path.endswith(".scope"):
        return None
    root = "" if (GROUPS / "cgroup.controllers").exists() else f"{_HYBRID}/"
    found = Carrier(group=f"{root}{path.strip('/')}", level=path.strip("/").count("/") + 1)
    with contextlib.suppress(OSError):
        return replace(found, number=(GROUPS / found.group).stat().st_ino)
    return None


def _path(text: str) -> str:
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")


def _is_gone(carrier: Carrier | None) -> bool:
    """Whether a control group is not the one that was found: each start makes another."""
    if carrier is None:
        return False
    with contextlib.suppress(OSError):
        return (GROUPS / carrier.group).stat().st_ino != carrier.number
    return True
