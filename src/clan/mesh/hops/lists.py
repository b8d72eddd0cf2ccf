"""What a member says of whom it reaches, signed by its identity (purpose `neighbours`).

A list has a serial, so that the latest counts wherever it came from, and a lifetime, so that it is
forgotten. It also says for whom its sender seeks a way: then whoever can wakes those that may be on
it, and says whom it reaches itself. Nobody's word is enough: what is made of lists is in `graph`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clan.mesh.chart import signed
from clan.mesh.chart.canonical import check, decode, encode, row
from clan.mesh.errors import MeshError
from clan.mesh.hops.labels import HIGHEST
from clan.mesh.wire import LONGEST_LETTER

if TYPE_CHECKING:
    from clan.mesh.identity import Key

PURPOSE = "neighbours"
MOST = 64
"""Neighbours in a list."""
MOST_SOUGHT = 4
MOST_COST = 60_000
"""Milliseconds."""
LONGEST_LIFE = 600
LAST_SERIAL = 1 << 62
_WHAT = "the list of neighbours"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Neighbour:
    """A member that the list's sender reaches without another's help."""

    label: int
    cost: int
    """Milliseconds: the round trip, and what losses and circumstances add to it."""
    free: bool = True
    """Whether the sender passes on what goes there or comes from there: not where bytes cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourList:
    """What a member says."""

    identity: bytes
    serial: int
    """Milliseconds of 1970 by its clock, or one more than what is held of it."""
    life: int
    """Seconds until it is forgotten, counted by whoever hears it."""
    transit: bool = True
    """Whether the sender passes anything on for others."""
    neighbours: tuple[Neighbour, ...] = ()
    """By label."""
    sought: tuple[int, ...] = ()
    """Labels of those to whom it seeks a way."""
    raw: bytes = field(default=b"", repr=False, compare=False)
    """As it was signed."""


def write(said: NeighbourList, key: Key) -> NeighbourList:
    """Sign a list; of too many neighbours it keeps the nearest."""
    near = sorted(said.neighbours, key=lambda each: (each.cost, each.label))[:MOST]
    made = NeighbourList(
        identity=key.public,
        serial=said.serial,
        life=said.life,
        transit=said.transit,
        neighbours=tuple(sorted(near)),
        sought=tuple(sorted(said.sought))[:MOST_SOUGHT],
    )
    return read(signed.sign(PURPOSE, encode(_value(made)), key).raw)


def author(data: bytes) -> bytes:
    """Return whom a list names as its author, unverified."""
    return signed.named(data)


def read(data: bytes) -> NeighbourList:
    """Read a list and verify it; whether its sender is a member is not asked. Raises MeshError."""
    proof = signed.only(data, PURPOSE, LONGEST_LETTER, _WHAT)
    body = proof.check((proof.signer,), _WHAT)
    fields = decode(body, _WHAT)
    sought = fields.several("sought", MOST_SOUGHT)
    made = NeighbourList(
        identity=proof.signer,
        serial=fields.number("serial", 1, LAST_SERIAL),
        life=fields.number("life", 1, LONGEST_LIFE),
        transit=bool(fields.number("transit", 0, 1)),
        neighbours=tuple(
            _neighbour(*row(each, (int, int, int), _WHAT))
            for each in fields.several("neighbours", MOST)
        ),
        sought=tuple(row(sought, (int,) * len(sought), _WHAT)),
        raw=data,
    )
    fields.end()
    check(body, _value(made), _WHAT)
    names = [each.label for each in made.neighbours]
    for listed in (names, list(made.sought)):
        if listed != sorted(set(listed)) or not all(1 <= each <= HIGHEST for each in listed):
            raise MeshError(f"{_WHAT} is not in order, or names what there cannot be")
    return made


def _neighbour(label: int, cost: int, free: int) -> Neighbour:
    if not 1 <= cost <= MOST_COST or free not in {0, 1}:
        raise MeshError(f"{_WHAT} has a cost that there cannot be")
    return Neighbour(label=label, cost=cost, free=bool(free))


def _value(said: NeighbourList) -> dict[str, Any]:
    return {
        "serial": said.serial,
        "life": said.life,
        "transit": int(said.transit),
        "neighbours": [[each.label, each.cost, int(each.free)] for each in said.neighbours],
        "sought": list(said.sought),
    }
