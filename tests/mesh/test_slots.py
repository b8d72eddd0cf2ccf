"""Which slots a machine has by the networks it is attached to, and what it keeps for them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh import slots
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.agent.uplinks import Attachment, Carrier
from clan.mesh.errors import MeshError
from clan.mesh.link import Kind, Slot

if TYPE_CHECKING:
    from pathlib import Path

ANY = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def attached(
    name: str, *addresses: str, defaults: tuple[int, ...] = (), works: bool = True, kind: str = ""
) -> Attachment:
    return Attachment(
        name=name,
        index=1,
        kind=kind,
        works=works,
        mtu=1500,
        addresses=tuple(map(ip_interface, addresses)),
        defaults=tuple(Route(to=ANY[version], index=1) for version in defaults),
    )


HOME = attached("eth0", "192.168.1.2/24", "fe80::2/64", defaults=(4,))
LAN, INTERNET = (
    Slot(uplink="eth0", family=6, kind=Kind.LAN),
    Slot(uplink="eth0", family=4, kind=Kind.INTERNET),
)


@pytest.mark.parametrize(
    ("attachment", "expected"),
    [
        (HOME, [LAN, INTERNET]),
        (attached("eth0", "fe80::2/64"), [LAN]),
        (attached("eth0", "192.0.2.1/24"), [replace(LAN, family=4)]),
        (
            attached("eth0", "2001:db8::2/64", "fe80::2/64", defaults=(6,)),
            [LAN, replace(INTERNET, family=6)],
        ),
        (attached("eth0", "fe80::2/64", defaults=(6,)), [LAN]),  # no address of its own beyond
        (attached("eth0", "192.168.1.2/24", defaults=(4,), works=False), []),
        # Another network, if it can be kept out of the mesh.
        (attached("tun0", "10.0.0.1/24", defaults=(4,), kind="tun"), []),
        (
            replace(
                attached("tun0", "10.0.0.1/24", "200::1/7", "fe80::1/64", kind="tun"),
                carrier=Carrier(group="system.slice/yggdrasil.service"),
            ),
            [
                Slot(uplink="tun0", family=4, kind=Kind.OVERLAY, network="10.0.0.1"),
                Slot(uplink="tun0", family=6, kind=Kind.OVERLAY, network="200::1"),
            ],
        ),
    ],
)
def test_what_an_uplink_gives(attachment: Attachment, expected: list[Slot]) -> None:
    assert slots.wanted([attachment]) == expected


def test_where_streams_are_there_is_a_slot_for_them_that_nobody_outside_sends_to() -> None:
    found = slots.wanted([HOME, attached("eth1", "fe80::3/64")], streams=True)
    stream = Slot(uplink="eth0", family=6, kind=Kind.TLS)
    assert found == [LAN, INTERNET, stream, replace(LAN, uplink="eth1")]
    (own,) = slots.in_use(slots.settle((), [stream], slots.drawn()), [stream])
    assert own.port
    assert own.published.port == 0


def test_what_a_slot_was_given_stays_also_while_its_uplink_is_away() -> None:
    first = slots.settle((), [LAN, INTERNET], slots.drawn())
    assert {own.slot for own in first} == {LAN, INTERNET}
    assert len({own.port for own in first} | {own.number for own in first}) == 4
    away = slots.settle(first, [], slots.drawn())
    assert slots.in_use(away, []) == ()
    back = slots.settle(away, [LAN, INTERNET], slots.drawn())
    assert {replace(own, seen=0) for own in back} == {replace(own, seen=0) for own in first}


def test_a_pulled_cable_keeps_its_slots_and_a_lost_address_for_a_moment() -> None:
    known = slots.settle((), [LAN, INTERNET], slots.drawn())
    out = replace(HOME, works=False)
    assert set(slots.present(known, [out])) == {LAN, INTERNET}
    moving = attached("eth0", "fe80::2/64")
    assert slots.present(known, [moving]) == [LAN]
    assert set(slots.present(known, [moving], {INTERNET})) == {LAN, INTERNET}
    assert slots.present(known, []) == []


@given(st.lists(st.lists(st.sampled_from(["eth0", "wlan0", "usb0", "wwan0"]), unique=True)))
def test_numbers_and_ports_are_never_shared(history: list[list[str]]) -> None:
    known: tuple[slots.Own, ...] = ()
    for names in history:
        there = [Slot(uplink=name, family=4, kind=Kind.LAN) for name in names]
        known = slots.settle(known, there, slots.drawn())
        assert len({own.number for own in known}) == len({own.port for own in known}) == len(known)
        assert {own.slot for own in slots.in_use(known, there)} == set(there)


def test_they_are_on_the_disk_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    assert slots.load(path) == ()
    known = slots.settle((), [LAN, INTERNET], slots.drawn())
    slots.keep(path, known)
    assert slots.load(path) == known
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MeshError):
        slots.load(path)


def test_a_port_that_is_taken_is_left_for_another() -> None:
    known = slots.settle((), [LAN, INTERNET], slots.drawn())
    lan, internet = known
    other = slots.moved(known, lan, internet.port, ())
    assert other[0].port not in {lan.port, internet.port}
    assert other[1] == internet


DAY = 86400
TODAY = 20_000 * DAY


def aged(*days: int) -> tuple[slots.Own, ...]:
    """Slots in use whose keys are so many days old."""
    there = [replace(LAN, uplink=f"eth{number}") for number in range(len(days))]
    known = slots.settle((), there, slots.drawn(), today=TODAY)
    return tuple(
        replace(own, drawn=TODAY - age * DAY) for own, age in zip(known, days, strict=True)
    )


def outlived(known: tuple[slots.Own, ...], there: set[Slot] | None = None) -> slots.Own | None:
    return slots.outlived(known, there or {own.slot for own in known}, TODAY)


def test_keys_are_replaced_after_a_month_the_oldest_first() -> None:
    assert outlived(aged(0, 29)) is None
    known = aged(0, 31, 45)
    assert outlived(known) == known[2]
    assert outlived(known, {known[0].slot, known[1].slot}) == known[1]
    future = aged(0, -400)
    assert outlived(future) == future[1]


def test_what_takes_a_slot_s_place_stands_beside_it_until_it_goes() -> None:
    known = aged(31, 31)
    old = known[0]
    both = slots.replaced(known, old, next(slots.drawn()), today=TODAY)
    (leaving,) = (own for own in both if own.leaving)
    (new,) = (own for own in both if own.slot == old.slot and not own.leaving)
    assert leaving == replace(old, leaving=True)
    assert (new.seen, new.drawn) == (old.seen, TODAY)
    for name in ("id", "number", "port", "private"):
        assert len({getattr(own, name) for own in both}) == 3
    assert leaving.published.leaving > new.published.leaving
    # One after the other.
    assert outlived(both) is None
    there = [own.slot for own in known]
    assert slots.settle(both, there, slots.drawn()) == both
    assert len(slots.in_use(both, there)) == 3
    # It goes and comes back with its uplink, as the other does.
    away = slots.settle(both, there[1:], slots.drawn())
    back = slots.settle(away, there, slots.drawn())
    assert {own.id for own in slots.in_use(back, there)} == {own.id for own in both}
    gone = slots.without(back, leaving)
    assert {own.id for own in gone} == {new.id, known[1].id}
    assert outlived(gone) == next(own for own in gone if own.slot == known[1].slot)


def test_who_was_told_is_on_the_disk(tmp_path: Path) -> None:
    (own,) = aged(31)
    known = slots.replaced((own,), own, next(slots.drawn()), today=TODAY)
    known = tuple(replace(own, told=frozenset({bytes(32), b"\1" * 32})) for own in known)
    slots.keep(tmp_path / "slots", known)
    assert slots.load(tmp_path / "slots") == known


def test_where_there_is_no_room_no_key_is_replaced() -> None:
    known = aged(*[31] * slots.MOST)
    assert outlived(known) is None
    more = slots.settle(known, [INTERNET], slots.drawn())
    assert len(more) == slots.MOST
    assert len({own.number for own in more}) == slots.MOST
