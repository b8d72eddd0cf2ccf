from __future__ import annotations

from tests.plan.test_render import EVERYTHING, rendered

from clan.model.plan import File, HostName, Package, Unit
from clan.plan.diff import changes


def shown(before: object, after: object) -> list[str]:
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    return [f"{c.part} {c.sign} {c.what}" for c in changes(before, after)]


def test_a_machine_that_has_nothing_gets_all() -> None:
    manifest = dict(rendered(motd=EVERYTHING).manifest)
    signs = {line.split()[1] for line in shown({}, manifest)}
    assert signs == {"+"}
    assert "files + /etc/motd" in shown({}, manifest)
    assert "nftables + tcp dport 22 accept" in shown({}, manifest)


def test_nothing_differs_from_itself_and_the_way_back_is_the_opposite() -> None:
    manifest = dict(rendered(motd=EVERYTHING).manifest)
    assert shown(manifest, manifest) == []
    there, back = shown({}, manifest), shown(manifest, {})
    assert sorted(line.replace(" + ", " - ") for line in there) == sorted(back)


def test_what_changed_is_told_from_what_came_and_went() -> None:
    before = rendered(
        motd=(
            Package(name="tree"),
            File(path="/etc/motd", content=b"one"),
            Unit(name="motd.service", text="one"),
            HostName(name="vps.vpn", addresses=("fd00::1",)),
        )
    )
    after = rendered(
        motd=(
            Package(name="htop"),
            File(path="/etc/motd", content=b"two"),
            Unit(name="motd.service", text="one"),
            HostName(name="vps.vpn", addresses=("fd00::2",)),
        )
    )
    assert shown(dict(before.manifest), dict(after.manifest)) == [
        "packages - tree",
        "packages + htop",
        "files ~ /etc/motd",
        "hosts - fd00::1 vps.vpn",
        "hosts + fd00::2 vps.vpn",
    ]
