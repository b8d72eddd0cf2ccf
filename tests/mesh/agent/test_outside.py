"""Which doors are wanted of routers while a slot's key is replaced."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface, ip_network

from clan.mesh import slots
from clan.mesh.agent import outside
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.agent.uplinks import Attachment
from clan.mesh.link import Kind, Slot
from clan.mesh.relay.pick import FEW

INTERNET = Slot(uplink="eth0", family=4, kind=Kind.INTERNET)
HOME = Attachment(
    name="eth0",
    index=1,
    kind="",
    works=True,
    mtu=1500,
    addresses=(ip_interface("192.168.1.2/24"),),
    defaults=(Route(to=ip_network("0.0.0.0/0"), index=1, gateway=IPv4Address("192.168.1.1")),),
)


def test_the_relay_s_doors_are_had_once_by_whichever_of_the_two_was_reached() -> None:
    (before,) = slots.settle((), [INTERNET], slots.drawn())
    both = slots.replaced((before,), before, next(slots.drawn()))
    old, new = sorted(both, key=lambda own: not own.leaving)

    def seats(*verified: str) -> list[str]:
        doors = list(outside._doors(both, (HOME,), frozenset(verified)))
        own = {old.id, new.id}
        assert {door.id for door in doors} >= own
        assert len({door.port for door in doors}) == len(doors)
        of = {outside._seat_id(each, n): each.id for each in both for n in range(FEW)}
        return [of[door.id] for door in doors if door.id not in own]

    assert seats() == []
    assert seats(old.id) == [old.id] * FEW
    assert seats(old.id, new.id) == [new.id] * FEW
