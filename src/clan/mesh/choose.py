"""Which link is best, whether the path is to be left, and when one may go back.

Pure judgements about the links of one pair. There are two kinds. A path that is *lost* is left by
whichever end finds out, at once, and for a link that has since been proved to live. A path that is
merely *worse* is left by one of the two ends only, the one whose name is lower: two ends that see a
little differently would otherwise move each other to and fro.

The cost of a link is the seconds that a packet and its answer take on it, plus the seconds that a
sender waits for a lost one times how often that happens, plus what its kind and either end's
circumstances add.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from clan.mesh import measure
from clan.mesh.link import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from clan.mesh.exchange import Desired
    from clan.mesh.link import LinkId
    from clan.mesh.pair import Standing

KIND_COST = {
    Kind.LAN: 0.0,
    Kind.INTERNET: 0.015,
    Kind.RELAY: 0.03,
    Kind.OVERLAY: 0.04,
    Kind.TLS: 0.08,
    Kind.HOPS: 0.12,
}
"""Seconds: what each kind costs beyond its round trip, in others' bandwidth, processor time, or a
tunnel in a tunnel. The LAN comes first whatever router hairpins faster."""
METERED_COST = 1.0
AVOID_COST = 60.0
NARROW_COST = 5.0
"""Seconds for a link on which large packets vanish: pings pass and nothing else does."""
LOSS_COST = 1.0
"""Seconds that a sender waits for a lost packet: TCP's first retransmission timeout (RFC 6298)."""
CUT_COST = 0.15
"""Seconds for a link whose largest packets are sent in pieces: such a link comes after all others,
as losing one piece loses the packet, and many networks drop pieces."""
LEAVING_COST = 30.0
"""Seconds for a link one of whose ends has another interface in its place: any other comes first
that need not be left, and packets go on by it for as long as there is none."""
SHARED_COST = 0.05
"""Seconds that sharing an uplink with a lost path counts against a link."""

LEAST_SILENCE = 0.2
"""Seconds of silence below which no path is left: a stall that short (a Wi-Fi scan, a scheduler) is
cheaper to sit out than to move."""
LUCK = 5e-4
"""How likely it may be that the path and the link that beats it lose alike: about seven probes."""
SETTLE = 0.03
"""Seconds that a proof against the path may wait for the path's own packets: a peer that was busy
answers on one link a moment before the other."""
DEAF_SILENCE = 0.5
"""Seconds without an answer after which a path that is still heard is deaf towards the peer."""
LONG_SILENCE = 2 * measure.LOST_AFTER
"""Seconds without an answer after which also those probes are proof that are counted as lost."""

LEAST_ROUNDS = 4
LEAST_GAIN = 0.010
"""Seconds by which another link must be better, at least."""
GAIN_SHARE = 0.2
"""The same, as a share of what the path costs."""
SCATTER = 6.0
"""Median deviations, by the root of the number of rounds, that a difference may be mere chance:
about three standard errors."""
FIRST_HOLD = 5.0
"""Seconds that a link that was lost once must live until one goes back; doubles with each loss."""
LONGEST_HOLD = 600.0
FORGIVEN_AFTER = 900.0
"""Seconds after which a loss counts no more."""


def penalty(standing: Standing, desired: Desired) -> float:
    """Return what this machine's circumstances add to a link's cost: the peer is told."""
    uplink = desired.uplinks.get(standing.link.slot.uplink)
    return (
        (METERED_COST if uplink and uplink.metered else 0.0)
        + (AVOID_COST if standing.link.slot.uplink in desired.avoid else 0.0)
        + (CUT_COST if standing.link.cut else 0.0)
        + (LEAVING_COST if standing.link.leaving else 0.0)
    )


def fixed_cost(standing: Standing, desired: Desired) -> float:
    """Return the part of a link's cost that is not measured round by round."""
    theirs = standing.about.penalty if standing.about else 0.0
    narrow = NARROW_COST if standing.width.narrow else 0.0
    return KIND_COST[standing.link.slot.kind] + penalty(standing, desired) + theirs + narrow


def cost(standing: Standing, desired: Desired) -> float:
    """Return the cost of a link in seconds; a guess where it was never measured."""
    health = standing.health
    trip = measure.FIRST_GUESS if health.round_trip is None else health.round_trip
    return trip + health.loss * LOSS_COST + fixed_cost(standing, desired)


def usable(standing: Standing, desired: Desired, down: Collection[str]) -> bool:
    """Return whether a link's uplink is there and works, as far as either end knows."""
    uplink = standing.link.slot.uplink
    told = standing.about is None or standing.about.usable
    return uplink in desired.uplinks and uplink not in down and told


def is_straight(standing: Standing) -> bool:
    """Return whether a link leads to the peer with nobody in between."""
    return standing.link.slot.kind in {Kind.LAN, Kind.INTERNET}


def is_detour(standings: Collection[Standing]) -> bool:
    """Return whether no link leads straight to the peer, though one over the internet might."""
    straight = any(s.alive_since is not None for s in standings if is_straight(s))
    return not straight and any(s.link.slot.kind is Kind.INTERNET for s in standings)


def shares(one: Standing, other: Standing) -> bool:
    """Return whether two links go over one uplink, here or there; ways over others may do."""
    if Kind.HOPS in {one.link.slot.kind, other.link.slot.kind}:
        return True
    there = one.link.their_uplink
    return one.link.slot.uplink == other.link.slot.uplink or (
        bool(there) and there == other.link.their_uplink
    )


def order(standings: Iterable[Standing], desired: Desired) -> list[Standing]:
    """Return links by what is known: those that live first, then the cheaper; ids break ties."""
    return sorted(
        standings,
        key=lambda s: (s.alive_since is None, cost(s, desired), s.link.id),
    )


def beats(path: Standing, other: Standing, *, floor: float, now: float) -> str:
    """Return why `other` shows that the path does not work, in words; empty if it does not show it.

    It does when so many of the path's probes are missing that it cannot be bad luck, each was sent
    before one that `other` has answered, and `other` fares better in the same time beyond chance.
    Two links in one congested queue keep their order in it, so the path's answers would have come
    first: however slow both are, that is no proof.
    """
    proof, health = other.health.proof, path.health
    silent = [f for f in measure.overdue(health, floor=floor, now=now) if f.sent <= proof]
    if (
        silent
        and len(silent) >= measure.needed(health)
        and _luck(len(silent), silent[0].sent, other) <= LUCK
    ):
        since = max(health.heard, floor, silent[0].sent)
        if now - since >= LEAST_SILENCE:
            return (
                f"nothing heard for {(now - since) * 1000:.0f} ms and {len(silent)} probes missing "
                f"at {health.loss:.0%} loss, while {other.link.id} answered a later one"
            )
    deaf = [f for f in measure.unanswered(health, floor=floor, now=now) if f.sent <= proof]
    if (
        deaf
        and len(deaf) >= measure.needed(health)
        and now - deaf[0].sent >= DEAF_SILENCE
        and _luck(len(deaf), deaf[0].sent, other) <= LUCK
    ):
        return (
            f"heard, but {len(deaf)} probes in a row are not answered, while {other.link.id} "
            "answered a later one"
        )
    # Where probes are rare, or answers are late, those that could prove it are counted as lost.
    since = max(health.proof, floor)
    missing = health.missed + len(deaf)
    if (
        health.missed
        and missing >= measure.needed(health)
        and now - since >= LONG_SILENCE
        and _luck(missing, since, other) <= LUCK
    ):
        return (
            f"{missing} probes in a row are not answered in {now - since:.0f} s, while "
            f"{other.link.id} answered a later one"
        )
    return ""


def _luck(missing: int, since: float, other: Standing) -> float:
    """Return the chance that both links lose alike, by what was sent from then on."""
    health = other.health
    answered = sum(sent >= since for sent in health.proofs)
    lost = sum(since <= f.sent <= health.proof and not f.size for f in health.flying)
    return measure.luck(missing, answered, lost)


def refuge(path: Standing, others: Iterable[Standing], desired: Desired) -> Standing | None:
    """Return the best of the links that a lost path may be left for."""
    return min(
        others,
        key=lambda s: (
            cost(s, desired) + (SHARED_COST if shares(path, s) else 0.0),
            s.link.id,
        ),
        default=None,
    )


def hold(standing: Standing, now: float) -> float:
    """Return the seconds that a link must have lived until one goes to it."""
    if not standing.failures or now - standing.failed_at > FORGIVEN_AFTER:
        return 0.0
    return min(LONGEST_HOLD, FIRST_HOLD * 2.0 ** min(standing.failures - 1, 16))


def better(path: Standing, other: Standing, desired: Desired, now: float) -> str:
    """Return why `other` is better than a path that works, in words; empty if it is not.

    Only rounds in which both were asked in the same moment are compared, pair by pair, so a queue
    that both go through cancels out. The middle of the differences must be a clear gain and three
    of four must agree; only what is beyond their scatter counts for the other, so that of two equal
    links on a busy machine none is better. Of losses only those count that one of the two had alone
    (McNemar's test), and only beyond four standard deviations.
    """
    # What was lost now and then is better than what only pings pass: no stable time is waited for.
    least = 0.0 if path.width.narrow else hold(other, now)
    if other.alive_since is None or now - other.alive_since < least:
        return ""
    rounds = list(measure.common_rounds(path.health, other.health))
    if len(rounds) < LEAST_ROUNDS:
        return ""
    fixed = fixed_cost(path, desired) - fixed_cost(other, desired)
    gains = [a - b for a, b in rounds if a is not None and b is not None]
    lost = sum(a is None and b is not None for a, b in rounds)
    lost_there = sum(b is None and a is not None for a, b in rounds)
    missing = lost - lost_there
    clear = missing != 0 and abs(missing) >= 4 * math.sqrt(lost + lost_there)
    middle = statistics.median(gains) if gains else 0.0
    gain = (
        fixed
        + min(middle, max(0.0, middle - _scatter(gains)))
        + (LOSS_COST * missing / len(rounds) if clear else 0.0)
    )
    needed = max(LEAST_GAIN, GAIN_SHARE * cost(path, desired))
    agree = sum(fixed + g > 0 for g in gains) >= 0.75 * len(gains)
    if gain < needed or not (agree or (clear and missing > 0)):
        return ""
    lasting = f", after {now - other.alive_since:.0f} s without a loss" if other.failures else ""
    return (
        f"{gain * 1000:.0f} ms better in {len(rounds)} rounds "
        f"({middle * 1000:+.0f} ms round trip, {lost} against {lost_there} lost alone, "
        f"{fixed * 1000:+.0f} ms by kind and circumstance){lasting}"
    )


def _scatter(gains: list[float]) -> float:
    """Return by how many seconds the middle of these may be off: some of its standard errors."""
    if not gains:
        return 0.0
    middle = statistics.median(gains)
    spread = statistics.median(abs(each - middle) for each in gains)
    return SCATTER * spread / math.sqrt(len(gains))


def newer(number: int, other: int) -> bool:
    """Return whether a choice's number comes after another's, modulo 2³² (RFC 1982)."""
    if not other:
        return bool(number)
    return bool(number) and 0 < (number - other) % 2**32 < 2**31


def next_number(*numbers: int) -> int:
    """Return a number that comes after all of them; never 0."""
    top = 0
    for number in numbers:
        if newer(number, top):
            top = number
    return (top + 1) % 2**32 or 1


def worth_holding(
    pair_path: LinkId | None, standings: Iterable[Standing], desired: Desired
) -> list[Standing]:
    """Return the path and the best standby.

    That is one straight to the peer where the path is a detour, as who is in between may go; else
    one on an uplink of its own if there is one. A way over other members is no standby: it would
    keep them awake.
    """
    ranked = order(standings, desired)
    path = next((s for s in ranked if s.link.id == pair_path), None)
    if path is None:
        return ranked[:2]
    others = [
        s
        for s in ranked
        if s is not path and s.alive_since is not None and s.link.slot.kind is not Kind.HOPS
    ]
    around = not is_straight(path)
    others.sort(key=lambda s: (around and not is_straight(s), shares(path, s)))
    return [path, *others[:1]]
