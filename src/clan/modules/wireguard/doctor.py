"""What is wrong with a WireGuard interface, in words: the troubleshooting page, gone through.

`question` is the program that looks at a machine, `diagnose` makes findings of what it printed.
Both are pure; how the one gets there and the other back is not known here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from clan.machine.wireguard.carriers import allowed, stand_ins
from clan.machine.wireguard.link import Link, peers_of
from clan.model.finding import Finding, lasting
from clan.model.plan import Due, WireguardLink
from clan.modules.wireguard import keys
from clan.modules.wireguard.settings import addresses_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clan.machine.wireguard.link import Seen
    from clan.model.clan import Clan, Instance
    from clan.model.module import Values
    from clan.model.plan import WireguardPeer

FRESH = 180.0
"""Seconds that a session lasts without another handshake (WireGuard paper, section 6.1)."""

CLOCK = 5.0
"""Seconds by which two clocks may differ without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is expected of a machine's interface, and what is due that it needs."""

    machine: str
    role: str
    instance: Instance
    link: WireguardLink
    due: tuple[Due, ...]
    public_key: str | None

    @property
    def addresses(self) -> dict[str, str]:
        """Each other machine's first address."""
        found = addresses_of(self.instance)
        return {name: found[name][0] for name in found if name != self.machine}


def cases(machine: str, clan: Clan, values: Values) -> Iterator[Case]:
    """Yield what is expected of each WireGuard interface of a machine."""
    for instance in clan.instances.values():
        if instance.module.name != "wireguard":
            continue
        for role, members in instance.members.items():
            if machine not in members:
                continue
            planned = list(instance.module.plan(machine, role, instance, clan, values))
            yield Case(
                machine=machine,
                role=role,
                instance=instance,
                link=next(each for each in planned if isinstance(each, WireguardLink)),
                due=tuple(each for each in planned if isinstance(each, Due)),
                public_key=values.public(keys.public_var(instance.name, machine)),
            )


def question(case: Case) -> str:
    """Return the Python program that looks, and prints what it saw as JSON."""
    wanted = {
        "name": case.link.name,
        "port": case.link.port,
        "endpoints": [peer.endpoint for peer in case.link.peers if peer.endpoint],
        "addresses": case.addresses,
    }
    program = resources.files("clan.modules.wireguard").joinpath("examine.py").read_text("utf-8")
    return f"{program}\n\nprint(json.dumps(examine(json.loads({json.dumps(wanted)!r}))))\n"


def well(saw: Mapping[str, Any]) -> str:
    """Return in words what there is of an interface with which nothing is wrong."""
    answered = [f"{far} {rtt:.1f} ms" for far, rtt in saw["pings"].items() if rtt is not None]
    return f"all is well; these answer: {', '.join(answered) or 'none'}"


def diagnose(case: Case, saw: Mapping[str, Any], *, clock: float) -> list[Finding]:
    """Return what is wrong, the cause before what follows from it.

    `saw` is what the program printed; `clock` is how far the machine's clock is ahead of this
    computer's, in seconds.
    """
    name = case.link.name
    found = list(_clock(case, clock))
    for due in case.due:
        hint = f"`clan machines update {due.var.machine}` makes it"
        found.append(Finding(message=f"the key of {due.var.machine} is not there yet", hint=hint))
    if not saw["wg"]:
        message = f"wireguard-tools are not installed on {case.machine}"
        return [*found, Finding(message=message, hint=_update(case))]
    if saw["interface"] is None:
        return [*found, *_missing(case, saw)]
    if saw["device"] is None:
        message = f"`wg show {name}` fails on {case.machine}"
        return [
            *found,
            Finding(message=message, hint="it needs root; is the interface WireGuard's?"),
        ]
    found += [*_interface(case, saw), *_device(case, saw)]
    there = dict(peers_of(saw["peers"]))
    found += _carried(case, saw)
    found += _strangers(case, there, saw)
    found += _silent(case, there, saw)
    return found


def _update(case: Case) -> str:
    return f"`clan machines update {case.machine}`"


def _clock(case: Case, ahead: float) -> Iterator[Finding]:
    if abs(ahead) > CLOCK:
        way = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            message=f"the clock of {case.machine} is {lasting(abs(ahead))} {way} this computer's",
            hint="a far end refuses handshakes that are dated before the last one it took "
            "(WireGuard paper, section 5.4.2): set the clock, or restart the far end's interface",
        )


def _missing(case: Case, saw: Mapping[str, Any]) -> Iterator[Finding]:
    name, port = case.link.name, case.link.port
    owners = _owners(saw, port)
    if owners:
        yield _in_use(name, port, owners)
    told = f"; last heard: {'; '.join(saw['journal'])}" if saw["journal"] else ""
    yield Finding(
        message=f"there is no interface {name} on {case.machine}{told}", hint=_update(case)
    )


def _owners(saw: Mapping[str, Any], port: int | None) -> list[str]:
    """Name what else has a port: programs, and other WireGuard interfaces."""
    programs = [f"{name} (process {pid})" for name, pid in saw["listening"]]
    programs = [each for each in programs if not each.startswith("wireguard-go ")]
    others = [f"the WireGuard interface {name}" for name, at in saw["ports"].items() if at == port]
    return list(dict.fromkeys((*others, *programs)))


def _in_use(name: str, port: int | None, owners: Iterable[str]) -> Finding:
    return Finding(
        message=f"UDP port {port} of {name} is in use by {', '.join(owners)} "
        "(Could not bring up interface: Address already in use)",
        hint="stop that, or give this instance another `port`",
    )


def _interface(case: Case, saw: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the interface itself with what it should be."""
    link, shown, update = case.link, saw["interface"], _update(case)
    if "UP" not in shown["flags"]:
        yield Finding(message=f"the interface {link.name} is down", hint=update)
    have = {f"{each['local']}/{each['prefixlen']}" for each in shown["addr_info"]}
    for address in link.addresses:
        if str(ip_interface(address)) not in have:
            yield Finding(message=f"{link.name} lacks its address {address}", hint=update)
    routes = {str(ip_network(route)) for route in saw["routes"] if route != "default"}
    for route in link.routes:
        if route not in routes:
            yield Finding(message=f"there is no route to {route} by {link.name}", hint=update)
    if shown["mtu"] != link.mtu:
        message = f"{link.name} has an mtu of {shown['mtu']}, not {link.mtu}"
        yield Finding(message=message, hint=update)


def _device(case: Case, saw: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare what `wg` shows of the interface, and what its role needs, with what it should be."""
    link, device, update = case.link, saw["device"], _update(case)
    if link.port is not None and int(device[1]) != link.port:
        owners = _owners(saw, link.port)
        if owners:
            yield _in_use(link.name, link.port, owners)
        else:
            message = f"{link.name} listens on UDP port {device[1]}, not {link.port}"
            yield Finding(message=message, hint=update)
    if case.public_key is not None and device[0] != case.public_key:
        yield Finding(
            message=f"{link.name} on {case.machine} has another key than the clan knows",
            hint="the others refuse it; `clan vars generate --service "
            f"{keys.generator_name(case.instance.name)} --machine {case.machine}` asks for it",
        )
    if case.role == "controller" and saw["forwarding"] != "1":
        yield Finding(
            message=f"{case.machine} does not forward IPv6: peers do not reach each other by it",
            hint="something set net.ipv6.conf.all.forwarding back; " + update,
        )


def _carried(case: Case, saw: Mapping[str, Any]) -> Iterator[Finding]:
    """Say which controllers are dead, since when and for whom, and who carries what goes by them.

    That one does not answer is found wrong elsewhere: this is what was done about it.
    """
    link = Link.of(case.link.to_json())
    known = saw["carriers"] or {"lost": [], "told": {}, "since": {}}
    by = stand_ins(link.carriers, known["since"])
    for name, at in known["since"].items():
        long = lasting(max(0.0, float(saw["time"]) - at))
        who = ", ".join(who for who, what in known["told"].items() if name in what)
        if case.role == "controller":
            message = f"for {long} {name} has been dead for all, as {who or 'nobody now'} lost it"
        else:
            why = f"{case.machine} lost it" if name in known["lost"] else f"{who} told so"
            live = by.get(name, "nobody")
            message = f"for {long} {live} has carried what goes by {name}, as {why}"
        yield Finding(
            message=message,
            hint="it goes back by itself, once it answers everyone again",
            wrong=False,
        )


def _strangers(case: Case, there: Mapping[str, Seen], saw: Mapping[str, Any]) -> Iterator[Finding]:
    dead = (saw["carriers"] or {"since": {}})["since"]
    link = Link.of(case.link.to_json())
    owned = allowed(link, dead)
    wanted = {peer.public_key: peer for peer in case.link.peers}
    for key, peer in wanted.items():
        if key not in there:
            message = f"{case.machine} does not know {peer.name}, or an older key of it"
            yield Finding(message=message, hint=_update(case))
        elif there[key].allowed != owned[key]:
            message = f"{case.machine} has other addresses for {peer.name} than the clan"
            yield Finding(message=message, hint=_update(case))
    count = len(there.keys() - wanted.keys())
    if count:
        message = f"{case.machine} lets {count} key(s) in that the clan does not know"
        yield Finding(message=message, hint=_update(case))


def _silent(case: Case, there: Mapping[str, Seen], saw: Mapping[str, Any]) -> Iterator[Finding]:
    """Say which far ends do not answer, and what it may be."""
    direct = [peer for peer in case.link.peers if peer.public_key in there]
    silent = [peer for peer in direct if not _alive(peer, there[peer.public_key], saw)]
    called = [peer for peer in direct if peer.endpoint]
    dead = [peer for peer in silent if peer.endpoint]
    blocked = bool(called) and dead == called and case.role == "peer"
    for peer in dead:
        seen = there[peer.public_key]
        yield Finding(
            message=_last(peer, seen, saw) + _why(peer, seen, saw),
            hint=None if blocked else f"`clan doctor {peer.name}`; is its UDP port open there?",
        )
    if blocked and all(isinstance(saw["endpoints"].get(peer.endpoint), list) for peer in dead):
        yield Finding(
            message=f"no controller answers {case.machine}: UDP may be blocked where it is",
            hint="try another network; controllers may use another `port`",
        )
    for peer in silent:
        if peer.endpoint is None:
            yield _away(peer.name, _last(peer, there[peer.public_key], saw))
    known = {peer.name for peer in case.link.peers}
    for name in (name for name, answered in saw["pings"].items() if answered is None):
        address = case.addresses[name]
        if name in {peer.name for peer in direct} - {peer.name for peer in silent}:
            yield Finding(
                message=f"packets come from {name}, but no answer to pings at {address}",
                hint=f"a firewall there may drop what {case.link.name} brings",
            )
        elif name not in known and not blocked:
            yield _away(name, f"{name} does not answer at {address}")


def _away(machine: str, message: str) -> Finding:
    hint = f"if it should be there: `clan doctor {machine}`"
    return Finding(message=f"{message}: it is off, or away", hint=hint, wrong=False)


def _alive(peer: WireguardPeer, seen: Seen, saw: Mapping[str, Any]) -> bool:
    """Whether something came from a far end while it was looked at."""
    answered = saw["pings"].get(peer.name) is not None
    return answered or seen.received > saw["received_before"].get(peer.public_key, 0)


def _last(peer: WireguardPeer, seen: Seen, saw: Mapping[str, Any]) -> str:
    """Say when a far end was last there."""
    if not seen.handshake:
        return f"no handshake with {peer.name} ever"
    ago = float(saw["time"]) - seen.handshake
    if ago < FRESH:
        return f"{peer.name} does not answer any more; its handshake was {lasting(ago)} ago"
    return f"no handshake with {peer.name} for {lasting(ago)}"


def _why(peer: WireguardPeer, seen: Seen, saw: Mapping[str, Any]) -> str:
    found = saw["endpoints"].get(peer.endpoint)
    if isinstance(found, str):
        return f": the name of {peer.endpoint} is not found ({found})"
    if seen.endpoint is None:
        return f": it has no endpoint yet, and {peer.endpoint} is at {', '.join(found or ())}"
    host = seen.endpoint.rpartition(":")[0].strip("[]")
    if found and host not in found:
        return f": it was last at {seen.endpoint}, and {peer.endpoint} is at {', '.join(found)}"
    return f": nothing comes back from {seen.endpoint}"
