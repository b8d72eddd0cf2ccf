"""From nothing to a lab and back to nothing, whatever happens on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clan.errors import LabError
from clan.lab import schema
from clan.lab.lab import Lab, down
from clan.lab.processes import hierarchies
from clan.lab.status import observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.conftest import Ask, Labs

pytestmark = pytest.mark.lab

SMALL = """
[sites]
home = { router = { delay = "5ms", nat = "cgnat" } }
hosting = { router = { nat = "none" } }
[machines]
nas = { site = "home" }
vps = { site = "hosting", address = "203.0.113.10" }
[admin]
site = "home"
[names]
"vpn.example.com" = "vps"
"""


def clan(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "clan", "--clan", str(folder), "lab", *words]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What of a lab shows on the computer."""

    namespaces: frozenset[str]
    mounts: frozenset[str]
    links: str
    groups: frozenset[str]
    files: frozenset[str]
    processes: frozenset[str]


def traces(lab_name: str) -> Traces:
    """Look for anything that has the lab's name, and for what has none: links."""
    netns = Path("/run/netns")
    folders = (netns, Path("/run/clan-lab"), Path("/var/lib/clan-lab"))
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    links = subprocess.run(["ip", "-o", "-br", "link"], capture_output=True, text=True, check=True)
    return Traces(
        namespaces=frozenset(str(p) for p in netns.glob("*") if lab_name in p.name),
        mounts=frozenset(mount for mount in mounts if lab_name in mount),
        links=links.stdout,
        groups=frozenset(
            str(p) for top in hierarchies() for p in top.glob("*") if lab_name in p.name
        ),
        files=frozenset(str(p) for d in folders for p in d.glob("*") if lab_name in p.name),
        processes=frozenset(command for command in commands() if lab_name in command),
    )


def commands() -> list[str]:
    """Return the command lines, environments and folders of all processes but this one's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            found.append(
                f"{process.name} {(process / 'cmdline').read_text()} {(process / 'cwd').readlink()}"
            )
        except OSError:
            continue  # it ended meanwhile
    return found


def test_up_twice_is_harmless_and_down_leaves_nothing(lab_name: str, tmp_path: Path) -> None:
    before = traces(lab_name)
    assert before.files == frozenset()
    config = schema.parse(tomllib.loads(SMALL))
    lab = Lab.up(config, name=lab_name, clan_dir=tmp_path)
    leaders = [unit.leader() for unit in lab.units()]
    assert None not in leaders
    again = Lab.up(config, name=lab_name, clan_dir=tmp_path)
    assert [unit.leader() for unit in again.units()] == leaders
    assert traces(lab_name).processes
    # What was started at the admin's place and left behind goes too, as ssh's masters would.
    lab.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 &"])
    lab.down()
    assert traces(lab_name) == before
    lab.down()
    with pytest.raises(LabError, match="is not up"):
        Lab.open(lab_name)


def test_up_starts_a_machine_that_was_switched_off(lab_name: str, tmp_path: Path) -> None:
    config = schema.parse(tomllib.loads(SMALL))
    with Lab.up(config, name=lab_name, clan_dir=tmp_path) as lab:
        lab.exec("vps", ["touch", "/root/kept"])
        lab.exec("vps", ["systemctl", "poweroff"], check=False)
        deadline = time.monotonic() + 20
        while lab.unit("vps").leader() is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert {m.name: m.state for m in observe(lab).machines}["vps"] == "stopped"
        with pytest.raises(LabError, match="is not running"):
            lab.exec("vps", ["true"])
        Lab.up(config, name=lab_name, clan_dir=tmp_path)
        lab.exec("vps", ["test", "-e", "/root/kept"])


def test_another_configuration_needs_down_first(lab_name: str, tmp_path: Path) -> None:
    config = schema.parse(tomllib.loads(SMALL))
    other = schema.parse(tomllib.loads(SMALL.replace("5ms", "6ms")))
    with Lab.up(config, name=lab_name, clan_dir=tmp_path):
        with pytest.raises(LabError, match="is up with another") as caught:
            Lab.up(other, name=lab_name, clan_dir=tmp_path)
        assert caught.value.hint == "take it down first: `clan lab down`"


def test_a_machine_that_cannot_boot_leaves_nothing_behind(
    lab_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = traces(lab_name)
    monkeypatch.setattr("clan.lab.lab._BOOT_PATIENCE", 0.05)
    with pytest.raises(LabError, match="did not come up within"):
        Lab.up(schema.parse(tomllib.loads(SMALL)), name=lab_name, clan_dir=tmp_path)
    assert traces(lab_name) == before


@pytest.mark.parametrize("way", ["up", "down"])
def test_an_up_that_is_killed_anywhere_is_cleaned_up_by_the_next(
    way: str, lab_name: str, tmp_path: Path
) -> None:
    (tmp_path / "lab.toml").write_text(SMALL)
    before = traces(lab_name)
    moments = random.Random(7)
    for _ in range(5):
        begun = subprocess.Popen(
            clan(tmp_path, "up", "--name", lab_name), stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.15, 1.5))
        begun.kill()
        begun.wait()
        if way == "up":
            done = subprocess.run(
                clan(tmp_path, "up", "--name", lab_name), capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr.decode()
            ssh = ["ssh-keyscan", "-T", "5", "vpn.example.com"]
            assert "ssh-ed25519" in Lab.open(lab_name).run(ssh).stdout
        subprocess.run(clan(tmp_path, "down", "--name", lab_name), check=True)
        assert traces(lab_name) == before


def test_ctrl_c_during_up_leaves_nothing(lab_name: str, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(SMALL)
    before = traces(lab_name)
    begun = subprocess.Popen(
        clan(tmp_path, "up", "--name", lab_name), stderr=subprocess.PIPE, text=True
    )
    assert begun.stderr is not None
    with begun.stderr:
        while "starting" not in begun.stderr.readline():
            assert begun.poll() is None
        begun.send_signal(signal.SIGINT)
        assert begun.wait(20) == 130
    assert traces(lab_name) == before


def test_two_ups_at_once_make_one_lab(lab_name: str, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(SMALL)
    argv = clan(tmp_path, "up", "--name", lab_name)
    both = [subprocess.Popen(argv, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert all(unit.leader() for unit in Lab.open(lab_name).units())


def test_two_labs_with_the_same_ranges_run_side_by_side(labs: Labs, ask: Ask) -> None:
    first, second = labs(SMALL), labs(SMALL)
    first.exec("vps", ["hostnamectl", "hostname", "first"])
    for lab, host in ((first, "first"), (second, "vps")):
        ssh = ["ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        assert lab.run([*ssh, "root@vpn.example.com", "hostname"]).stdout == f"{host}\n"
        assert ask(lab, "connect", "203.0.113.10", "22") is True


def test_ten_machines_are_up_in_seconds(
    lab_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    sites = 'hosting = { router = { nat = "none" } }\nhome = {}\nfriend = { ip = "4" }\n'
    places = ["hosting", "home", "home", "friend"] * 3
    machines = "".join(f'm{n} = {{ site = "{s}" }}\n' for n, s in enumerate(places[:10]))
    text = f'[sites]\n{sites}[machines]\n{machines}[admin]\nsite = "home"\n'
    begun = time.monotonic()
    lab = Lab.up(schema.parse(tomllib.loads(text)), name=lab_name, clan_dir=tmp_path)
    taken = time.monotonic() - begun
    record_property("ten machines up, seconds", round(taken, 1))
    sys.stdout.write(f"ten machines were up after {taken:.1f} s\n")
    assert taken < 120  # 6 s on a computer that does nothing else
    begun = time.monotonic()
    lab.down()
    down(lab_name)
    assert time.monotonic() - begun < 60
