"""What a map says of the clan: machines, who may reach whom, secrets; and what is wrong with it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

from clan.mesh import identity
from clan.mesh.chart import links
from clan.mesh.chart.canonical import Fields, base64_of, bytes_of, row
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

MOST = 4096
"""Machines in a map, and removed ones that it remembers."""
MOST_OF_ONE = 64
"""Tags, addresses and networks of one machine."""
MOST_RULES = 1024
MOST_SECRETS = 16
LATEST = 1 << 40
"""A time, in seconds of 1970, that is certainly wrong."""
EVERYONE = "all"
PROTOCOLS = ("icmp", "tcp", "udp")
PRIVATE = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)
"""RFC 1918 and RFC 6598."""
_MACHINE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,62}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KnownAddress:
    """Where the inventory says that a machine can be found."""

    host: str
    """A numeric address or a name."""
    port: int = 0
    """A UDP port that leads to the machine; 0 is the port of each of its interfaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A member of the clan."""

    name: str
    identity: bytes
    tags: frozenset[str] = frozenset()
    addresses: tuple[KnownAddress, ...] = ()
    """The likeliest first."""
    alias: IPv4Address | None = None
    subnets: frozenset[int] = frozenset()
    """Numbers of the /64 that are behind it: a site's, its containers'."""
    links: bytes = b""
    """Its own signed record of its interfaces (`links.read`); empty while it has told none."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Ports:
    """What of a machine may be reached: a protocol, and for TCP and UDP the ports."""

    protocol: str
    """One of `PROTOCOLS`; empty is every one."""
    first: int = 0
    last: int = 65535

    def covers(self, other: Ports) -> bool:
        """Say whether all of the other is in this one."""
        return self.protocol in {"", other.protocol} and (
            self.first <= other.first and other.last <= self.last
        )


EVERYTHING = Ports(protocol="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Some machines may reach something of others. Who is named: a machine, `#tag`, or `all`."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ports: tuple[Ports, ...] = (EVERYTHING,)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Secret:
    """A discovery secret, and since when it is used: seconds of 1970 by the signer's clock."""

    made: int
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a map says."""

    machines: tuple[Machine, ...] = ()
    """By name."""
    removed: frozenset[bytes] = frozenset()
    """Identities that were members in this epoch and are no more."""
    rules: tuple[Rule, ...] = ()
    """None: every member may reach every other."""
    aliases: IPv4Network | None = None
    """Where IPv4 aliases lie."""
    secrets: tuple[Secret, ...] = ()
    """The newest first. Earlier ones are recognised for some days, for getting a map alone."""

    @property
    def identities(self) -> frozenset[bytes]:
        """The members' identities."""
        return frozenset(machine.identity for machine in self.machines)


def allowed(rules: Iterable[Rule], source: Machine, target: Machine) -> tuple[Ports, ...]:
    """Return what of `target` a machine may reach by the rules of one map."""
    rules = tuple(rules)
    if not rules:
        return (EVERYTHING,)
    from_, to = _selectors(source), _selectors(target)
    open_ = {
        ports
        for rule in rules
        if not from_.isdisjoint(rule.sources) and not to.isdisjoint(rule.targets)
        for ports in rule.ports
    }
    return tuple(sorted(open_))


def _selectors(machine: Machine) -> frozenset[str]:
    return frozenset({EVERYONE, machine.name, *(f"#{tag}" for tag in machine.tags)})


def folded(name: str) -> str:
    """Return a name as host names have it: two machines must not differ in less."""
    return name.casefold().replace("_", "-")


def faults(content: Content, clan: IPv6Network) -> list[str]:
    """Return what is wrong with a content, in words, each a line; none if a map may say it."""
    return [*_clashes(content, clan), *_wrong(content, clan)]


def _clashes(content: Content, clan: IPv6Network) -> Iterator[str]:
    machines = content.machines
    kinds: tuple[tuple[str, list[Any]], ...] = (
        ("name", [folded(each.name) for each in machines]),
        ("identity", [each.identity for each in machines]),
        ("address", [identity.address(clan, each.identity) for each in machines]),
        ("IPv4 alias", [each.alias for each in machines]),
    )
    for kind, values in kinds:
        for value, count in Counter(values).items():
            if count > 1 and value is not None:
                names = ", ".join(
                    sorted(
                        each.name
                        for each, held in zip(machines, values, strict=True)
                        if held == value
                    )
                )
                yield f"{names}: have the same {kind}"
    numbers = Counter(number for each in machines for number in each.subnets)
    for number, count in numbers.items():
        if count > 1:
            names = ", ".join(each.name for each in machines if number in each.subnets)
            yield f"{names}: have the same network {identity.subnet(clan, number)}"
    for each in machines:
        if each.identity in content.removed:
            yield f"{each.name}: is a member and removed at once"


def _wrong(content: Content, clan: IPv6Network) -> Iterator[str]:
    if len(content.machines) > MOST or len(content.removed) > MOST:
        yield f"more than {MOST} machines, or removed ones: the root's next epoch forgets those"
    if list(content.machines) != sorted(content.machines, key=lambda each: each.name):
        yield "the machines are not in order"
    within = content.aliases
    if within is not None and not any(within.subnet_of(each) for each in PRIVATE):
        yield f"{within}: aliases are not in one of {', '.join(map(str, PRIVATE))}"
    for each in content.machines:
        yield from _wrong_machine(each, within, clan)
    for number, rule in enumerate(content.rules, 1):
        yield from _wrong_rule(rule, f"rule {number}")
    if len(content.rules) > MOST_RULES:
        yield f"more than {MOST_RULES} rules"
    if len(content.secrets) > MOST_SECRETS:
        yield f"more than {MOST_SECRETS} discovery secrets"
    if list(content.secrets) != sorted(set(content.secrets), reverse=True):
        yield "the discovery secrets are not in order, or one is there twice"


def _wrong_machine(
    machine: Machine, within: IPv4Network | None, clan: IPv6Network
) -> Iterator[str]:
    name = machine.name
    if not _MACHINE.fullmatch(name):
        yield f"{name[:80]!r} is no machine name"
    if len(machine.identity) != SIZE:
        yield f"{name}: its identity is not {SIZE} bytes"
    most = max(len(machine.tags), len(machine.addresses), len(machine.subnets))
    if most > MOST_OF_ONE:
        yield f"{name}: more than {MOST_OF_ONE} tags, addresses or networks"
    for tag in machine.tags:
        if not _TAG.fullmatch(tag):
            yield f"{name}: {tag[:80]!r} is no tag"
    if machine.alias is not None and (
        within is None
        or machine.alias not in within
        or machine.alias in {within.network_address, within.broadcast_address}
    ):
        yield f"{name}: its alias {machine.alias} is not in the clan's range"
    if any(not 0 <= number < identity.SUBNETS for number in machine.subnets):
        yield f"{name}: has a network that there cannot be"
    for known in machine.addresses:
        wrong = _wrong_address(known, within, clan)
        if wrong or machine.addresses.count(known) > 1:
            yield f"{name}: {known.host[:80]!r} {wrong or 'is there twice'}"


def _wrong_address(
    known: KnownAddress, within: IPv4Network | None, clan: IPv6Network
) -> str | None:
    if not 0 <= known.port <= 65535:  # noqa: PLR2004
        return f"has a port that there cannot be, {known.port}"
    try:
        numeric = ip_address(known.host.partition("%")[0])
    except ValueError:
        return None if _HOST.fullmatch(known.host) else "is no address and no host name"
    if str(numeric) != known.host:
        return f"is written {numeric}"
    inside: Container[Any] = clan if isinstance(numeric, IPv6Address) else (within or ())
    if numeric in inside:
        return "is an address of the clan itself: the mesh cannot be reached through the mesh"
    if (
        numeric.is_multicast
        or numeric.is_unspecified
        or numeric.is_loopback
        or (numeric.is_link_local)
    ):
        return "is no address that another machine can send to"
    return None


def _wrong_rule(rule: Rule, what: str) -> Iterator[str]:
    for selector in (*rule.sources, *rule.targets):
        tag = selector.removeprefix("#")
        if not (_MACHINE if tag == selector else _TAG).fullmatch(tag):
            yield f"{what}: {selector[:80]!r} is no machine's name, no `#tag` and not `all`"
    if not (rule.sources and rule.targets and rule.ports):
        yield f"{what}: names nobody, or nothing"
    if max(len(rule.sources), len(rule.targets), len(rule.ports)) > MOST:
        yield f"{what}: is too long"
    for ports in rule.ports:
        whole = (ports.first, ports.last) == (0, 65535)
        right = ports.protocol in {"tcp", "udp"} or (ports.protocol in {"", "icmp"} and whole)
        if not right or not 0 <= ports.first <= ports.last <= 65535:  # noqa: PLR2004
            yield f"{what}: {ports} cannot be"


def value(content: Content) -> dict[str, Any]:
    """Return what is encoded."""
    return {
        "machines": [_machine_value(each) for each in content.machines],
        "removed": sorted(base64_of(each) for each in content.removed),
        "rules": [
            [
                list(rule.sources),
                list(rule.targets),
                [[each.protocol, each.first, each.last] for each in rule.ports],
            ]
            for rule in content.rules
        ],
        "aliases": "" if content.aliases is None else str(content.aliases),
        "secrets": [[each.made, base64_of(each.key)] for each in content.secrets],
    }


def _machine_value(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "identity": base64_of(machine.identity),
        "tags": sorted(machine.tags),
        "addresses": [[each.host, each.port] for each in machine.addresses],
        "alias": "" if machine.alias is None else str(machine.alias),
        "subnets": sorted(machine.subnets),
        "links": base64_of(machine.links),
    }


def of_fields(fields: Fields) -> Content:
    """Take a content's fields of a map's record. Raises MeshError for what is not of its form."""
    return Content(
        machines=tuple(_machine(each) for each in fields.several("machines", MOST)),
        removed=frozenset(
            bytes_of(each, SIZE, SIZE, "a removed machine's identity")
            for each in fields.several("removed", MOST)
        ),
        rules=tuple(_rule(each) for each in fields.several("rules", MOST_RULES)),
        aliases=_ipv4(IPv4Network, fields.text("aliases", 18)),
        secrets=tuple(_secret(each) for each in fields.several("secrets", MOST_SECRETS)),
    )


def _machine(entry: Any) -> Machine:
    fields = Fields(entry, "a machine of the map")
    numbers = fields.several("subnets", MOST_OF_ONE)
    machine = Machine(
        name=fields.text("name", 63),
        identity=fields.data("identity", SIZE, SIZE),
        tags=frozenset(fields.texts("tags", MOST_OF_ONE, 63)),
        addresses=tuple(
            KnownAddress(host=host, port=port)
            for host, port in (
                row(each, (str, int), "a machine's addresses")
                for each in fields.several("addresses", MOST_OF_ONE)
            )
        ),
        alias=_ipv4(IPv4Address, fields.text("alias", 15)),
        subnets=frozenset(row(numbers, (int,) * len(numbers), "a machine's networks")),
        links=fields.data("links", 0, links.LARGEST + 100),
    )
    fields.end()
    return machine


def _ipv4(kind: type[Any], written: str) -> Any:
    try:
        return kind(written) if written else None
    except ValueError:
        raise MeshError(f"{written!r} in a map is no IPv4 address or range") from None


def _rule(entry: Any) -> Rule:
    what = "a rule of the map"
    sources, targets, ports = row(entry, (list, list, list), what)
    read = []
    for each in ports:
        protocol, first, last = row(each, (str, int, int), what)
        read.append(Ports(protocol=protocol, first=first, last=last))
    return Rule(
        sources=tuple(row(sources, (str,) * len(sources), what)),
        targets=tuple(row(targets, (str,) * len(targets), what)),
        ports=tuple(read),
    )


def _secret(entry: Any) -> Secret:
    made, key = row(entry, (int, str), "a discovery secret")
    if not 0 <= made <= LATEST:
        raise MeshError("a discovery secret is of a time that cannot be")
    return Secret(made=made, key=bytes_of(key, SIZE, SIZE, "a discovery secret"))
