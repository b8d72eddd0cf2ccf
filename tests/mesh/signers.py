"""A clan for the tests of the map: a root, admins and machines, the same at every run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh.chart import chart as charts
from clan.mesh.chart import links, mandate
from clan.mesh.chart.content import Content, Machine
from clan.mesh.chart.mandate import Admin
from clan.mesh.identity import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.mandate import Chain

DAY = 86400
NOW = 1_800_000_000


def key(name: str) -> Key:
    return Key.of_seed(hashlib.sha256(f"key of {name}".encode()).digest())


def fresh(*of: object) -> bytes:
    return hashlib.sha256(repr(of).encode()).digest()


ROOT = key("root")
ALICE, BOB, CAROL = key("alice"), key("bob"), key("carol")
ADMINS = {"alice": ALICE, "bob": BOB, "carol": CAROL}


def admins(*names: str) -> list[Admin]:
    return [Admin(name=name, key=key(name).public) for name in names]


def chain(*names: str) -> Chain:
    return mandate.found(ROOT, admins(*(names or ADMINS)))


def record(name: str, serial: int = 1) -> bytes:
    interface = links.PublishedInterface(
        id="0a0b0c0d",
        uplink="eth0",
        family=6,
        kind="internet",
        key=fresh(name, serial),
        port=40000,
    )
    made = links.LinkRecord(identity=key(name).public, serial=serial, interfaces=(interface,))
    return links.publish(made, key(name)).raw


def machine(name: str, **fields: object) -> Machine:
    made = Machine(name=name, identity=key(name).public)
    return replace(made, **fields)  # type: ignore[arg-type]


def content(*names: str) -> Content:
    return Content(machines=tuple(machine(name) for name in sorted(names)))


def signed(
    said: Content,
    by: Key = ALICE,
    *,
    under: Chain | None = None,
    after: Sequence[Chart] = (),
    made: int = NOW,
) -> Chart:
    """Sign a map as an admin does, under the mandates of what it follows."""
    if under is None:
        under = after[0].chain if after else chain()
    return charts.sign(
        said, by=by, chain=under, after=after, made=made, fresh=fresh(by.public, said, made)
    )


def names(said: Content) -> list[str]:
    return [each.name for each in said.machines]
