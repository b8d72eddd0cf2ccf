"""What an agent is told by the generation: the clan's first root, and where its own key is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 (a dataclass)
from typing import TYPE_CHECKING

from clan.mesh import identity
from clan.mesh.chart.canonical import decode
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from ipaddress import IPv6Network

SETTINGS = "etc/clan/mesh"
STATE = "var/lib/clan/mesh"
RUN = "run/clan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An instance of the mesh on this machine."""

    instance: str
    root: bytes
    """The public key that the clan began with."""
    identity: Path
    """The file of this machine's private key."""
    state: Path
    """A folder of its own, for root alone."""
    socket: Path
    """Where it answers."""
    journal: Path
    """Where it writes what it observed and decided."""
    transit: bool = True
    """Whether it passes on what other members send to each other."""

    @property
    def prefix(self) -> IPv6Network:
        """The clan's."""
        return identity.prefix(self.root)


def read(instance: str, root: Path) -> Setting:
    """Read an instance's setting, INSTANCE.json; all paths are below `root`.

    Raises MeshError, OSError.
    """
    path = root / SETTINGS / f"{instance}.json"
    fields = decode(path.read_bytes().strip(), str(path))
    found = Setting(
        instance=instance,
        root=fields.data("root", SIZE, SIZE),
        identity=root / fields.text("identity", 4096).lstrip("/"),
        state=root / STATE / instance,
        socket=root / RUN / f"mesh-{instance}.sock",
        journal=root / RUN / f"mesh-{instance}.journal",
        transit=not fields.has("transit") or bool(fields.number("transit", 0, 1)),
    )
    fields.end()
    return found
