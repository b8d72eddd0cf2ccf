"""Where another network's tunnel leads, and whose packets it is made of."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from clan.mesh.agent import marks, overlays
from clan.mesh.agent.firewall import Guard, ruleset
from clan.mesh.agent.kernel import TUN
from clan.mesh.agent.overlays import Overlays, ways
from clan.mesh.agent.rtnetlink import PROTOCOL, UNREACHABLE, Route
from clan.mesh.agent.uplinks import Attachment, Carrier

if TYPE_CHECKING:
    from pathlib import Path

    from clan.mesh.agent.kernel import Kernel

TUNNEL = Attachment(
    name="ygg0", index=7, kind=TUN, works=True, mtu=65535, addresses=(), defaults=()
)


def test_a_tunnel_leads_where_its_routes_say_in_whatever_table_but_not_everywhere() -> None:
    own = Route(to=ip_network("200::/7"), index=7, protocol=2)
    tailscales = Route(to=ip_network("100.64.0.9/32"), index=7, table=52, protocol=3)
    others = [
        Route(to=ip_network("0.0.0.0/0"), index=7, table=51820, protocol=3),
        Route(to=ip_network("10.0.0.0/8"), index=8, protocol=2),
        Route(to=ip_network("10.0.0.0/8"), index=7, kind=UNREACHABLE, protocol=2),
        Route(to=ip_network("200::/7"), index=7, table=marks.table(7), protocol=PROTOCOL),
    ]
    assert ways(7, [own, tailscales, *others]) == [own, tailscales]


class Routes:
    """A kernel with no routes."""

    def routes(self, *, table: int) -> list[Route]:
        assert table == 0
        return []


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc with a program that has the tunnel open, and control groups."""
    monkeypatch.setattr(overlays, "GROUPS", tmp_path / "groups")
    for each in ("groups/system.slice/ygg.service", "groups/user.slice/ssh.scope"):
        (tmp_path / each).mkdir(parents=True)
    (tmp_path / "groups/cgroup.controllers").touch()
    (tmp_path / "net").touch()
    for name, group in (("self", "/system.slice/mesh.service"), ("12", "/"), ("13", "/")):
        folder = tmp_path / "proc" / name
        for each in ("ns", "fd", "fdinfo"):
            (folder / each).mkdir(parents=True)
        os.link(tmp_path / "net", folder / "ns/net")
        (folder / "cgroup").write_text(f"1:name=systemd:/x\n0::{group}\n")
    (tmp_path / "proc/13/fd/5").symlink_to("/dev/net/tun")
    (tmp_path / "proc/13/fdinfo/5").write_text("pos:\t0\niff:\tygg0\n")
    return tmp_path / "proc"


def carried(proc: Path) -> Carrier | None:
    kernel: Kernel = Routes()  # type: ignore[assignment]
    (found,) = Overlays(kernel, proc=proc).look([TUNNEL])
    return found.carrier


@pytest.mark.parametrize(
    "group",
    ["/", "/user.slice/ssh.scope", "/system.slice", "/system.slice/mesh.service", "/gone.service"],
)
def test_what_shares_its_group_with_others_is_not_known(proc: Path, group: str) -> None:
    (proc / "13/cgroup").write_text(f"0::{group}\n")
    assert carried(proc) is None


def test_a_tunnel_is_carried_by_the_service_that_has_it_open(proc: Path) -> None:
    (proc / "13/cgroup").write_text("0::/system.slice/ygg.service\n")
    found = carried(proc)
    assert found is not None
    assert replace(found, number=0) == Carrier(group="system.slice/ygg.service", level=2)
    (proc / "13/fdinfo/5").write_text("iff:\tother\n")
    assert carried(proc) is None


def test_a_service_that_was_started_anew_is_looked_for_anew(proc: Path) -> None:
    (proc / "13/cgroup").write_text("0::/system.slice/ygg.service\n")
    kernel: Kernel = Routes()  # type: ignore[assignment]
    looks = Overlays(kernel, proc=proc)
    (before,) = looks.look([TUNNEL])
    group = overlays.GROUPS / "system.slice/ygg.service"
    group.rename(overlays.GROUPS / "old")
    group.mkdir()
    (after,) = looks.look([TUNNEL])
    assert before.carrier != after.carrier
    assert after.carrier is not None


def test_what_a_tunnel_is_made_of_goes_to_no_address_of_the_clan() -> None:
    guard = Guard(
        prefix=ip_network("fdcc::/48"),  # type: ignore[arg-type]
        carriers=(Carrier(group="system.slice/ygg.service", level=2), Carrier(port=51820)),
    )
    written = ruleset(guard)
    assert 'socket cgroupv2 level 2 "system.slice/ygg.service" ip6 daddr fdcc::/48 drop' in written
    assert "udp sport 51820 ip6 daddr fdcc::/48 drop" in written
