"""Rules of somebody's own that drop what a generation opens: found, named, and left alone.

Each base chain of nftables on the way is gone through for a new packet to what is opened. A match
that is not understood may hold or not, so a chain blocks only where no rule could accept the
packet: what is named does block it, and what blocks by a match that is not understood is not seen.
Neither is what is no rule of nftables: iptables-legacy, eBPF, a router's or a provider's firewall.

The form of rules is libnftables-json(5)'s.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from clan.machine.firewalls import openings
from clan.machine.system import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Packet = dict[str, str | int]
"""What is known of a packet: `meta iifname`, `ct state`, `udp dport` … and what it has there."""

OUTSIDE = "\0outside"
"""An interface that is not known, and is not lo."""
OURS = ("inet", "clan")
VERDICTS = frozenset({"accept", "drop", "reject", "return", "jump", "goto", "queue", "vmap"})
HARMLESS = frozenset({"counter", "log", "mangle"})
"""Statements that match everything."""
DEPTH = 16
"""Chains within chains that are followed; the kernel allows as many jumps."""


def find(manifest: Mapping[str, Any]) -> list[str]:
    """Say in words which chains drop what a generation opens. Raises StepError."""
    opened = openings(manifest)
    if not opened or shutil.which("nft") is None:
        return []
    ruleset = json.loads(run(["nft", "-j", "list", "ruleset"]))["nftables"]
    found = []
    for rule in opened:
        if rule[0] == "forward":
            hook, what = "forward", f"forwarding inside {rule[1]}"
            packet: Packet = {"meta iifname": rule[1], "meta oifname": rule[1]}
        else:
            protocol, port, interface = rule
            hook, what = "input", f"{protocol.upper()} port {port}"
            packet = {
                "meta iifname": interface or OUTSIDE,
                "meta l4proto": protocol,
                f"{protocol} dport": int(port),
                "th dport": int(port),
            }
        packet["ct state"] = "new"
        found += [
            f"{what} is open here, but the chain {chain} drops it: it is not clan's, so add a rule "
            "there that accepts it"
            for chain in blocking(ruleset, hook, packet)
        ]
    return found


def blocking(ruleset: Sequence[Mapping[str, Any]], hook: str, packet: Packet) -> Iterator[str]:
    """Yield the base chains of a hook, as `family table chain`, that let no such packet pass."""
    chains: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    bases = []
    for entry in ruleset:
        if "chain" in entry:
            chain = entry["chain"]
            place = (chain["family"], chain["table"], chain["name"])
            chains[place] = []
            if chain.get("hook") == hook and place[:2] != OURS:
                bases.append((place, chain.get("policy", "accept")))
        elif "rule" in entry:
            rule = entry["rule"]
            chains[rule["family"], rule["table"], rule["chain"]].append(rule)
    for place, policy in bases:
        if place[0] not in {"inet", "ip", "ip6"}:
            continue
        passes = _passes(chains, place, packet, DEPTH)
        if passes is False or (passes is None and policy == "drop"):
            yield " ".join(place)


def _passes(
    chains: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]],
    place: tuple[str, str, str],
    packet: Packet,
    depth: int,
) -> bool | None:
    """Say whether a chain may accept a packet: False, it drops it; None, it leaves it to others."""
    for rule in chains.get(place, ()):
        holds, verdict, value = _read(rule["expr"], packet)
        if holds is False:
            continue
        if verdict in {"accept", "queue", "vmap"}:
            return True
        if verdict in {"jump", "goto"}:
            target = (*place[:2], value["target"])
            inner = _passes(chains, target, packet, depth - 1) if depth else True
            if inner or (inner is False and holds):
                return inner
        if holds and verdict in {"drop", "reject"}:
            return False
        if holds and verdict in {"return", "goto"}:
            return None
    return None


def _read(statements: Sequence[Mapping[str, Any]], packet: Packet) -> tuple[bool | None, str, Any]:
    """Return whether a rule's matches hold for a packet, and its verdict, with what it has."""
    holds: bool | None = True
    for statement in statements:
        kind, value = next(iter(statement.items()))
        if kind in VERDICTS:
            return holds, kind, value
        if kind == "match":
            held = _holds(value, packet)
            if held is False:
                return False, "", None
            holds = held and holds
        elif kind not in HARMLESS:
            holds = None
    return holds, "", None


def _holds(match: Mapping[str, Any], packet: Packet) -> bool | None:
    """Say whether a match holds for a packet; None where that is not known."""
    left = match["left"]
    kind, value = next(iter(left.items())) if isinstance(left, dict) else ("", {})
    if kind == "payload" and "protocol" in value:
        name = f"{value['protocol']} {value['field']}"
        protocol = packet.get("meta l4proto")
        if value["protocol"] in {"tcp", "udp", "icmp", "icmpv6"} - {protocol} and protocol:
            return match.get("op") == "!=" and None
    elif kind in {"meta", "ct"}:
        name = f"{kind} {value['key']}"
    else:
        return None
    if name not in packet:
        return None
    held = _is_in(packet[name], match["right"])
    if held is None or match.get("op", "==") in {"==", "in"}:
        return held
    return not held if match["op"] == "!=" else None


def _is_in(value: str | int, right: Any) -> bool | None:
    if isinstance(right, list):
        right = {"set": right}
    if isinstance(right, dict):
        if "range" in right and isinstance(value, int):
            low, high = right["range"]
            return isinstance(low, int) and isinstance(high, int) and low <= value <= high
        if "set" not in right:
            return None
        found = [_is_in(value, each) for each in right["set"]]
        return True if True in found else (None if None in found else False)
    if isinstance(right, str) and right.startswith("@"):
        return None
    if value == OUTSIDE:
        return False if right == "lo" else None
    if isinstance(right, str) and right.endswith("*"):
        return str(value).startswith(right[:-1])
    if isinstance(value, int) and isinstance(right, str):
        return None  # the name of a service
    return bool(value == right)
