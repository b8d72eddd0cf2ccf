"""Power that is cut so that unsynced writes are lost, and clocks that are wrong: under QEMU."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.lab import vm, writes
from tests.lab.box import NAME, Box
from tests.lab.office import Wish, service
from tests.lab.test_deaths import SINCE_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

MOMENTS = {
    "as it switches": "switching",
    "while it waits": "waiting",
    "as it is confirmed": "confirmed",
}
"""When the power goes: as an activation says that it is at this step."""

CUTS = 75
"""Moments at which the disk is looked at; an update flushes some forty times."""
SEED = 1
CLOCKS = ("2025-11-02T03:04:05", "2027-12-02T03:04:05")
STATE = "var/lib/clan"
ISSUE = "/etc/issue"
ADMINS = "root/.ssh/authorized_keys"
LINKED = "etc/systemd/system/sysinit.target.wants/clan-boot.service"
OURS = (
    "etc/clan/age.key",
    "etc/systemd/system-generators/clan",
    "etc/systemd/system/clan-boot.service",
    f"{STATE}/machine.pyz",
)
"""What an installation leaves, the same for good."""


PARTS = [
    *("/etc/clan", "/etc/systemd", "/etc/story", "/etc/hosts", ISSUE),
    *("/root/.ssh", "/var/lib/clan"),
]
"""What is looked at."""


def wish(version: str) -> Wish:
    """Want a file, a unit and a name, in a version."""
    unit = service(f"echo {version} && exec sleep infinity")
    return Wish(
        files={"/etc/story/text": f"{version}\n"},
        units={"story-main.service": unit},
        hosts={f"{version}.story": "10.99.99.99"},
    )


@pytest.fixture(scope="module")
def box(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    del lab_ready
    try:
        made = Box(tmp_path_factory.mktemp("box"))
    except vm.NoVmError as missing:
        pytest.skip(str(missing))
    try:
        writes.copy(made.disk, made.folder / "made")
        made.boot(log=made.folder / "log")
        yield made
    finally:
        made.close()


def test_a_cut_at_any_moment_leaves_all_of_the_old_or_of_the_new(box: Box, tmp_path: Path) -> None:
    """Each file is whole, and what was reported as done stays done."""
    log, sizes = box.folder / "log", []
    sizes.append(log.stat().st_size)
    # One of its files stands where the system has one.
    box.wants(replace(wish("first"), files={**wish("first").files, ISSUE: "ours\n"}))
    for command in ("install", "update"):
        (outcome,) = box.clan("machines", command, NAME)
        assert outcome["state"] == "updated", outcome
        sizes.append(log.stat().st_size)
        box.wants(wish("second"))
    found = writes.read(log)
    begun, *done = (writes.flushed(found, size) for size in sizes)
    found = found[: done[-1]]
    disk = writes.Disk(tmp_path / "disk", box.folder / "made", log, found)
    roots = {}
    for cut in [writes.Cut(after=0, settled=0), *writes.cuts(found, begun, most=CUTS, seed=SEED)]:
        disk.as_cut(cut, tmp_path / "cut")
        roots[cut] = writes.recovered(tmp_path / "cut", tmp_path / str(cut.after), PARTS)
    first, *_, last = roots.values()
    wrong = [
        f"after write {cut.after} without {len(cut.lost)}: {fault}"
        for cut, root in roots.items()
        for fault in (
            *lost(root, sum(cut.after >= each for each in done)),
            *torn(root, last),
            *forgotten(root, first),
        )
    ]
    assert not wrong, "\n".join(wrong)
    steps = {(chosen(root, "current"), chosen(root, "confirmed")) for root in roots.values()}
    assert steps == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)}


def lost(root: Path, done: int) -> Iterator[str]:
    """Say what was reported as done and is not: `done` generations were confirmed."""
    if done:
        yield from (f"{path} is lost" for path in OURS if not (root / path).exists())
        if not (root / LINKED).is_symlink():
            yield f"{LINKED} is lost"
    if chosen(root, "confirmed") < done:
        yield f"generation {chosen(root, 'confirmed')} is confirmed"


def torn(root: Path, last: Path) -> Iterator[str]:
    """Say which of our files are there and not whole; `last` has them all."""
    for path in OURS:
        if (root / path).exists() and content(root / path) != content(last / path):
            yield f"{path} has {len(content(root / path))} bytes"
    counts = {*whole_ones(root), chosen(root, "confirmed"), chosen(root, "current")} - {0}
    for number in counts:
        for file in (last / f"{STATE}/generations/{number}").rglob("*"):
            there = root / file.relative_to(last)
            if file.is_file() and content(there) != content(file):
                yield f"{file.relative_to(last)} has {len(content(there))} bytes"


def forgotten(root: Path, first: Path) -> Iterator[str]:
    """Say what is lost of what was there before us, and which links nobody would take away."""
    for path in (ADMINS, "etc/hosts"):
        if not content(root / path).startswith(content(first / path)):
            yield f"/{path} is {content(root / path)!r}"
    place, kept = root / ISSUE[1:], root / STATE / f"displaced{ISSUE}"
    if content(kept if place.is_symlink() else place) != content(first / ISSUE[1:]):
        yield f"{ISSUE} is lost"
    noted = content(root / STATE / "touched.json").decode()
    for path in (ISSUE, "/etc/story/text"):
        if (root / path[1:]).is_symlink() and f'"{path}"' not in noted:
            yield f"{path} is forgotten"


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def chosen(root: Path, which: str) -> int:
    link = root / STATE / which
    return int(link.readlink().name) if link.is_symlink() else 0


def whole_ones(root: Path) -> set[int]:
    """Return the generations that the machine would take for whole ones."""
    return {
        int(manifest.parent.name)
        for manifest in (root / STATE / "generations").glob("*/manifest.json")
        if manifest.parent.name.isdecimal()
    }


@pytest.mark.parametrize("moment", MOMENTS)
def test_power_is_cut(box: Box, moment: str) -> None:
    """It boots what was confirmed before or what was new, whole, and `status` says which."""
    old, new = box.text(), moment.replace(" ", "-")
    box.wants(wish(new))
    with box.watch(MOMENTS[moment]) as come:
        update = box.begin("machines", "update", NAME, "--confirm-timeout", "60")
        come()
    box.cut_power()
    update.terminate()
    update.communicate()
    box.boot()
    found = box.settles()
    assert box.text() in {old, new}
    assert found["state"] == ("up to date" if box.text() == new else "behind")


def test_the_clock_is_a_year_off(box: Box) -> None:
    """It is updated and confirmed as ever; what is not confirmed goes back when it is due."""
    box.cut_power()
    box.boot(CLOCKS[0])
    for clock in CLOCKS:
        # Also where it booted so: systemd raises a clock that is older than itself.
        assert box.ssh(f"date -s {clock}").returncode == 0
        assert box.ssh("date +%Y").stdout.strip() == clock[:4]
        updates_at(box, f"in-{clock[:4]}")


def updates_at(box: Box, new: str) -> None:
    """Update it at whatever time it has, and set its clock right while it waits to be confirmed."""
    box.wants(wish(new))
    (outcome,) = box.clan("machines", "update", NAME)
    assert outcome["state"] == "updated", outcome
    assert box.settles()["state"] == "up to date"
    # The admin's computer has died.
    box.wants(wish("never-confirmed"))
    with box.watch("waiting") as come:
        update = box.begin("machines", "update", NAME, "--confirm-timeout", "25")
        come()
    update.kill()
    update.communicate()
    ended = box.ssh(f"date -s @{time.time():.0f}; timeout 100 python3 -I -", text=SINCE_DEADLINE)
    assert ended.returncode == 0, ended.stderr  # the admin must not have been quicker
    assert float(ended.stdout.split()[-1]) > -1
    assert (box.settles()["state"], box.text()) == ("behind", new)
