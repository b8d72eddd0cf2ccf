"""The mesh over the kernel's WireGuard, in a virtual machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab import vm, writes
from tests.mesh.signers import ROOT, key, machine, record, signed

import clan
from clan.lab import image
from clan.mesh import clock, identity
from clan.mesh.agent import setting
from clan.mesh.chart.content import Content
from clan.mesh.chart.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.mesh.chart.chart import Chart

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
NOTED = 300_000_000
"""What time it was when the machine was on last: in 1979, later by less than can be believed."""
NAMES = ("desk", "laptop")
PROGRAMS = ("mesh", "pair", "kept")
PACKAGES = ("wireguard-tools", "python3-cryptography", "python3-cffi-backend")
BLOCK, BLOCKS = 4096, 16384
"""The file system of its disk; what is behind it are marks."""
MAPS, CUTS, SEED = 10, 75, 1
"""Maps that are taken, and moments at which the disk is looked at."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vm")


@pytest.fixture(scope="module")
def saw(lab_ready: None, scratch: Path) -> dict[str, Any]:
    """Return what the programs saw in the virtual machine."""
    del lab_ready
    files = {f"opt/{each}.py": (HERE / f"programs/{each}.py").read_bytes() for each in PROGRAMS}
    files["opt/spaces.py"] = (HERE / "spaces.py").read_bytes()
    noted = {"boot": "the one before", "seconds": NOTED}
    files[f"opt/noted/{clock.FILE}"] = json.dumps(noted, separators=(",", ":")).encode()
    top = Path(clan.__file__).parent
    for package in ("machine", "mesh"):
        for file in (top / package).rglob("*.py"):
            files[f"opt/clan/{file.relative_to(top)}"] = file.read_bytes()
    maps = list(charts())
    files |= {f"opt/maps/{number:02}": each.raw for number, each in enumerate(maps)}
    for name in NAMES:
        files |= {f"opt/machines/{name}/{path}": data for path, data in disk_of(name, scratch)}
    pool = image.find().repository / "pool"
    packages = [next(pool.glob(f"{name}_*.deb")) for name in PACKAGES]
    disk = scratch / "disk"
    words = ["mke2fs", "-q", "-t", "ext4", "-b", str(BLOCK)]
    words += ["-E", "lazy_itable_init=0,lazy_journal_init=0", str(disk), str(BLOCKS)]
    subprocess.run(words, check=True)
    os.truncate(disk, BLOCK * (BLOCKS + 1))
    writes.copy(disk, scratch / "made")
    # In one process: emulated, it takes long to import what they have in common.
    command = f"PYTHONPATH=/opt python3 -c 'import {', '.join(PROGRAMS)}' {BLOCK * BLOCKS}"
    try:
        console = vm.run(command, files, packages, scratch, "1970-01-02T00:00:00", disk=disk)
    except vm.NoVmError as missing:
        pytest.skip(str(missing))
    (scratch / "console").write_text(console)
    assert "Traceback" not in console, console[-5000:]
    found: dict[str, Any] = {}
    for line in console.splitlines():
        if line.startswith("SAW "):
            found |= json.loads(line.removeprefix("SAW "))
    return found


def charts() -> Iterator[Chart]:
    """Yield maps that follow each other: in each, both machines have told something new."""
    made: list[Chart] = []
    for serial in range(1, MAPS + 1):
        told = (machine(name, links=record(name, serial)) for name in NAMES)
        made.append(signed(Content(machines=tuple(told)), after=made[-1:]))
        yield made[-1]


def disk_of(name: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what a machine has on its disk before its agent starts for the first time."""
    yield "key", identity.text(key(name).seed).encode()
    yield "etc/clan/mesh/home.json", setting.told(ROOT.public, "/key")
    chart = signed(Content(machines=tuple(map(machine, NAMES))))
    Store(scratch / name, ROOT.public).offer(chart.raw)
    yield "var/lib/clan/mesh/home/map", (scratch / name / "map").read_bytes()


def test_the_kernels_interface_is_what_it_was_told_to_be(saw: dict[str, Any]) -> None:
    assert saw["kind"] == ["wireguard"]
    assert saw["addresses"] == ["fe80::1:0"]
    assert saw["device"] == [51000, 7, True]
    assert saw["peer"] == [True, ["fdcc::2/128", "fe80::2:0/128"], True, True]
    assert saw["wg"] == "51000"


def test_both_links_are_probed_and_a_path_is_switched_without_a_loss(saw: dict[str, Any]) -> None:
    assert saw["answered"] == [True, True]
    answers, lost = saw["lost"]
    assert answers > 20
    assert lost == 0


def test_a_peer_that_is_made_anew_shakes_hands_at_once(saw: dict[str, Any]) -> None:
    assert saw["anew"] == [True, True]


def test_what_does_not_fit_into_one_message_comes_in_several(saw: dict[str, Any]) -> None:
    assert saw["many"] == [1 + 499 + 1, 1000]


def test_it_is_taken_up_again_and_another_ones_is_refused(saw: dict[str, Any]) -> None:
    assert saw["kept"] == [True, False, "EEXIST", "EADDRINUSE", ["clan1"]]


def test_a_clock_that_stands_at_1970_goes_on_where_it_was_at_each_boot_once(
    saw: dict[str, Any],
) -> None:
    before, after, again = saw["boot"]
    assert before < 10 * 86400
    assert NOTED + clock.EVERY <= after < NOTED + clock.EVERY + 600
    assert again < 10 * 86400


def test_agents_talk_over_the_kernels_wireguard_and_go_round_a_cut(saw: dict[str, Any]) -> None:
    assert saw["kinds"] == [["wireguard"], ["wireguard"]]
    before, after, silent = saw["cut"]
    assert {before, after} == {"eth0", "wlan0"}
    assert silent < 30  # emulated, agents always are late


def test_an_agent_that_is_killed_and_starts_again_loses_nothing(saw: dict[str, Any]) -> None:
    lost, is_same = saw["killed"]
    assert not lost
    assert is_same, "all sessions began anew"


def test_an_agent_that_boots_in_1970_is_heard_as_it_goes_on_where_it_was(
    saw: dict[str, Any],
) -> None:
    (begun,) = saw["in 1970"]
    assert begun > 1_800_010_000


def test_an_agent_that_was_in_2099_is_heard_again_though_it_can_call_nobody(
    saw: dict[str, Any],
) -> None:
    assert saw["in 2099"] == [True]


def test_a_cut_of_the_power_leaves_each_file_old_or_new(
    saw: dict[str, Any], scratch: Path, tmp_path: Path
) -> None:
    """What is taken in is there from when that was reported; nothing is ever torn."""
    log, states = scratch / "disk.log", saw["states"]
    found = writes.read(log)
    marks = [number for number, each in enumerate(found, 1) if each.at >= BLOCK * BLOCKS]
    assert len(marks) == len(states) == 2 + 4 * MAPS
    found = found[: marks[-1]]
    begun = writes.flushed(found, found[marks[0] - 1].end)
    disk = writes.Disk(tmp_path / "disk", scratch / "made", log, found)
    wrong, last = [], list(charts())[-1]
    for cut in writes.cuts(found, begun, most=CUTS, seed=SEED):
        disk.as_cut(cut, tmp_path / "cut")
        home = writes.recovered(tmp_path / "cut", tmp_path / "left", ["/home"]) / "home"
        done = max(0, sum(each <= cut.after for each in marks) - 1)
        old, new = states[done], states[min(done + 1, len(states) - 1)]
        for name in old | new:
            data = (home / name).read_bytes() if (home / name).exists() else None
            has = hashlib.sha256(data).hexdigest()[:16] if data is not None else None
            if has not in {old.get(name), new.get(name)}:
                wrong.append(f"after write {cut.after}, step {done}: {name} is {data!r:.40}")
        if Store(home, ROOT.public).offer(last.raw).held.top != last:
            wrong.append(f"after write {cut.after}, step {done}: the next map is not taken")
        shutil.rmtree(home)
    assert not wrong, "\n".join(wrong)
