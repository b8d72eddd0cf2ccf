"""What a clan's file says of web servers and proxies, as its machines meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.desk import Desk
from tests.lab.links import until
from tests.lab.paths import reach, settles
from tests.lab.test_mesh_streams import streams
from tests.lab.web import NAME, PROXY_PORT, certified, found_at, proxy, site
from tests.mesh.signers import ROOT, signed
from tests.modules.test_mesh import Known, plan

from clan.mesh.chart.content import Content
from clan.mesh.places import setting_file
from clan.model.plan import File, Key
from clan.modules.mesh import content as contents

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.agents import Box
    from tests.lab.internet import Town

    from clan.model.clan import Clan

pytestmark = pytest.mark.lab

CLAN = """\
[machines]
vps = {{}}
nas = {{}}
laptop = {{}}
[instances.home]
module.name = "mesh"
[instances.home.roles.member]
tags.all = {{}}
machines.vps.settings = {{ addresses = ["{vps}"], tls = true, tlsWeb = "{name}/clan" }}
machines.laptop.settings = {{ proxy = "192.168.1.1:{port}", proxyPassword = "{password}" }}
"""
WALL = """
table inet wall {
    chain forward {
        type filter hook forward priority -10;
        iifname "lan" drop
    }
}
"""
"""Nothing is let out; the proxy on the router is all that there is."""


def install(box: Box, clan: Clan, authority: Path) -> None:
    """Lay on a machine what its plan has of files, and start what it has of units."""
    for each in plan(clan, box.name, Known()):
        if isinstance(each, Key):
            place = box.folder / each.path.lstrip("/")
            place.parent.mkdir(parents=True)
            (box.folder / "key").rename(place)
        if isinstance(each, File) and each.path == setting_file("home"):
            assert isinstance(each.content, bytes)
            box.stream(each.content, SSL_CERT_FILE=str(authority))


def content(clan: Clan, boxes: list[Box], before: Content) -> Content:
    """Return what `clan machines update` has the map say."""
    return contents.content(
        clan.instances["home"],
        clan,
        Known(),
        first_root=ROOT.public,
        before=before,
        records={each.key.public: each.record() for each in boxes},
    )


def test_one_that_only_a_proxy_lets_out_is_reached_by_a_web_server(
    town: Town, tmp_path: Path
) -> None:
    boxes = vps, laptop, nas = town.boxes("vps", "laptop", "nas")
    vps_at = town.internet.plug(vps)
    company = town.home()
    company.plug(laptop)
    company.rules(WALL)
    town.home().plug(nas)
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("guest:sesame\n")
    text = CLAN.format(vps=vps_at, name=NAME, port=PROXY_PORT, password=password)
    clan = Desk(tmp_path).open(text)
    authority = certified(tmp_path)
    with (
        found_at(vps_at, company.space, nas.space),
        site(vps.space, tmp_path),
        proxy(company.space, tmp_path, "192.168.1.1") as log,
    ):
        for each in boxes:
            install(each, clan, authority)
        first = signed(content(clan, [], Content()))
        for each in boxes:
            each.give(first)
            each.start()
        for each in boxes:
            until(each.record, 60)
        second = signed(content(clan, boxes, first.content), after=[first])
        for each in boxes:
            each.take(second)
        until(lambda: any(each["machine"] == "vps" for each in streams(laptop)), 90)
        settles(reach(laptop, nas, 90), kind="tls")
        assert f"CONNECT {NAME}:443" in log.read_text()
