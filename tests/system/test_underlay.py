from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clan.system import underlay
from clan.system.underlay import observe_underlay

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
# 192.168.1.1 and 192.168.1.0 as a little-endian kernel prints them, as all that clan runs on are.
DEFAULT = "eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n"
LINK = "eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
ARP = "IP address HW type Flags HW address Mask Device\n"
HOME, CAFE = (f"192.168.1.1 0x1 0x2 02:00:00:00:00:0{n} * eth0\n" for n in (1, 2))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's tables as files, and no address of this computer's own."""
    monkeypatch.setattr(underlay, "PROC_NET", tmp_path)
    monkeypatch.setattr(underlay, "SOMEWHERE", ())
    return tmp_path


def at(place: Path, routes: str, arp: str) -> underlay.Underlay:
    (place / "route").write_text(HEAD + routes)
    (place / "arp").write_text(ARP + arp)
    return observe_underlay()


def test_two_homes_with_one_private_range_are_two_places(place: Path) -> None:
    home = at(place, DEFAULT + LINK, HOME)
    assert home.key == at(place, DEFAULT + LINK, HOME).key
    assert home.key != at(place, DEFAULT + LINK, CAFE).key


def test_a_lan_without_a_router_is_a_place(place: Path) -> None:
    here = at(place, LINK, "")
    assert here.links == ("eth0 192.168.1.0",)
    assert here.sources == ()
    assert here.key != at(place, "", "").key


def test_without_the_kernel_s_tables_there_is_still_an_answer(place: Path) -> None:
    assert not (place / "route").exists()
    assert observe_underlay().links == ()


def test_this_computer_is_somewhere() -> None:
    assert observe_underlay().key == observe_underlay().key


def test_what_many_ask_at_once_is_looked_at_once(place: Path) -> None:
    seen = []

    def look() -> underlay.Underlay:
        seen.append(at(place, LINK, HOME))
        return seen[-1]

    lately = underlay.lately(look, 60)
    assert lately() is lately()
    assert len(seen) == 1
    now = underlay.lately(look, 0)
    assert now() is not now()
