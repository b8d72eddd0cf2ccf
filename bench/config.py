"""`scripts/bench config`: what it costs to configure machines, against loops over ssh.

Ratios are taken pair by pair: both sides run right after each other.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from typing import TYPE_CHECKING

from bench.harness.clans import large
from bench.harness.figures import ratio
from bench.harness.fleet import COPY, MACHINES, MODULE, PATIENCE, TRUE, WATCH, fleet
from bench.harness.row import Bench, BenchError, Bound, Measure, Row, Sample, Unit

if TYPE_CHECKING:
    from pathlib import Path

    from bench.harness.ground import Ground

SIZES = (10000, 1000)
TURNS, PLANS = 20, 250
"""How often each size has its turn in a sample, and how many plans it makes then."""
APART = "apart"
OWN = f"""
[machines.{APART}]
[instances.own]
module.name = "served"
roles.default.machines.{APART}.settings.text = "apart"
"""
PLAIN_UNIT = """\
# {text}
[Service]
ExecStart=/bin/sh -c 'exec sleep infinity'
Type=exec
RemainAfterExit=yes
"""
CUT = "ip link set host0 down"
TIMEOUT = 5
"""Seconds for the confirmation that does not come: the least that `update` takes."""


def changed(ground: Ground) -> Measure:
    """Time an update of all machines, one changed file and unit, against a loop that copies it."""
    at = ground.once(fleet)
    tree = ground.folder / "tree"
    versions = (f"version {number}\n" for number in itertools.count())

    def measure() -> Sample:
        version = next(versions)
        at.wants(version)
        lay(tree, version)
        of = {"update": at.update("updated").seconds, "loop over ssh": at.loop(COPY, tree)}
        return Sample(value=ratio(of), seconds=of)

    measure()
    return measure


def lay(tree: Path, text: str) -> None:
    """Write what the loop copies: the same file and unit, at places of their own."""
    contents = {
        "etc/plain/text": text,
        "etc/systemd/system/plain.service": PLAIN_UNIT.format(text=text.strip()),
    }
    for name, content in contents.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def unchanged(ground: Ground) -> Measure:
    """Time an update that finds nothing to do against a loop of `ssh true`."""
    at = ground.once(fleet)

    def measure() -> Sample:
        of = {"update": at.update("unchanged").seconds, "ssh true": at.loop(TRUE)}
        return Sample(value=ratio(of), seconds=of)

    return measure


def planning(ground: Ground) -> Measure:
    """Time `plan` for a machine with a service of its own, in clans of two sizes.

    It is this process's time on a processor, and the sizes take short turns: what else the computer
    does hurts both alike.
    """
    from clan.inventory.open import open_clan
    from clan.plan.build import plan
    from clan.vars.store import Store

    clans = {}
    for size in SIZES:
        folder = ground.folder / f"plan-{size}"
        (folder / "modules").mkdir(parents=True)
        (folder / "modules/served.py").write_text(MODULE)
        (folder / "clan.toml").write_text(large(size) + OWN)
        clans[f"{size} machines"] = open_clan(folder / "clan.toml")
    values = Store.of(ground.folder, ground.environment())

    def measure() -> Sample:
        spent = dict.fromkeys(clans, 0.0)
        for _ in range(TURNS):
            for label, clan in clans.items():
                begun = time.process_time()
                for _ in range(PLANS):
                    plan(clan, APART, values)
                spent[label] += time.process_time() - begun
        return Sample(value=ratio(spent), seconds=spent)

    measure()
    return measure


def going_back(ground: Ground) -> Measure:
    """Time how long after its timer a machine that cut itself off has the old generation back.

    The clock starts when systemd says that the timer is due, and stops when the activation has
    ended: the old generation is chosen, and its files, units and network are back.
    """
    at = ground.once(fleet)
    machine, *_ = MACHINES

    def measure() -> Sample:
        before = (at.lab.clan_dir / "clan.toml").read_text()
        watch = subprocess.Popen(
            at.lab.command_on(machine, ["python3", "-I", "-c", WATCH.read_text(), str(PATIENCE)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if watch.stdout is None or watch.stdout.readline() != "ready\n":
                raise BenchError(f"{machine} cannot be watched: {watch.communicate()[1]}")
            at.wants("cut off", **{machine: CUT})
            at.update("rolled back", machine, "--confirm-timeout", str(TIMEOUT))
            output, errors = watch.communicate()
        finally:
            (at.lab.clan_dir / "clan.toml").write_text(before)
            watch.kill()
            watch.wait()
        if watch.returncode != 0:
            raise BenchError(f"{machine} does not go back: {errors}")
        seen: dict[str, float] = json.loads(output)
        of = {"chosen again": seen["chosen"], "all of it back": seen["ended"]}
        return Sample(value=seen["ended"], seconds=of)

    return measure


BENCH = Bench(
    title="configuring machines",
    rows=(
        Row(
            name="changed",
            what="update of 20 machines, one changed file and unit, against a loop that copies it",
            unit=Unit.TIMES,
            bound=Bound(limit=2),
            prepare=changed,
            samples=2,
            needs_root=True,
        ),
        Row(
            name="unchanged",
            what="update of 20 machines with nothing to do, against a loop of ssh true",
            unit=Unit.TIMES,
            bound=Bound(limit=1.5),
            prepare=unchanged,
            samples=3,
            needs_root=True,
        ),
        Row(
            name="plan",
            what="plan for a machine of its own, among 10,000 machines against among 1,000",
            unit=Unit.TIMES,
            bound=Bound(limit=1.2),
            prepare=planning,
            samples=3,
        ),
        Row(
            name="going back",
            what="from the confirm timeout until a machine cut off has its old generation back",
            unit=Unit.SECONDS,
            bound=Bound(limit=2),
            prepare=going_back,
            needs_root=True,
        ),
    ),
)
