"""What is known of one link from its probes: round trip, loss, and how long it has been silent.

Pure. It owns the arithmetic of one link and knows no other: whether silence means that the link is
to be left is for `choose`, which compares.

- Round trip and its variation are those of TCP (RFC 6298), with the time that the answerer held the
  probe taken off.
- Silence is not counted from the last packet but from when the next one was *due*: the answer to a
  probe under way a round trip after it, the peer's next probe when it promised it. So a slow link
  is not late by being slow, and one that is asked more often is doubted sooner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_GUESS = 0.2
"""Seconds of round trip to expect of a link that was never measured."""
LEAST_TOLERANCE = 0.02
"""Seconds that a packet may be late whatever was measured: two busy computers."""
LOST_AFTER = 2.0
"""Seconds after which a probe counts as lost in the statistics: beyond any sane queue."""
LOSS_GAIN = 1 / 32
"""Weight of one probe in the loss: half of it is from the last two seconds of a path."""
MOST_ROUNDS = 64
MOST_PROOFS = 16
MOST_FLYING = 128
SURE = 1e-6
"""How likely it may be that silence is mere bad luck with the loss that was measured."""
LEAST_LOSS, MOST_LOSS = 0.03, 0.6
"""What is assumed at least, as nobody has measured for long enough, and at most, so that a link
that loses nearly everything can be left as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A probe that was sent and not yet answered."""

    sequence: int
    sent: float
    due: float
    """When its answer should come."""
    size: int = 0
    """Of a padded probe: it tells of size alone, and nothing of life."""
    round: int = 0
    """Other links were asked in the same moment under this number; 0 is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All that is known of a link."""

    heard: float = -math.inf
    """When the last authenticated packet came."""
    answered: float = -math.inf
    """When the last answer came."""
    proof: float = -math.inf
    """When the newest probe that was answered had been sent: then it lived both ways."""
    proofs: tuple[float, ...] = ()
    """When the last probes that were answered had been sent."""
    round_trip: float | None = None
    """Smoothed, in seconds."""
    variation: float = 0.0
    """Mean deviation of it, in seconds."""
    loss: float = 0.0
    """Share of probes without an answer, of late."""
    missed: int = 0
    """Probes in a row that were counted as lost, before those still under way."""
    promised: float = math.inf
    """When the peer's next probe is due."""
    promise: float = 0.0
    """Seconds between them; 0 where it promised none."""
    flying: tuple[Flight, ...] = ()
    rounds: tuple[tuple[int, float | None], ...] = ()
    """What came of the last rounds: the round trip, or None where the probe was lost."""


def tolerance(health: Health) -> float:
    """Return by how many seconds a packet on this link may be late and mean nothing."""
    return max(LEAST_TOLERANCE, 4 * health.variation)


def send(health: Health, *, sequence: int, now: float, size: int = 0, number: int = 0) -> Health:
    """Note a probe that is sent now, `number` being its round's."""
    guess = FIRST_GUESS if health.round_trip is None else health.round_trip
    flight = Flight(sequence=sequence, sent=now, due=now + guess, size=size, round=number)
    return replace(health, flying=(*health.flying[-MOST_FLYING + 1 :], flight))


def hear(health: Health, at: float) -> Health:
    """Note any authenticated packet: the link lives, at least towards this machine."""
    return replace(health, heard=max(health.heard, at))


def promise(health: Health, *, at: float, every: float) -> Health:
    """Note a probe of the peer's, and when the next one is due."""
    promised = at + every if every else math.inf
    return replace(health, heard=max(health.heard, at), promised=promised, promise=every)


def release(health: Health) -> Health:
    """Rely no more on a promise that the peer, which lives, has not kept.

    That it would ask less often from then on is one packet, which may be lost. The next question
    that comes promises anew.
    """
    if health.promised > health.heard:
        return health
    return replace(health, promised=math.inf, promise=0.0)


def answer(
    health: Health, *, sequence: int, held: float, at: float
) -> tuple[Health, Flight | None]:
    """Note an answer and return the probe that it answers; None if that is not under way."""
    flight = next((f for f in health.flying if f.sequence == sequence), None)
    if flight is None:
        # So late that it was counted as lost; still, what is asked is answered.
        return replace(hear(health, at), missed=0), None
    flying = tuple(f for f in health.flying if f is not flight)
    heard, answered = max(health.heard, at), max(health.answered, at)
    proof = max(health.proof, flight.sent)
    if flight.size:
        return replace(health, heard=heard, flying=flying, answered=answered, proof=proof), flight
    sample = max(0.0, at - flight.sent - held)
    if health.round_trip is None:
        trip, variation = sample, sample / 2
    else:
        variation = health.variation * 3 / 4 + abs(health.round_trip - sample) / 4
        trip = health.round_trip * 7 / 8 + sample / 8
    # At once, as each copy of a health costs: this is done for every answer.
    return replace(
        health,
        heard=heard,
        flying=flying,
        answered=answered,
        proof=proof,
        proofs=(*health.proofs[-MOST_PROOFS + 1 :], flight.sent),
        round_trip=trip,
        variation=variation,
        loss=health.loss * (1 - LOSS_GAIN),
        missed=0,
        rounds=_with_round(health, flight, sample),
    ), flight


def forget_overdue(health: Health, now: float) -> tuple[Health, tuple[Flight, ...]]:
    """Count probes that are not answered any more as lost, and return them."""
    if not health.flying or health.flying[0].sent + LOST_AFTER > now:
        return health, ()
    over = tuple(f for f in health.flying if f.sent + LOST_AFTER <= now)
    flying = tuple(f for f in health.flying if f.sent + LOST_AFTER > now)
    for flight in over:
        if flight.size:
            continue
        health = replace(
            health,
            loss=health.loss * (1 - LOSS_GAIN) + LOSS_GAIN,
            missed=health.missed + 1,
            rounds=_with_round(health, flight, None),
        )
    return replace(health, flying=flying), over


def revive(health: Health) -> Health:
    """Return what is left of a link's statistics when it comes back after being lost.

    What it lost while it was away says nothing about how often it loses a packet.
    """
    return replace(health, loss=0.0, missed=0, rounds=())


def overdue(health: Health, *, floor: float, now: float) -> list[Flight]:
    """Return the probes whose answer is late although nothing else came since it was due.

    What was due before `floor` does not count: this machine was not attentive then.
    """
    since, late = max(health.heard, floor), now - tolerance(health)
    return [f for f in health.flying if not f.size and since <= f.due <= late]


def unanswered(health: Health, *, floor: float, now: float) -> list[Flight]:
    """Return the probes since the last that was answered whose answer is late.

    Other packets may have come since: then the link is deaf towards the peer.
    """
    since, late = max(health.proof, floor), now - tolerance(health)
    return [f for f in health.flying if not f.size and f.sent > since and f.due <= late]


def doubtful_at(health: Health, *, floor: float) -> float:
    """Return when two packets in a row will be missing if none comes, or infinity.

    One is missing often, by loss alone. Two are cheap to doubt: doubt only asks more.
    """
    since = max(health.heard, floor)
    slack = tolerance(health)
    late = [f.due + slack for f in health.flying if not f.size and f.due >= since]
    if health.promise:
        slack += health.promise / 8
        due = health.promised
        if due < since:
            due += math.ceil((since - due) / health.promise) * health.promise
        late += [due + slack, due + health.promise + slack]
    late.sort()
    return late[1] if len(late) > 1 else math.inf


def needed(health: Health, sure: float = SURE) -> int:
    """Return how many probes in a row must be missing until bad luck is as unlikely as `sure`.

    By what the link lost before: those in a row that are counted as lost say nothing of that.
    """
    before = 1 - (1 - health.loss) / (1 - LOSS_GAIN) ** health.missed
    loss = min(MOST_LOSS, max(LEAST_LOSS, before))
    return math.ceil(math.log(sure) / math.log(loss))


def luck(missing: int, answered: int, lost: int) -> float:
    """Return how likely it is that two links lose alike, and one all of its probes by bad luck.

    It lost all of `missing`, the other `lost` beside `answered`. This is Fisher's exact test: the
    share of the ways to deal so many losses among all those probes in which the one gets no answer.
    It needs no idea of how much either loses, so it also holds in the second in which a queue
    overflows, when nine of ten packets are dropped on both.
    """
    there = answered + lost
    return math.comb(there, answered) / math.comb(missing + there, answered)


def common_rounds(one: Health, other: Health) -> Iterator[tuple[float | None, float | None]]:
    """Yield what came of the rounds in which both links were asked, the oldest first."""
    there = dict(other.rounds)
    for number, result in one.rounds:
        if number in there:
            yield result, there[number]


def _with_round(
    health: Health, flight: Flight, result: float | None
) -> tuple[tuple[int, float | None], ...]:
    if not flight.round:
        return health.rounds
    return tuple(sorted({**dict(health.rounds), flight.round: result}.items()))[-MOST_ROUNDS:]
