"""Reaching machines: a family at home and in a café, with real machines, routers and mDNS."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clan.lab.cuts import Cut
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

FAMILY = Path(__file__).parents[2] / "examples/family"
CLAN = [sys.executable, "-m", "clan"]
HOLES = range(9001, 9004)
"""Ports of the VPS where what arrives is dropped, not refused."""


@pytest.fixture(scope="module")
def lab(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab") / "family"
    shutil.copytree(FAMILY, folder)
    places = (folder / "lab.toml").read_text()
    # Someone in the café whose machine is called nas, too.
    return labs(places + '\n[machines.stranger]\nsite = "cafe"\n', clan_dir=folder)


class Admin:
    """The admin's computer, its clan, and what it has learnt."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.store = Store.of(lab.clan_dir, lab.environment())

    def knows(self, *machines: str) -> None:
        for machine in machines:
            self.store.write(machine, *HOST_KEY, self.lab.host_key(machine))

    def clan(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return self.lab.run([*CLAN, *words], check=check)

    def forget(self) -> None:
        """Forget what was measured and what failed; known host keys stay."""
        shutil.rmtree(Path(self.lab.environment()["XDG_STATE_HOME"]) / "clan", ignore_errors=True)

    def uses(self, machine: str, network: str) -> dict[str, Any]:
        """Try until a network is the one used: on a busy computer a better one may be too slow."""
        for _ in range(20):
            explained = self.explain(machine)
            if winner(explained) == network:
                return explained
            self.forget()
        pytest.fail(f"twenty times, {machine} was not reached over {network}: {explained}")

    def explain(self, machine: str, *words: str) -> dict[str, Any]:
        done = self.clan("ssh", "--explain", "--json", *words, machine, "true", check=True)
        explained: dict[str, Any] = json.loads(done.stderr)
        return explained


@pytest.fixture
def admin(lab: Lab) -> Iterator[Admin]:
    """At home, with nothing learnt yet."""
    state, folder = lab.environment()["XDG_STATE_HOME"], lab.environment()["CLAN_VARS_DIR"]
    for learnt in (state, folder):
        # The folders themselves stay: the laptop has them mounted.
        for entry in Path(learnt).iterdir():
            shutil.rmtree(entry)
    clan_file = (lab.clan_dir / "clan.toml").read_text()
    yield Admin(lab)
    (lab.clan_dir / "clan.toml").write_text(clan_file)
    lab.restore()
    if lab.site_of("admin") != "home":
        lab.move("admin", "home")


def winner(explained: dict[str, Any]) -> str:
    used = [a["network"] for a in explained["attempts"] if a["result"] == "connected"]
    return str(used[0])


@pytest.mark.parametrize("machine", ["nas", "desktop"])
def test_at_home_a_machine_is_found_by_its_name(admin: Admin, machine: str) -> None:
    """nas answers with avahi, desktop with systemd-resolved."""
    admin.knows(machine)
    assert admin.clan("ssh", machine, "hostname").stdout == f"{machine}\n"
    admin.uses(machine, "lan")
    said = admin.clan("ssh", "--network", "lan", machine, "hostname").stderr
    assert f"{machine}: over lan, " in said


def test_a_name_found_by_asking_everyone_is_never_accepted_unasked(admin: Admin) -> None:
    words = ("--network", "lan", "--host-key", "accept-new")
    done = admin.clan("ssh", *words, "nas", "true")
    assert done.returncode == 255
    assert "was found by mDNS, where anyone on the LAN can answer" in done.stderr
    assert admin.store.host_key("nas") is None


def test_over_the_internet_a_new_key_may_be_accepted_and_is_recorded(admin: Admin) -> None:
    words = ("--network", "internet", "--host-key", "accept-new")
    assert admin.clan("ssh", *words, "nas", "true").returncode == 0
    assert admin.store.host_key("nas") == admin.lab.host_key("nas")
    # And it is the same identity on the LAN.
    admin.uses("nas", "lan")


def test_the_admin_moves_to_the_cafe_and_back(admin: Admin, lab: Lab) -> None:
    admin.knows("nas")
    admin.uses("nas", "lan")
    lab.move("admin", "cafe")
    assert winner(admin.explain("nas")) == "internet"
    remembered = admin.explain("nas")
    assert [a["network"] for a in remembered["attempts"]] == ["internet", "lan"]
    lab.move("admin", "home")
    back = admin.explain("nas")
    assert back["attempts"][0]["network"] == "lan", "what failed in the café does not count here"
    admin.uses("nas", "lan")


def test_moving_in_the_middle_of_a_race_begins_it_anew(admin: Admin, lab: Lab) -> None:
    admin.knows("nas")
    lab.move("admin", "cafe")
    lab.cut(Cut(what="cafe"))
    words = [*CLAN, "ssh", "--explain", "--json", "nas", "true"]
    from clan.lab.place import at_admin

    ssh = subprocess.Popen(
        at_admin(lab.state, words),
        env=lab.environment(),
        cwd=lab.clan_dir,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)  # the race is on: the café answers nothing
    assert ssh.poll() is None
    lab.move("admin", "home")
    _, said = ssh.communicate(timeout=60)
    assert ssh.returncode == 0, said
    explained = json.loads(said)
    assert winner(explained) in {"lan", "internet"}
    assert explained["attempts"][0]["network"] == "lan", "nothing is held against it at home"


def call_stranger(lab: Lab, name: str) -> None:
    """Give the machine in the café another name on its LAN."""
    rename = f"sed -i 's/^#\\?host-name=.*/host-name={name}/' /etc/avahi/avahi-daemon.conf"
    lab.exec("stranger", ["sh", "-c", f"{rename} && systemctl restart avahi-daemon"])


def test_someone_else_s_nas_in_the_cafe_is_set_aside_in_the_same_command(
    admin: Admin, lab: Lab
) -> None:
    admin.knows("nas")
    call_stranger(lab, "nas")
    lab.move("admin", "cafe")
    try:
        for _ in range(20):  # avahi first makes sure that nobody else has the name
            admin.forget()
            if admin.clan("network", "ping", "nas", "-n", "lan").returncode == 0:
                break
        for _ in range(20):
            done = admin.clan("ssh", "nas", "hostname")
            assert (done.stdout, done.returncode) == ("nas\n", 0)
            if "on network lan is not nas" in done.stderr:
                break
            admin.forget()
    finally:
        call_stranger(lab, "stranger")
    assert "on network lan is not nas" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("nas: over internet, ")
    assert (
        lab.exec("stranger", ["journalctl", "-u", "ssh", "-o", "cat"]).stdout.count("Accepted") == 0
    ), "nothing was said to the stranger"


def test_three_better_networks_that_swallow_everything_cost_a_second_once(
    admin: Admin, lab: Lab
) -> None:
    admin.knows("vps")
    with (lab.clan_dir / "clan.toml").open("a") as file:
        for port in HOLES:
            file.write(
                f"[instances.hole{port}]\nmodule.name = 'internet'\nsettings.priority = {port}\n"
                f"[instances.hole{port}.roles.default.machines.vps.settings]\n"
                f"host = 'vps.example.com'\nport = {port}\n"
            )
    ports = f"{HOLES.start}-{HOLES.stop - 1}"
    lab.exec(
        "vps",
        ["nft", "-f", "-"],
        text="table inet holes { chain in { type filter hook input priority 0;\n"
        f"tcp dport {ports} drop\n}}\n}}\n",
    )
    first = admin.explain("vps")
    assert winner(first) == "internet"
    assert {a["result"] for a in first["attempts"][:3]} <= {"unanswered", "failed"}
    second = admin.explain("vps")
    assert second["attempts"][0]["network"] == "internet"
    assert winner(second) == "internet"


def test_a_cafe_where_nothing_works_says_so_for_each_network(admin: Admin, lab: Lab) -> None:
    lab.move("admin", "cafe")
    lab.cut(Cut(what="cafe"))
    done = admin.clan("ssh", "nas", "true")
    assert done.returncode == 255
    assert "internet  no name server answered for home.example.com in 5 s" in done.stderr
    assert "lan       nothing on this LAN answers for nas.local" in done.stderr


def test_a_machine_that_is_unplugged_is_unreachable_and_comes_back(admin: Admin, lab: Lab) -> None:
    admin.knows("desktop")
    lab.cut(Cut(what="desktop"))
    done = admin.clan("network", "ping", "desktop", "--json")
    assert done.returncode == 1
    assert not any(seen["reachable"] for seen in json.loads(done.stdout))
    lab.restore()
    again = admin.clan("network", "ping", "desktop", "--json")
    assert again.returncode == 0, again.stdout


def test_the_overview_shows_each_peer_of_each_network(admin: Admin, lab: Lab) -> None:
    lab.cut(Cut(what="nas"))
    seen = json.loads(admin.clan("network", "overview", "--json").stdout)
    by = {(row["network"], row["machine"]): row for row in seen}
    assert by["lan", "desktop"]["reachable"]
    assert 0 < by["internet", "vps"]["rtt"] < 30
    assert not by["lan", "nas"]["reachable"]
    assert by["lan", "nas"]["error"]
    table = admin.clan("network", "overview").stdout
    assert "lan" in table.splitlines()[2]


def test_private_asks_nobody_for_names(admin: Admin, lab: Lab) -> None:
    # Questions, and connections that are begun: those of earlier tests may still be ending.
    counting = (
        "table inet watch { chain out { type filter hook output priority 0;\n"
        "meta l4proto udp counter\ntcp flags & (syn | ack) == syn counter\n}\n}\n"
    )
    lab.run(["nft", "-f", "-"], text=counting)
    try:
        done = admin.clan("ssh", "--action", "private", "nas", "true")
        assert done.returncode == 255
        assert "lan       not tried: does not hide where the machines are" in done.stderr
        assert counted(lab) == [0, 0]
        admin.clan("network", "ping", "nas")
        assert 0 not in counted(lab)
    finally:
        lab.run(["nft", "delete", "table", "inet", "watch"])


def counted(lab: Lab) -> list[int]:
    """Return how many packets each rule of the table `watch` has seen."""
    listed = lab.run(["nft", "list", "table", "inet", "watch"]).stdout
    return [int(count) for count in re.findall(r"packets (\d+)", listed)]


def test_through_a_jump_host_of_the_clan(admin: Admin, lab: Lab) -> None:
    """From the café, the desktop by the name it has at home, which only the NAS can ask for."""
    admin.knows("nas")
    text = (lab.clan_dir / "clan.toml").read_text()
    (lab.clan_dir / "clan.toml").write_text(
        text
        + "[instances.inside]\nmodule.name = 'internet'\nsettings.priority = 9000\n"
        + "[instances.inside.roles.default.machines.desktop.settings]\n"
        + "host = 'desktop.local'\njump_hosts = ['nas']\n"
    )
    admin.knows("desktop")
    lab.exec("nas", ["sh", "-c", "apt-get -q update && apt-get -q install -y libnss-mdns"])
    lab.move("admin", "cafe")
    done = admin.clan("ssh", "--network", "inside", "desktop", "hostname")
    assert (done.stdout, done.returncode) == ("desktop\n", 0), done.stderr
    assert "desktop: over inside, desktop.local:22 via nas.family" in done.stderr


def test_plain_ssh_and_scp_reach_the_machine_too(admin: Admin, lab: Lab, tmp_path: Path) -> None:
    admin.knows("nas")
    config = tmp_path / "config"
    config.write_text(admin.clan("ssh-config", check=True).stdout)
    done = lab.run(["ssh", "-F", str(config), "nas.family", "hostname"])
    assert done.stdout == "nas\n"
    lab.run(["scp", "-q", "-F", str(config), str(config), "nas.family:/root/copied"])
    assert lab.exec("nas", ["cat", "/root/copied"]).stdout == config.read_text()
    lab.move("admin", "cafe")
    assert lab.run(["ssh", "-F", str(config), "nas.family", "hostname"]).stdout == "nas\n"


def test_the_family_s_admin_works_from_the_laptop(admin: Admin, lab: Lab) -> None:
    admin.knows("nas")
    done = lab.exec("laptop", ["clan", "ssh", "nas", "hostname"], check=False)
    assert done.stdout == "nas\n", done.stderr
    lab.move("laptop", "cafe")
    try:
        deadline = time.monotonic() + 60
        while True:
            done = lab.exec("laptop", ["clan", "ssh", "nas", "hostname"], check=False)
            if done.returncode == 0 or time.monotonic() > deadline:
                break
        assert "nas: over internet" in done.stderr
    finally:
        lab.move("laptop", "home")


def test_probing_is_bounded_and_says_how_old_its_answer_is(admin: Admin) -> None:
    # In one process: a start of Python takes as long as it takes until the next look is allowed.
    words = ["network", "ping", "vps", "-n", "internet", "--json"]
    again = (
        f"from clan.cli.main import cli\nfor _ in range(20): cli({words}, standalone_mode=False)"
    )
    printed = admin.lab.run([sys.executable, "-c", again]).stdout
    seen, decoder = [], json.JSONDecoder()
    while printed:
        (found,), end = decoder.raw_decode(printed)
        printed = printed[end:].lstrip()
        seen.append(found)
    assert all(each["reachable"] for each in seen)
    assert 0 < sum(each["age"] > 0 for each in seen) < 20
