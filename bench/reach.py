"""`scripts/bench reach`: what it costs to reach machines with clan, against plain programs.

Ratios and differences are taken pair by pair: both sides run right after each other.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.harness.clans import large
from bench.harness.figures import difference, exponent, ratio
from bench.harness.ground import CLAN, PYTHON
from bench.harness.home import AWAY, HOME, Home, home, login
from bench.harness.row import Bench, BenchError, Bound, Measure, Row, Sample, Unit
from clan.lab.config import ADMIN

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bench.harness.ground import Ground
    from bench.harness.run import Run

NOTHING = (str(PYTHON), "-c", "pass")
MACHINES, SIZES = 100, (1000, 3000, 10000)
LOGIN_LIMIT = 10.0
"""Seconds after which whoever logs in in a loop gives one up and begins the next."""
MOVE_LIMIT = 60.0
"""Seconds after a move without a login, at which that is not measured but a failure."""
PHASE = 0.618
"""Of a login, by which the next move is later in it: moves come in all phases of a login."""


def start(ground: Ground) -> Measure:
    """Time `clan --help` against a Python that does nothing."""

    def measure() -> Sample:
        of = {"clan --help": ground.time([str(CLAN), "--help"]), "python": ground.time(NOTHING)}
        return Sample(value=ratio(of), seconds=of)

    return measure


def networks(ground: Ground) -> Measure:
    """Time `clan network list` in a large clan against a Python that does nothing."""
    folder = ground.folder / "large"
    folder.mkdir()
    (folder / "clan.toml").write_text(large(MACHINES))
    argv = [str(CLAN), "--clan", str(folder), "network", "list"]

    def measure() -> Sample:
        of = {"clan network list": ground.time(argv), "python": ground.time(NOTHING)}
        return Sample(value=ratio(of), seconds=of)

    return measure


def shell(ground: Ground) -> Measure:
    """Time `clan ssh` against ssh, on the same path."""
    at = ground.once(home)
    clan, plain = login(at.clan, "true"), [*at.ssh, "true"]
    at.place.time(clan)

    def measure() -> Sample:
        of = {"clan ssh": at.place.time(clan), "ssh": at.place.time(plain)}
        return Sample(value=ratio(of), seconds=of)

    return measure


def dead_networks(ground: Ground) -> Measure:
    """Time a first `clan ssh` past three networks that swallow everything, against `shell`'s."""
    at = ground.once(home)
    dark, clan = login(at.dark_clan, "true"), login(at.clan, "true")
    at.place.time(dark)

    def measure() -> Sample:
        with nothing_remembered(at) as state:
            of = {
                "clan ssh past dead networks": at.place.time(dark, more={"XDG_STATE_HOME": state}),
                "clan ssh": at.place.time(clan),
            }
        return Sample(value=difference(of), seconds=of)

    return measure


def remembered(ground: Ground) -> Measure:
    """Time the second `clan ssh` past the same networks, against `shell`'s."""
    at = ground.once(home)
    dark, clan = login(at.dark_clan, "true"), login(at.clan, "true")
    at.place.time(clan)

    def measure() -> Sample:
        with nothing_remembered(at) as state:
            at.place.time(dark, more={"XDG_STATE_HOME": state})
            of = {
                "clan ssh past dead networks": at.place.time(dark, more={"XDG_STATE_HOME": state}),
                "clan ssh": at.place.time(clan),
            }
        return Sample(value=difference(of), seconds=of)

    return measure


def nothing_remembered(at: Home) -> AbstractContextManager[str]:
    """Return a state folder of no earlier login, for XDG_STATE_HOME."""
    return tempfile.TemporaryDirectory(prefix="state-", dir=at.folder)


def moving(ground: Ground) -> Measure:
    """Time how long after a move of the admin a loop of logins succeeds, from the other place.

    The clock starts when the move does. It stops at the end of the first login that the machine
    saw come from elsewhere than those before the move: its connection was made after it.
    """
    at = ground.once(home)
    moves = itertools.cycle([AWAY, HOME])
    phases = (number * PHASE % 1 for number in itertools.count())

    def measure() -> Sample:
        with nothing_remembered(at) as state, ThreadPoolExecutor(max_workers=1) as pool:
            before = log_in(at, state)
            if before.status != 0:
                raise BenchError(f"clan ssh reaches nothing before a move: {before.errors}")
            elsewhere = pool.submit(logged_in_from_elsewhere, at, state, seen_from(before))
            time.sleep(before.seconds * (1 + next(phases)))
            moved = time.monotonic()
            at.lab.move(ADMIN, next(moves))
            seconds = elsewhere.result().ended - moved
        return Sample(value=seconds)

    return measure


def log_in(at: Home, state: str) -> Run:
    """Log in once, asking the machine where the login comes from."""
    argv = login(at.clan, "echo $SSH_CONNECTION")
    return at.place.run(argv, more={"XDG_STATE_HOME": state}, limit=LOGIN_LIMIT)


def seen_from(done: Run) -> str | None:
    """Return the address that a login came from, as the machine saw it; None when it failed."""
    return done.output.split()[0] if done.status == 0 else None


def logged_in_from_elsewhere(at: Home, state: str, before: str | None) -> Run:
    """Log in again and again; return the first login from another address than `before`."""
    deadline = time.monotonic() + MOVE_LIMIT
    while time.monotonic() < deadline:
        done = log_in(at, state)
        if seen_from(done) not in {None, before}:
            return done
    raise BenchError(f"no login in {MOVE_LIMIT:g} s after a move: {done.errors.strip()}")


def growth(ground: Ground) -> Measure:
    """Time `resolve` of clans of three sizes; fit the exponent.

    It is this process's time on a processor: resolving waits for nothing, and three sizes one after
    the other do not meet the same neighbours on a busy computer.
    """
    from clan.inventory.load import load_bytes
    from clan.inventory.registry import Registry
    from clan.inventory.resolve import resolve

    file = ground.folder / "clan.toml"
    inventories = {size: load_bytes(file, "toml", large(size).encode()) for size in SIZES}

    def measure() -> Sample:
        of = {}
        for size, inventory in inventories.items():
            begun = time.process_time()
            resolve(inventory, Registry(ground.folder))
            of[f"{size} machines"] = time.process_time() - begun
        return Sample(value=exponent(list(zip(SIZES, of.values(), strict=True))), seconds=of)

    measure()
    return measure


BENCH = Bench(
    title="reaching machines",
    rows=(
        Row(
            name="start",
            what="clan --help against a Python that does nothing",
            unit=Unit.TIMES,
            bound=Bound(limit=6),
            prepare=start,
            samples=5,
        ),
        Row(
            name="list",
            what="clan network list, 100 machines on 10 networks, against the same",
            unit=Unit.TIMES,
            bound=Bound(limit=20),
            prepare=networks,
            samples=3,
        ),
        Row(
            name="shell",
            what="clan ssh against ssh on the same path",
            unit=Unit.TIMES,
            bound=Bound(limit=1.8),
            prepare=shell,
            samples=3,
            needs_root=True,
        ),
        Row(
            name="dead networks",
            what="what three silent networks before all others add to a first clan ssh",
            unit=Unit.SECONDS,
            bound=Bound(limit=1.0),
            prepare=dead_networks,
            samples=2,
            needs_root=True,
        ),
        Row(
            name="remembered",
            what="what the same networks add to the second clan ssh",
            unit=Unit.SECONDS,
            bound=Bound(limit=0.1),
            prepare=remembered,
            samples=2,
            needs_root=True,
        ),
        Row(
            name="moving",
            what="from a move of the admin's computer to the next clan ssh that succeeds",
            unit=Unit.SECONDS,
            bound=Bound(limit=2.0),
            prepare=moving,
            samples=2,
            needs_root=True,
        ),
        Row(
            name="growth",
            what="resolve at 1,000, 3,000 and 10,000 machines: the k of time = c * machines^k",
            unit=Unit.EXPONENT,
            bound=Bound(limit=1.1),
            prepare=growth,
            samples=2,
        ),
    ),
)
