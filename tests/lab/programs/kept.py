"""Keeps on a disk what the mesh keeps there, over and over, and prints what that was as JSON.

After each step a sector behind the file system is written, past all memory of the kernel's: so the
log of what reached the disk says what had been reported as done by then.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clan.mesh import clock, identity, slots
from clan.mesh.agent import setting
from clan.mesh.chart.store import Store
from clan.mesh.link import Kind, Slot
from clan.mesh.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK, PLACE = "/dev/nvme0n1", Path("/disk")
FOLDER = PLACE / "home"
BEHIND = int(sys.argv[1])
"""Where the file system ends, in bytes."""
ROOT = setting.read("home", next(iter(Path("/opt/machines").iterdir()))).root
# An ext4 that puts nothing in order by itself.
MOUNT = ("mount", "-t", "ext4", "-o", "data=writeback,noauto_da_alloc", DISK, str(PLACE))


def steps() -> Iterator[None]:
    """Keep one thing at a time."""
    identity.born(FOLDER / "key")
    yield
    store, records = Store(FOLDER, ROOT), Records(FOLDER / "records")
    notes, known = clock.Notes(FOLDER), slots.load(FOLDER / "slots")
    for number, chart in enumerate(sorted(Path("/opt/maps").iterdir()), 1):
        held = store.offer(chart.read_bytes()).held
        yield
        records.take_all(held.view.content.machines)
        records.keep(held.view.content.identities)
        yield
        uplinks = [Slot(uplink=f"eth{each}", family=6, kind=Kind.LAN) for each in range(number)]
        known = slots.settle(known, uplinks, slots.drawn(), today=int(time.time()))
        slots.keep(FOLDER / "slots", known)
        yield
        time.clock_settime(time.CLOCK_REALTIME, time.time() + clock.EVERY)
        notes.turn(time.monotonic() + number * clock.EVERY)
        yield


def state() -> dict[str, str]:
    """Return what there is, by the files' names."""
    files = sorted(each for each in FOLDER.iterdir() if each.name != "lock")
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest()[:16] for each in files}


def main() -> None:
    PLACE.mkdir()
    subprocess.run(MOUNT, check=True)
    FOLDER.mkdir()
    os.sync()
    device = os.open(DISK, os.O_WRONLY | os.O_DIRECT)
    page = mmap.mmap(-1, mmap.PAGESIZE)
    os.pwrite(device, page, BEHIND)
    states = [state()]
    for _ in steps():
        os.pwrite(device, page, BEHIND)
        states.append(state())
    sys.stdout.write(f"SAW {json.dumps({'states': states})}\n")


main()
