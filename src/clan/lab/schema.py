"""lab.toml: its shape, every fault in it at once, and its way back to text.

The shape is pydantic's, because that names faults by key; what leaves here is `LabConfig`.
"""

# No `from __future__ import annotations` here: pydantic reads these annotations when it runs.
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from clan.errors import Fault, InventoryError, did_you_mean
from clan.lab.addresses import CAPACITY, plan
from clan.lab.config import (
    ADMIN,
    Families,
    Forward,
    LabConfig,
    LetsOut,
    Machine,
    Mdns,
    Nat,
    Router,
    Site,
    host_name,
)

_SECONDS = {"ms": 0.001, "s": 1.0}
_BITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_SITE = re.compile(r"[a-z][a-z0-9-]{0,30}")
_MACHINE = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,62}")
_DNS_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*")


def _amount(text: Any, units: Mapping[str, float], example: str) -> float:
    """Read a number with its unit, as `10ms`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z%]+)", text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"not a number with a unit ({', '.join(units)}), such as {example!r}")
    return float(match[1]) * units[match[2]]


def _delay(text: Any) -> float:
    seconds = _amount(text, _SECONDS, "10ms")
    if seconds > 10:  # noqa: PLR2004 (to Mars is another project)
        raise ValueError("longer than 10s each way")
    return seconds


def _loss(text: Any) -> float:
    share = _amount(text, {"%": 0.01}, "1%")
    if share > 1:
        raise ValueError("more than 100%")
    return share


def _rate(text: Any) -> int:
    bits = int(_amount(text, _BITS, "50mbit"))
    if bits < 8000:  # noqa: PLR2004 (below a kilobyte a second tbf cannot be given a bucket)
        raise ValueError("less than 8kbit")
    return bits


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 65535:  # noqa: PLR2004 (ports are 16 bits)
        raise ValueError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _forward(text: Any) -> Forward:
    words = text.split() if isinstance(text, str) else []
    if len(words) != 4 or words[0] not in {"tcp", "udp"}:  # noqa: PLR2004 (the four words below)
        raise ValueError("not 'PROTOCOL PORT MACHINE PORT', such as 'tcp 2222 nas 22'")
    protocol, port, machine, to_port = words
    return Forward(protocol=protocol, port=_port(port), machine=machine, to_port=_port(to_port))


def _lan(text: Any) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except (TypeError, ValueError) as wrong:
        raise ValueError(f"not an IPv4 range such as '192.168.1.0/24': {wrong}") from wrong
    if not 16 <= network.prefixlen <= 27:  # noqa: PLR2004 (room for DHCP, and for the plan's pools)
        raise ValueError("a LAN is a /16 at most and a /27 at least")
    return network


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Router(_Strict):
    nat: Nat = Nat.MASQUERADE
    lets_out: LetsOut = LetsOut.ALL
    delay: Annotated[float, BeforeValidator(_delay)] = 0.0
    loss: Annotated[float, BeforeValidator(_loss)] = 0.0
    rate: Annotated[int | None, BeforeValidator(_rate)] = None
    forward: tuple[Annotated[Forward, BeforeValidator(_forward)], ...] = ()


class _Site(_Strict):
    router: _Router = _Router()
    ip: Families = Families.BOTH
    lan: Annotated[IPv4Network | None, BeforeValidator(_lan)] = None


class _Machine(_Strict):
    site: str
    mdns: Mdns = Mdns.AVAHI
    clan: bool = False
    address: IPv4Address | None = None
    debian: Literal[12, 13] = 12


class _Admin(_Strict):
    site: str


class _File(_Strict):
    sites: dict[str, _Site] = Field(min_length=1)
    machines: dict[str, _Machine] = {}
    admin: _Admin
    names: dict[str, str] = {}
    tor: bool = False


# What a table at a key path may hold, for did-you-mean. "*" stands for a name the user chose.
_KEYS: dict[tuple[str, ...], type[BaseModel]] = {
    (): _File,
    ("sites", "*"): _Site,
    ("sites", "*", "router"): _Router,
    ("machines", "*"): _Machine,
    ("admin",): _Admin,
}


def load(path: Path, machines: Collection[str] | None = None) -> LabConfig:
    """Read lab.toml. `machines`, when given, are the clan's: the lab may run no others.

    Raises InventoryError with every fault that was found.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fault = Fault(
            message="there is no such file",
            file=str(path),
            hint="docs/reference/lab.md has one to start from",
        )
        raise InventoryError([fault]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise InventoryError([Fault(message=str(wrong), file=str(path))]) from wrong
    return parse(document, machines, file=str(path))


def parse(
    document: Mapping[str, Any],
    machines: Collection[str] | None = None,
    *,
    file: str | None = None,
) -> LabConfig:
    """Check a lab.toml that was already read as TOML or JSON; `file` is named in faults.

    Raises InventoryError with every fault that was found.
    """
    try:
        model = _File.model_validate(document)
    except ValidationError as invalid:
        faults = [_fault(error) for error in invalid.errors()]
    else:
        config = _config(model)
        faults = list(_faults(config, machines))
        if not faults:
            return config
    raise InventoryError([replace(fault, file=file) for fault in faults])


def dump(config: LabConfig) -> dict[str, Any]:
    """Write a config as the document that `parse` reads it back from."""

    def router(of: Router) -> dict[str, Any]:
        return {
            "nat": of.nat.value,
            "lets_out": of.lets_out.value,
            "delay": f"{of.delay * 1000:f}ms",
            "loss": f"{of.loss * 100:f}%",
            "forward": [str(forward) for forward in of.forward],
        } | ({"rate": f"{of.rate / 1000:f}kbit"} if of.rate else {})

    return {
        "sites": {
            name: {"router": router(site.router), "ip": site.ip.value}
            | ({"lan": str(site.lan)} if site.lan else {})
            for name, site in config.sites.items()
        },
        "machines": {
            name: {
                "site": machine.site,
                "mdns": machine.mdns.value,
                "clan": machine.clan,
                "debian": machine.debian,
            }
            | ({"address": str(machine.address)} if machine.address else {})
            for name, machine in config.machines.items()
        },
        "admin": {"site": config.admin},
        "names": {name: str(target) for name, target in config.names.items()},
        "tor": config.tor,
    }


def _config(model: _File) -> LabConfig:
    return LabConfig(
        sites={
            name: Site(router=Router(**dict(site.router)), ip=site.ip, lan=site.lan)
            for name, site in model.sites.items()
        },
        machines={name: Machine(**dict(machine)) for name, machine in model.machines.items()},
        admin=model.admin.site,
        names={name: _target(text) for name, text in model.names.items()},
        tor=model.tor,
    )


def _target(text: str) -> str | IPv4Address | IPv6Address:
    """Return an address when the text is one, else the text: a machine's name."""
    try:
        return ip_address(text)
    except ValueError:
        return text


def _fault(error: Any) -> Fault:
    """Say in the lab's words what pydantic found."""
    key: tuple[str | int, ...] = error["loc"]
    if error["type"] == "extra_forbidden":
        table = tuple("*" if i == 1 else str(part) for i, part in enumerate(key[:-1]))
        model = _KEYS.get(table)
        near = did_you_mean(str(key[-1]), model.model_fields if model else ())
        return Fault(message="unknown key", key=key, hint=near)
    if error["type"] == "enum":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        near = did_you_mean(str(error["input"]), known)
        message = f"{error['input']!r} is none of {', '.join(known)}"
        return Fault(message=message, key=key, hint=near)
    if error["type"] == "missing":
        return Fault(message="is missing", key=key)
    return Fault(message=error["msg"].removeprefix("Value error, "), key=key)


def _faults(config: LabConfig, machines: Collection[str] | None) -> Iterator[Fault]:
    """Find what is well-formed and still cannot be."""
    yield from _bad_names(config, machines)
    for name, machine in config.machines.items():
        yield from _unknown("site", machine.site, config.sites, ("machines", name, "site"))
    yield from _unknown("site", config.admin, config.sites, ("admin", "site"))
    for name, site in config.sites.items():
        yield from _bad_forwards(name, site, config)
    for name, target in config.names.items():
        if not _DNS_NAME.fullmatch(name):
            yield Fault(message="not a DNS name in lower case", key=("names", name))
        if isinstance(target, str):
            yield from _unknown("machine", target, config.machines, ("names", name))
    if all(machine.site in config.sites for machine in config.machines.values()):
        yield from plan(config).faults


def _bad_names(config: LabConfig, machines: Collection[str] | None) -> Iterator[Fault]:
    if len(config.sites) > CAPACITY:
        yield Fault(message=f"more than {CAPACITY} sites", key=("sites",))
    for name in config.sites:
        if not _SITE.fullmatch(name) or name == ADMIN:
            hint = f"up to 31 of a-z, 0-9 and '-', a letter first, and not {ADMIN!r}"
            yield Fault(message="not a site's name", key=("sites", name), hint=hint)
    taken: dict[str, str] = {}
    for name in config.machines:
        key = ("machines", name)
        if not _MACHINE.fullmatch(name) or name == ADMIN or name in config.sites:
            hint = f"letters, digits, '-' and '_'; neither {ADMIN!r} nor a site's name"
            yield Fault(message="not a machine's name", key=key, hint=hint)
        if other := taken.get(host_name(name)):
            yield Fault(message=f"has the host name of {other!r}", key=key)
        taken[host_name(name)] = name
        if machines is not None:
            yield from _unknown("machine of the clan", name, machines, key)


def _bad_forwards(name: str, site: Site, config: LabConfig) -> Iterator[Fault]:
    taken = set()
    for index, forward in enumerate(site.router.forward):
        key = ("sites", name, "router", "forward", index)
        yield from _unknown("machine", forward.machine, config.machines, key)
        machine = config.machines.get(forward.machine)
        if machine and machine.site != name:
            yield Fault(message=f"{forward.machine!r} is at {machine.site!r}", key=key)
        if (forward.protocol, forward.port) in taken:
            message = f"{forward.protocol} {forward.port} is forwarded twice"
            yield Fault(message=message, key=key)
        taken.add((forward.protocol, forward.port))
    if site.router.forward and site.router.nat is Nat.NONE:
        message = "a router without NAT has nothing to forward: its machines are public"
        yield Fault(message=message, key=("sites", name, "router", "forward"))


def _unknown(
    what: str, name: str, known: Collection[str], key: tuple[str | int, ...]
) -> Iterator[Fault]:
    if name not in known:
        yield Fault(message=f"unknown {what} {name!r}", key=key, hint=did_you_mean(name, known))
