"""What an agent is told by the generation: the clan's first root, and where its own key is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 (a dataclass)
from typing import TYPE_CHECKING

from clan.mesh import identity
from clan.mesh.chart.canonical import base64_of, decode, encode
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.places import RUN, STATE, setting_file
from clan.mesh.tls import told as streams
from clan.mesh.tls.told import Told  # noqa: TC001 (a dataclass)

if TYPE_CHECKING:
    from ipaddress import IPv6Network


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
    streams: Path
    """Where the process of its TLS streams answers."""
    journal: Path
    """Where it writes what it observed and decided."""
    transit: bool = True
    """Whether it passes on what other members send to each other."""
    tls: Told | None = None
    """What the clan's file says of streams; None where no machine takes any."""

    @property
    def line(self) -> Path:
        """Where it listens to the processes beside it."""
        return self.socket.with_suffix(".line")

    @property
    def passing(self) -> Path:
        """A folder for what the next boot forgets, of relays."""
        return self.socket.with_suffix("")

    @property
    def prefix(self) -> IPv6Network:
        """The clan's."""
        return identity.prefix(self.root)


def told(root: bytes, private: str, tls: Told | None = None, *, transit: bool = True) -> bytes:
    """Return what an instance's setting is to hold.

    The first root, a path on the machine, what is said of streams, if somebody takes any, and
    whether it passes on what others send to each other.
    """
    more = ({} if tls is None else {"tls": streams.value(tls)}) | (
        {} if transit else {"transit": 0}
    )
    return encode({"root": base64_of(root), "identity": private} | more) + b"\n"


def read(instance: str, root: Path) -> Setting:
    """Read an instance's setting, INSTANCE.json; all paths are below `root`.

    Raises MeshError, OSError.
    """
    place = root / setting_file(instance).lstrip("/")
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        raise MeshError(
            f"this machine is in no mesh {instance!r}: `clan machines update` brings it there"
        ) from None
    fields = decode(data.strip(), str(place))
    found = Setting(
        instance=instance,
        root=fields.data("root", SIZE, SIZE),
        identity=root / fields.text("identity", 4096).lstrip("/"),
        state=root / STATE / instance,
        socket=root / RUN / f"mesh-{instance}.sock",
        streams=root / RUN / f"mesh-{instance}-tls.sock",
        journal=root / RUN / f"mesh-{instance}.journal",
        transit=not fields.has("transit") or bool(fields.number("transit", 0, 1)),
        tls=streams.read(fields.record("tls"), str(place)) if fields.has("tls") else None,
    )
    fields.end()
    return found
