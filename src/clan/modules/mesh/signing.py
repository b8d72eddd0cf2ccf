"""Signing a mesh's map: who may, what it says then, and beginning or changing the mandates.

Pure but for the keys: the clock and random bytes are handed in. All raise MeshError.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clan.mesh.chart import chart as charts
from clan.mesh.chart.forks import State, merged_chain
from clan.mesh.chart.mandate import Admin, begin_epoch, found, list_admins
from clan.mesh.errors import MeshError
from clan.mesh.identity import text
from clan.modules.mesh.content import says

if TYPE_CHECKING:
    from clan.mesh.chart.accept import Held
    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.content import Content
    from clan.mesh.chart.mandate import Chain
    from clan.mesh.identity import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Pen:
    """What signing takes: a key, the time in seconds of 1970, and 32 random bytes."""

    key: Key
    now: int
    fresh: bytes = field(repr=False)

    def sign(self, content: Content, chain: Chain, held: Held | None = None) -> Chart:
        """Sign what follows the maps that are held."""
        return charts.sign(
            content,
            by=self.key,
            chain=chain,
            after=() if held is None else held.heads,
            made=self.now,
            fresh=self.fresh,
        )


def first(content: Content, root: Key, name: str, pen: Pen) -> Chart:
    """Begin a mesh: the root lists its first admin, who signs the first map."""
    return pen.sign(content, found(root, [Admin(name=name, key=pen.key.public)]))


def following(held: Held, wanted: Content, pen: Pen | None) -> Chart | None:
    """Sign the next map; None if the one in force says what is wanted. A fork is merged."""
    if not is_due(held, wanted):
        return None
    _refuse_dispute(held)
    if pen is None:
        raise MeshError(
            "this computer has no key to sign the map with: `clan mesh key` makes one, and says "
            "how it is let sign"
        )
    _refuse_stranger(held, pen.key)
    return pen.sign(wanted, merged_chain(held.heads, pen.key), held)


def is_due(held: Held, wanted: Content) -> bool:
    """Whether a map is to be signed: there is a fork, or the file says something else."""
    return held.view.state is not State.CLEAR or not says(held.view.content, wanted)


def with_admin(held: Held, wanted: Content, admin: Admin, pen: Pen) -> Chart:
    """Sign a map under a list that has one admin more."""
    listed = _chain(held, pen).last.admins
    for each in listed:
        if (each.name == admin.name) or (each.key == admin.key):
            what = "name" if each.name == admin.name else "key"
            raise MeshError(f"{each.name} signs maps already and has the same {what}")
    return _listed(held, wanted, [*listed, admin], pen)


def without_admin(held: Held, wanted: Content, name: str, pen: Pen) -> Chart:
    """Sign a map under a list without one admin: the discovery secret is a new one then."""
    listed = _chain(held, pen).last.admins
    left = [each for each in listed if each.name != name]
    if len(left) == len(listed):
        known = ", ".join(each.name for each in listed) or "nobody"
        raise MeshError(f"no {name!r} signs maps here; who does: {known}")
    if pen.key.public not in {each.key for each in left}:
        raise MeshError(f"{name} is who sits at this computer: another admin has to remove them")
    return _listed(held, wanted, left, pen)


def next_epoch(
    held: Held,
    wanted: Content,
    without: frozenset[str],
    root: Pen,
    new_root: Key | None = None,
) -> Chart:
    """Begin an epoch with the admins of now but some, as the root; it overrules what was before.

    The clan keeps its prefix, and its addresses, under a new root too.
    """
    top = held.top
    if top is None:
        raise MeshError("there is no map")
    listed = {each.key: each for head in held.heads for each in head.chain.last.admins}
    unknown = without - {each.name for each in listed.values()}
    if unknown:
        raise MeshError(f"no {', '.join(sorted(unknown))} signs maps here")
    left = [each for each in listed.values() if each.name not in without]
    chain = begin_epoch(top.chain, root.key, left, new_root)
    by = root if new_root is None else replace(root, key=new_root)
    return by.sign(wanted, chain, held)


def _chain(held: Held, pen: Pen) -> Chain:
    _refuse_dispute(held)
    _refuse_stranger(held, pen.key)
    return merged_chain(held.heads, pen.key)


def _listed(held: Held, wanted: Content, admins: list[Admin], pen: Pen) -> Chart:
    chain = list_admins(_chain(held, pen), admins, pen.key)
    return pen.sign(wanted, chain, held)


def _refuse_dispute(held: Held) -> None:
    if held.view.state is State.DISPUTED:
        raise MeshError(
            "admins have removed each other, so only the root decides: `clan mesh epoch` with the "
            "recovery key"
        )


def _refuse_stranger(held: Held, key: Key) -> None:
    if not any(key.public in head.chain.last.signers for head in held.heads):
        raise MeshError(
            "this computer's key may not sign the map: one who may runs "
            f"`clan mesh admins add NAME {text(key.public)}`"
        )
