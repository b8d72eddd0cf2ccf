"""What is wrong with a machine in a mesh, in words.

`question` is the program that looks at a machine, `diagnose` makes findings of what it printed.
Both are pure; how the one gets there and the other back is not known here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from clan.mesh.agent import marks
from clan.mesh.errors import MeshError
from clan.mesh.outside.address import is_outside
from clan.mesh.relay.ports import PORTS
from clan.mesh.slots import NAMES
from clan.model.finding import Finding, lasting
from clan.model.plan import Due
from clan.modules.mesh import keys
from clan.modules.mesh.plan import unit_name
from clan.modules.mesh.seen import Seen, read_seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.clan import Clan, Instance
    from clan.model.module import Values

CLOCK = 5.0
"""Seconds by which two clocks may differ without a word."""
FULL_TUNNEL = "suppress_prefixlen"
"""What wg-quick(8)'s rule for `AllowedIPs = 0.0.0.0/0` has, and hardly anything else; as ip(8)
calls it in JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is expected of a machine in a mesh, and what is due that it needs."""

    machine: str
    instance: Instance
    address: str | None
    due: tuple[Due, ...]


def cases(machine: str, clan: Clan, values: Values) -> Iterator[Case]:
    """Yield what is expected of a machine in each mesh that it is in."""
    for instance in clan.instances.values():
        if instance.module.name != "mesh" or machine not in instance.members["member"]:
            continue
        planned = instance.module.plan(machine, "member", instance, clan, values)
        yield Case(
            machine=machine,
            instance=instance,
            address=values.public(keys.address_var(instance.name, machine)),
            due=tuple(each for each in planned if isinstance(each, Due)),
        )


def question(case: Case) -> str:
    """Return the Python program that looks, and prints what it saw as JSON."""
    program = resources.files("clan.modules.mesh").joinpath("examine.py").read_text("utf-8")
    return f"{program}\n\nprint(json.dumps(examine({json.dumps(case.instance.name)})))\n"


def well(saw: Mapping[str, Any]) -> str:
    """Return in words what there is of a machine with which nothing is wrong."""
    seen = read_seen(saw["answer"])
    there = [peer.name for peer in seen.peers.values() if peer.state == "connected"]
    idle = sum(peer.state == "idle" for peer in seen.peers.values())
    paths = f"paths to {', '.join(there)}" if there else "no path in use"
    return f"all is well; map {seen.map[0]}.{seen.map[1]}, {paths}, {idle} idle"


def diagnose(case: Case, saw: Mapping[str, Any], *, clock: float) -> list[Finding]:
    """Return what is wrong, the cause before what follows from it.

    `saw` is what the program printed; `clock` is how far the machine's clock is ahead of this
    computer's, in seconds.
    """
    found = [*_clock(case, clock), *_due(case), *_ground(case, saw)]
    if not saw["told"]:
        message = f"{case.machine} does not know yet that it is in the mesh {case.instance.name}"
        return [*found, Finding(message=message, hint=_update(case))]
    if saw["answer"] is None:
        return [*found, *_no_agent(case, saw)]
    try:
        seen = read_seen(saw["answer"])
    except MeshError as fault:
        return [*found, Finding(message=str(fault), hint=_update(case))]
    found += _map(case, seen)
    if case.address is not None and seen.name is not None and case.address not in saw["loopback"]:
        message = f"{case.machine} lacks its address {case.address} on lo"
        found.append(Finding(message=message, hint=f"`clan mesh log {case.machine}` may say why"))
    if not seen.uplinks:
        message = f"{case.machine} has no uplink: no interface with an address leads out of it"
        found.append(Finding(message=message))
    lost = [peer.name for peer in seen.peers.values() if peer.state == "lost"]
    found += _in_the_way(case, saw, lost)
    found += _relay(case, seen)
    for name in lost:
        hint = f"if it should be there: `clan doctor {name}`"
        message = f"{case.machine} has no way to {name} now: it is off, or away"
        found.append(Finding(message=message, hint=hint, wrong=False))
    return found


def _update(case: Case) -> str:
    return f"`clan machines update {case.machine}`"


def _clock(case: Case, ahead: float) -> Iterator[Finding]:
    if abs(ahead) > CLOCK:
        way = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            message=f"the clock of {case.machine} is {lasting(abs(ahead))} {way} this computer's",
            hint="a far end refuses handshakes that are dated before the last one it took: set the "
            "clock",
        )


def _due(case: Case) -> Iterator[Finding]:
    for due in case.due:
        whose = "the mesh" if due.var.machine is None else due.var.machine
        yield Finding(
            message=f"{due.var.generator} of {whose} is not there yet",
            hint=due.why,
            wrong=due.var.machine in {None, case.machine},
        )


def _ground(case: Case, saw: Mapping[str, Any]) -> Iterator[Finding]:
    """Say what of the machine itself keeps a mesh from being."""
    off = saw["ipv6_off"]
    if off is None or "all" in off or "lo" in off:
        yield Finding(
            message=f"IPv6 is switched off on {case.machine}"
            + ("" if off is None else f" (disable_ipv6 of {', '.join(off)})"),
            hint="the mesh's addresses are IPv6: take `disable_ipv6` out of /etc/sysctl.d, or "
            "`ipv6.disable` out of the kernel's command line; uplinks may go without",
        )
    elif off:
        yield Finding(
            message=f"IPv6 is switched off on {', '.join(off)}: only IPv4 is used there",
            wrong=False,
        )
    there = saw["wireguard"]
    if not there["kernel"] and not (there["program"] and there["tun"]):
        lacks = "no /dev/net/tun" if there["program"] else "no wireguard-go"
        yield Finding(
            message=f"{case.machine} cannot make WireGuard links: its kernel has none, and there "
            f"is {lacks}",
            hint="a container needs /dev/net/tun from its host"
            if there["program"]
            else _update(case),
        )
    defaults = saw["defaults"]
    if not any(defaults.values()):
        yield Finding(
            message=f"{case.machine} has no default route: it is reached on its own LANs alone",
            wrong=False,
        )
    elif not defaults["4"]:
        how = "a NAT64 leads to IPv4" if saw["nat64"] else "nothing leads to IPv4"
        yield Finding(message=f"{case.machine} has IPv6 alone: {how}", wrong=False)


def _no_agent(case: Case, saw: Mapping[str, Any]) -> Iterator[Finding]:
    unit = unit_name(case.instance.name)
    told = f"; last heard: {'; '.join(saw['journal'])}" if saw["journal"] else ""
    if saw["active"] == "active":
        message = f"the agent of {case.instance.name} on {case.machine} does not answer"
        yield Finding(message=f"{message}: {saw['fault']}{told}")
    else:
        yield Finding(
            message=f"the agent of {case.instance.name} does not run on {case.machine}: {unit} is "
            f"{saw['active'] or 'not there'}{told}",
            hint=_update(case),
        )


def _map(case: Case, seen: Seen) -> Iterator[Finding]:
    name = case.instance.name
    if seen.map == (0, 0):
        yield Finding(message=f"{case.machine} has no map of {name} yet", hint=_update(case))
    elif seen.name is None:
        yield Finding(
            message=f"the map of {name} that {case.machine} has does not have it",
            hint=_update(case),
        )
    if seen.map_state in {"forked", "disputed"}:
        yield Finding(
            message=f"the map of {name} is {seen.map_state}",
            hint=f"`clan mesh map --network {name}` shows how",
        )


def _relay(case: Case, seen: Seen) -> Iterator[Finding]:
    """Say that a machine with an address outside cannot relay, as others found when they tried."""
    public = [(host, port) for host, port in seen.unreached if is_outside(ip_address(host))]
    if public:
        places = ", ".join(f"{host} port {port}" for host, port in public)
        yield Finding(
            message=f"nobody outside reaches {case.machine} by UDP at {places}: it relays for "
            "nobody",
            hint=f"let in UDP ports {PORTS.start} to {PORTS.stop - 1} where its provider, or its "
            f"router, has a firewall; `clan doctor {case.machine}` has others try again",
            wrong=False,
        )


def _in_the_way(case: Case, saw: Mapping[str, Any], lost: list[str]) -> Iterator[Finding]:
    """Say what on the machine may keep packets from leaving; wrong only if some do not arrive."""
    drops = [f"{each['family']} {each['table']} {each['name']}" for each in saw["guards"]]
    if drops:
        yield Finding(
            message=f"{case.machine} lets nothing out but what a rule allows ({', '.join(drops)}): "
            "a VPN's kill switch does that",
            hint="let out what the mesh sends, `meta mark & "
            f"{marks.MASK:#x} == {marks.FIRST:#010x} accept`, and what goes by it, "
            f'`oifname "{NAMES}*" accept`',
            wrong=bool(lost),
        )
    if any(FULL_TUNNEL in rule for rule in saw["rules"]):
        yield Finding(
            message=f"a VPN on {case.machine} takes all that leaves it; the mesh goes beside it, "
            "by the uplinks themselves",
            wrong=False,
        )
