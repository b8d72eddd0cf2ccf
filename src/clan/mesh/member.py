"""What the clan's plan tells a machine of its place in a mesh, and where what it learns is kept.

    /etc/clan/mesh/INSTANCE.json       who this machine is there, and the clan's first root
    /etc/clan/keys/GENERATOR/…         its identity, born here
    /var/lib/clan/mesh/INSTANCE/       maps (`chart.store`), records of interfaces (`chart.records`)

What is below /var/lib is no generation's: a rollback keeps it, as an older map is never accepted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.mesh.errors import MeshError
from clan.mesh.identity import of_text, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.machine.layout import Layout

PLACE = "mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """This machine in a mesh; `identity` is the file of its private key."""

    instance: str
    machine: str
    first_root: bytes
    identity: Path

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "instance": self.instance,
            "machine": self.machine,
            "firstRoot": text(self.first_root),
            "identity": str(self.identity),
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Member:
        """Read what `to_json` wrote. Raises KeyError, MeshError."""
        return cls(
            instance=str(value["instance"]),
            machine=str(value["machine"]),
            first_root=of_text(str(value["firstRoot"])),
            identity=Path(str(value["identity"])),
        )


def told_at(instance: str) -> str:
    """Return the path of the file that tells a machine of its place."""
    return f"/etc/clan/{PLACE}/{instance}.json"


def folder(instance: str, layout: Layout) -> Path:
    """Return where a machine keeps what it learns of a mesh."""
    return layout.state / PLACE / instance


def member(instance: str, layout: Layout) -> Member:
    """Return this machine's place in a mesh. Raises MeshError where it has none."""
    path = layout.root / told_at(instance).lstrip("/")
    try:
        return Member.of_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise MeshError(
            f"this machine is in no mesh {instance!r}: `clan machines update` brings it there"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise MeshError(f"{path}: this is not what clan writes there") from None
