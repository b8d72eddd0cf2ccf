"""A map: what it says, its place in the order, who signed it. Reading verifies everything.

    `clan map 1` and a newline
    the chain of mandates that its signer's right comes from (`mandate.py`)
    the signed body (`signed.py`): canonical JSON

The chain is verified from the clan's first root before the body's signature is, and that before the
body is parsed. What is not valid for itself is never a `Chart`; what it means to a machine that has
another one is `accept.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from clan.mesh import identity
from clan.mesh.chart import content as contents
from clan.mesh.chart import links, mandate, signed
from clan.mesh.chart.canonical import Fields, base64_of, bytes_of, check, decode, encode, row
from clan.mesh.chart.content import LATEST, Content, Machine, Secret
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE, Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clan.mesh.chart.mandate import Chain

MAGIC = b"clan map 1\n"
PURPOSE = "map"
LARGEST = 16 << 20
"""Bytes of a map's body."""
STEP = 1000
"""How much higher than its predecessor's a serial may be."""
MOST_PARENTS = 16
MOST_ANCESTORS = 64
HIGHEST = (1 << 63) - 1
EARLIER = 14 * 86400
"""Seconds for which the discovery secret before is recognised, for getting a map alone."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A map's place in its epoch: its serial, then its hash."""

    serial: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A map whose signature, chain and content are right."""

    chain: Chain
    serial: int
    parents: tuple[Place, ...]
    """What it replaces: one map; two or more if it merges; none if it is an epoch's first."""
    ancestors: tuple[Place, ...]
    """The latest of those before the parents, the newest first."""
    made: int
    """When, by the signer's clock: seconds of 1970. For people; nothing is decided by it."""
    signer: bytes
    content: Content
    hash: bytes
    raw: bytes = field(repr=False, compare=False)

    @property
    def epoch(self) -> int:
        """The root's count of new beginnings."""
        return self.chain.epoch

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Which of two maps is the higher one."""
        return (self.epoch, self.serial, self.hash)

    @property
    def place(self) -> Place:
        """Its place in its epoch."""
        return Place(self.serial, self.hash)

    @property
    def line(self) -> frozenset[Place]:
        """The maps that it says it comes from."""
        return frozenset({*self.parents, *self.ancestors})

    def succeeds(self, old: Chart) -> bool:
        """Say whether this map comes from the old one, and so replaces it.

        It names it as a predecessor; or is beyond all predecessors that it still names, as for a
        machine that was away for long. In both cases it forgets nothing that the old one removed.
        """
        if self.epoch != old.epoch or self.serial <= old.serial:
            return False
        full = len(self.ancestors) == MOST_ANCESTORS
        horizon = self.ancestors[-1].serial if full else 0
        if old.place not in self.line and old.serial >= horizon:
            return False
        known = self.content.removed | self.content.identities
        if not known >= old.content.removed | old.content.identities:
            return False
        if self.chain.extends(old.chain):
            return True
        return not old.removes(self) and old.chain.removed.isdisjoint(self.chain.last.signers)

    def removes(self, other: Chart) -> bool:
        """Say whether it takes away the right of who signed the other, or what leads to it."""
        authors = other.chain.signers_since(self.chain) | {other.signer}
        return not authors.isdisjoint(self.chain.removed)

    def __str__(self) -> str:
        """Return it as people call it."""
        return f"map {self.epoch}.{self.serial} of {self.chain.name(self.signer)}"


def sign(
    content: Content,
    *,
    by: Key,
    chain: Chain,
    after: Sequence[Chart] = (),
    made: int,
    fresh: bytes,
) -> Chart:
    """Sign the map that follows those in `after`: all that are in force, so that it merges a fork.

    Machines of those that are not in the content are removed, machines keep the latest record that
    they told of themselves. When a machine is removed or the admins change, `fresh`, 32 random
    bytes, becomes the discovery secret. Raises MeshError for a faulty content, or if `by` is not
    listed by the chain.
    """
    before = [each for each in after if each.epoch == chain.epoch]
    changed = any(each.chain.last != chain.last for each in after)
    filled = _filled(content, after, made, fresh, changed=changed)
    chart = Chart(
        chain=chain,
        serial=max((each.serial for each in before), default=0) + 1,
        parents=tuple(sorted((each.place for each in before), reverse=True)),
        ancestors=_ancestors(before),
        made=made,
        signer=by.public,
        content=filled,
        hash=b"",
        raw=b"",
    )
    proof = signed.sign(PURPOSE, encode(_value(chart)), by)
    known = before[0] if before else None
    read_again = read(MAGIC + chain.raw + proof.raw, chain.first_root, known)
    for each in before:
        if not read_again.succeeds(each):
            raise MeshError(f"this would not replace {each}: it is signed under other mandates")
    return read_again


def _ancestors(before: Sequence[Chart]) -> tuple[Place, ...]:
    parents = {each.place for each in before}
    line = {place for each in before for place in each.line} - parents
    return tuple(sorted(line, reverse=True))[:MOST_ANCESTORS]


def _filled(
    content: Content, after: Sequence[Chart], made: int, fresh: bytes, *, changed: bool
) -> Content:
    identities = content.identities
    known: set[bytes] = set()
    recorded: dict[bytes, bytes] = {}
    secrets: set[Secret] = {*content.secrets}
    gone: list[frozenset[bytes]] = []
    for each in after:
        known |= each.content.removed | each.content.identities
        gone.append(each.content.removed)
        secrets |= {*each.content.secrets}
        for machine in each.content.machines:
            other = recorded.get(machine.identity, b"")
            recorded[machine.identity] = links.newer(machine.links, other)
    removed = frozenset(known - identities)
    # New also when a fork is merged: who was removed on one branch alone knows the other's secret.
    # And with the admins, who know it as the machines do.
    if changed or not secrets or any(removed - each for each in gone):
        latest = max((each.made for each in secrets), default=-1)
        secrets.add(Secret(made=max(made, latest + 1), key=fresh))
    return replace(
        content,
        machines=tuple(
            replace(each, links=_latest(each, recorded.get(each.identity, b"")))
            for each in sorted(content.machines, key=lambda each: each.name)
        ),
        removed=removed,
        secrets=current(sorted(secrets, reverse=True), made),
    )


def _latest(machine: Machine, other: bytes) -> bytes:
    """Return the later of a machine's record and another one of it that was verified."""
    own = machine.links
    if own and own != other:
        _check_record(machine)
    return links.newer(own, other)


def current(secrets: Iterable[Secret], now: float) -> tuple[Secret, ...]:
    """Return the secrets that are recognised, the newest first: it, and those replaced lately.

    A clock that is behind recognises more of them, which harms nobody.
    """
    kept: list[Secret] = []
    for secret in secrets:
        if kept and now - kept[-1].made > EARLIER:
            break
        kept.append(secret)
    return tuple(kept[: contents.MOST_SECRETS])


def read(data: bytes, first_root: bytes, known: Chart | None = None) -> Chart:
    """Read and verify a map. Raises MeshError, which says what is wrong with it.

    `known` is a map that was verified before: what is the same in both is not verified again.
    """
    if not data.startswith(MAGIC):
        raise MeshError("this is no map, or one of another version of clan")
    chain, rest = mandate.read(data[len(MAGIC) :], first_root, known.chain if known else None)
    proof = signed.only(rest, PURPOSE, LARGEST, "the map")
    body = proof.check(chain.last.signers, "the map")
    chart = _read(decode(body, "the map"), chain, proof, data)
    check(body, _value(chart), "the map")
    _check_place(chart)
    found = contents.faults(chart.content, identity.prefix(first_root))
    if found:
        raise MeshError("; ".join(found[:5]))
    _check_links(chart.content, known)
    return chart


def _read(fields: Fields, chain: Chain, proof: signed.Signed, data: bytes) -> Chart:
    if fields.data("mandate", SIZE, SIZE) != chain.last.hash:
        raise MeshError("the map was signed under another mandate than it comes with")
    if fields.data("signer", SIZE, SIZE) != proof.signer:
        raise MeshError("the map names another signer than signed it")
    chart = Chart(
        chain=chain,
        serial=fields.number("serial", 1, HIGHEST),
        parents=_places(fields.several("parents", MOST_PARENTS)),
        ancestors=_places(fields.several("ancestors", MOST_ANCESTORS)),
        made=fields.number("made", 0, LATEST),
        signer=proof.signer,
        content=contents.of_fields(fields),
        hash=proof.hash,
        raw=data,
    )
    fields.end()
    return chart


def _places(entries: list[Any]) -> tuple[Place, ...]:
    places = []
    for entry in entries:
        serial, hash_ = row(entry, (int, str), "a predecessor of the map")
        places.append(Place(serial, bytes_of(hash_, SIZE, SIZE, "a predecessor's hash")))
    return tuple(places)


def _check_place(chart: Chart) -> None:
    """Refuse one that is not higher than all that it comes from, or by more than `STEP`."""
    line = (*chart.parents, *chart.ancestors)
    for places in (chart.parents, chart.ancestors):
        if list(places) != sorted(set(places), reverse=True):
            raise MeshError("the map's predecessors are not in order, or one is there twice")
    if len(set(line)) != len(line) or (chart.ancestors and not chart.parents):
        raise MeshError("the map's predecessors cannot be")
    before = chart.parents[0].serial if chart.parents else 0
    highest = max((place.serial for place in line), default=0)
    if chart.serial <= highest or any(place.serial < 1 for place in line):
        raise MeshError("the map's serial is not higher than those of its predecessors")
    if chart.serial - before > STEP:
        raise MeshError(f"the map's serial rises by more than {STEP} in one step")


def _check_links(content: Content, known: Chart | None) -> None:
    verified = {(each.identity, each.links) for each in known.content.machines} if known else set()
    for each in content.machines:
        if each.links and (each.identity, each.links) not in verified:
            _check_record(each)


def _check_record(machine: Machine) -> None:
    try:
        links.read(machine.links, machine.identity)
    except MeshError as fault:
        raise MeshError(f"{machine.name}: {fault}") from None


def _value(chart: Chart) -> dict[str, Any]:
    return contents.value(chart.content) | {
        "mandate": base64_of(chart.chain.last.hash),
        "signer": base64_of(chart.signer),
        "serial": chart.serial,
        "parents": [[each.serial, base64_of(each.hash)] for each in chart.parents],
        "ancestors": [[each.serial, base64_of(each.hash)] for each in chart.ancestors],
        "made": chart.made,
    }
