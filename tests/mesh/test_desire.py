"""From the map, records and what was heard, to the links that a machine wants."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from tests.mesh.signers import ROOT, key, machine, signed
from tests.mesh.test_slots import HOME, INTERNET, LAN, attached

from clan.mesh import identity, slots
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.candidates import Said, Sight
from clan.mesh.chart import links
from clan.mesh.chart.accept import Held
from clan.mesh.chart.content import Content, KnownAddress, Rule
from clan.mesh.chart.links import LinkRecord, Served
from clan.mesh.desire import Known, Wish, desire
from clan.mesh.link import Endpoint, Kind, Slot
from clan.mesh.tls.frames import Port
from clan.mesh.tls.wants import loopback

if TYPE_CHECKING:
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.chart.content import Machine
    from clan.mesh.link import Link

PREFIX = identity.prefix(ROOT.public)
OWN = slots.in_use(slots.settle((), [LAN, INTERNET], slots.drawn()), [LAN, INTERNET])
THEIRS = {
    name: slots.in_use(slots.settle((), [LAN, INTERNET], slots.drawn()), [LAN, INTERNET])
    for name in ("nas", "vps", "hub", "tv")
}
RECORDS = {
    key(name).public: links.publish(
        LinkRecord(
            identity=key(name).public,
            serial=1,
            interfaces=tuple(own.published for own in theirs),
        ),
        key(name),
    )
    for name, theirs in THEIRS.items()
}


def known(*machines: Machine, **more: object) -> Known:
    rules = more.pop("rules", ())
    content = Content(
        machines=tuple(sorted((machine("desk"), *machines), key=lambda each: each.name)),
        rules=rules,  # type: ignore[arg-type]
    )
    made = Known(
        identity=key("desk").public,
        prefix=PREFIX,
        view=Held.of([signed(content)]).view,
        records=RECORDS,
        own=OWN,
        attachments=(HOME,),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def at(name: str, *addresses: str) -> Machine:
    return machine(name, addresses=tuple(KnownAddress(host=each) for each in addresses))


def found(wish: Wish, name: str, kind: str) -> list[Link]:
    return [each for each in wish.desired.peers[name].links if each.slot.kind == kind]


def port(name: str, kind: str) -> int:
    return next(own.port for own in THEIRS[name] if own.slot.kind == kind)


def interface(name: str, kind: str) -> str:
    return next(own.id for own in THEIRS[name] if own.slot.kind == kind)


def sight(name: str, address: str, when: float = 1.0) -> Sight:
    return Sight(
        identity=key(name).public,
        uplink="eth0",
        interface=interface(name, "lan"),
        address=ip_address(address),
        at=when,
    )


def said(name: str, *hosts: str, when: float = 1.0) -> dict[tuple[bytes, str], tuple[Said, ...]]:
    there = tuple(Said(Endpoint(host=host, port=7), when) for host in hosts)
    return {(key(name).public, interface(name, "internet")): there}


def hosts(link: Link) -> list[str]:
    return [each.host for each in link.endpoints]


def test_whom_the_map_does_not_list_wants_nothing_and_nobody_is_let_in() -> None:
    stranger = replace(known(machine("nas")), identity=key("thief").public)
    assert desire(stranger).desired.peers == {}
    assert desire(stranger).remotes == {}
    assert "thief" not in desire(known(machine("nas"))).peers


def test_there_is_a_link_on_a_lan_to_who_was_heard_there() -> None:
    assert found(desire(known(machine("nas"))), "nas", "lan") == []
    wish = desire(known(machine("nas"), sights=(sight("nas", "fe80::7"),)))
    (link,) = found(wish, "nas", "lan")
    assert link.endpoints == (Endpoint(host="fe80::7", port=port("nas", "lan")),)
    assert wish.remotes[link.id].address == slots.inside(key("nas").public, interface("nas", "lan"))
    (internet,) = found(wish, "nas", "internet")
    assert internet.endpoints == ()  # a link-local address is the LAN's own


def test_the_latest_word_of_where_a_peer_is_comes_first_and_the_inventory_last() -> None:
    nas = at("nas", "203.0.113.9")
    for seen, told, expected in (
        (1.0, 2.0, ["198.51.100.1", "192.168.1.7", "203.0.113.9"]),
        (2.0, 1.0, ["192.168.1.7", "198.51.100.1", "203.0.113.9"]),
    ):
        wish = desire(
            known(
                nas,
                sights=(sight("nas", "192.168.1.7", seen),),
                places=said("nas", "198.51.100.1", when=told),
            )
        )
        assert hosts(found(wish, "nas", "internet")[0]) == expected


def test_nobody_is_looked_for_at_home_or_inside_the_mesh() -> None:
    inside = str(identity.address(PREFIX, key("nas").public))
    odd = said("nas", "192.168.1.2", "127.0.0.1", "224.0.0.1", "0.0.0.0", inside, "2001:db8::1")
    wish = desire(known(machine("nas"), places=odd))
    assert hosts(found(wish, "nas", "internet")[0]) == []


def test_links_are_kept_open_to_two_that_the_inventory_says_where_to_find() -> None:
    servers = [at(name, "203.0.113.1") for name in ("hub", "tv", "vps")]
    wish = desire(known(machine("nas"), *servers))
    assert len(wish.kept) == 2
    assert {name for name, peer in wish.desired.peers.items() if peer.kept} == set(wish.kept)
    assert "nas" not in wish.kept
    assert desire(known(machine("nas"))).kept == ()
    alone = replace(known(*servers), own=(), attachments=(attached("eth0", "fe80::2/64"),))
    assert desire(alone).kept == ()


def test_who_may_not_talk_is_not_joined() -> None:
    rules = (Rule(sources=("desk",), targets=("nas",)),)
    wish = desire(known(machine("nas"), machine("tv"), rules=rules))
    assert wish.peers.keys() == {"nas"}


def test_a_link_over_members_is_wanted_for_who_is_sought_or_has_no_other() -> None:
    over = slots.in_use(slots.settle((), [slots.HOPS], slots.drawn()), [slots.HOPS])
    there = {
        key(name).public: replace(
            RECORDS[key(name).public],
            interfaces=(
                *(own.published for own in THEIRS[name] if name == "nas"),
                over[0].published,
            ),
        )
        for name in ("nas", "tv")
    }
    told = known(
        machine("nas"),
        machine("tv"),
        own=(*OWN, *over),
        records=there,
        sights=(sight("nas", "fe80::2"),),
    )
    wish = desire(told)
    assert found(wish, "nas", "lan")
    assert not found(wish, "nas", "hops")
    (link,) = found(wish, "tv", "hops")
    assert link.endpoints == ()
    assert "hops" in wish.desired.uplinks
    # Whoever comes that way is let in all the same.
    assert {each.peer for each in wish.remotes if each.own == over[0].id} == {"nas", "tv"}
    way = IPv6Address("fd0d:7e50:b4f8:1:2::")
    (link,) = found(desire(replace(told, ways={"nas": (way,)})), "nas", "hops")
    assert link.endpoints == (Endpoint(host=str(way), port=over[0].port),)


def test_two_members_have_no_ways_over_others() -> None:
    assert desire(known(machine("nas"))).peers["nas"].ways is None
    three = desire(known(machine("nas"), machine("tv")))
    networks = {each.ways for each in (*three.peers.values(), three.member) if each is not None}
    assert len(networks) == 3
    assert None not in networks


def test_streams_are_found_on_the_loopback_and_who_takes_them_is_kept_first() -> None:
    slot = Slot(uplink="eth0", family=6, kind=Kind.TLS)
    mine, theirs = (
        slots.in_use(slots.settle((), [INTERNET, slot], slots.drawn()), [INTERNET, slot])
        for _ in range(2)
    )
    names = ("nas", "vps", "hub", "tv")
    for name in names:
        made = LinkRecord(
            identity=key(name).public,
            serial=1,
            interfaces=tuple(own.published for own in theirs),
            served=Served(port=443),
            certificate=bytes(32),
        )
        records = {**RECORDS, key(name).public: links.publish(made, key(name))}
        there = [at(each, f"192.0.2.{number}") for number, each in enumerate(names, 1)]
        wish = desire(known(*there, own=mine, records=records))
        assert wish.kept[0] == name
        (link,) = found(wish, name, "tls")
        own, other = (next(e.id for e in them if e.slot == slot) for them in (mine, theirs))
        place = loopback(own, Port(key(name).public, other))
        assert (link.endpoints, link.lifetime) == ((place,), None)


OVERLAY = Slot(uplink="tun0", family=4, kind=Kind.OVERLAY, network="10.0.0.1")
TUNNEL = replace(
    attached("tun0", "10.0.0.1/24", kind="tun"),
    ways=(Route(to=ip_network("10.0.0.0/24"), index=1),),
)


def overlaid(theirs: str, *, tunnel: Attachment = TUNNEL, address: str = "") -> list[Link]:
    """Return the links by an overlay to a machine that says it has an address there."""
    own = slots.in_use(slots.settle((), [OVERLAY], slots.drawn()), [OVERLAY])
    slot = replace(OVERLAY, uplink="ygg0", network=theirs)
    (far,) = slots.settle((), [slot], slots.drawn())
    record = LinkRecord(identity=key("nas").public, serial=2, interfaces=(far.published,))
    there = known(
        at("nas", *[each for each in [address] if each]),
        own=own,
        attachments=(HOME, tunnel),
        records={key("nas").public: links.publish(record, key("nas"))},
    )
    return found(desire(there), "nas", "overlay")


def test_another_network_is_a_way_to_who_is_there_by_the_tunnels_own_routes() -> None:
    (link,) = overlaid("10.0.0.7")
    assert hosts(link) == ["10.0.0.7"]
    assert not link.cut
    assert overlaid("10.0.1.7") == []
    (listed,) = overlaid("10.0.1.7", address="10.0.0.8")
    assert hosts(listed) == ["10.0.0.8"]
    assert overlaid("10.0.0.1") == []  # that is this machine


def test_no_way_to_the_mesh_leads_by_the_mesh() -> None:
    inner = identity.address(PREFIX, key("nas").public)
    everywhere = replace(TUNNEL, ways=(Route(to=ip_network("fc00::/7"), index=1),))
    assert overlaid(str(inner), tunnel=everywhere) == []


def test_a_link_over_a_tunnel_that_takes_only_small_packets_is_known_to_be_cut() -> None:
    (link,) = overlaid("10.0.0.7", tunnel=replace(TUNNEL, mtu=1280))
    assert link.cut


def test_a_name_of_the_inventory_is_tried_once_it_means_something() -> None:
    nas = at("nas", "nas.example.com")
    (link,) = found(desire(known(nas)), "nas", "internet")
    assert hosts(link) == []
    inner = identity.address(PREFIX, key("nas").public)
    means = (ip_address("203.0.113.9"), ip_address("2001:db8::9"), inner)
    (link,) = found(desire(known(nas, hosts={"nas.example.com": means})), "nas", "internet")
    assert hosts(link) == ["203.0.113.9"]


ONLY6 = replace(INTERNET, family=6)
NAT64 = ip_network("64:ff9b::/96")


def crossing(mine: Slot, theirs: Slot, **more: object) -> list[Link]:
    """Return the links between a slot here and one of a machine with an IPv4 address."""
    own = slots.in_use(slots.settle((), [mine], slots.drawn()), [mine])
    (far,) = slots.settle((), [theirs], slots.drawn())
    record = LinkRecord(identity=key("nas").public, serial=2, interfaces=(far.published,))
    said_of = {(key("nas").public, far.id): (Said(Endpoint(host="198.51.100.5", port=7), 1.0),)}
    there = known(
        at("nas", "203.0.113.9"),
        own=own,
        records={key("nas").public: links.publish(record, key("nas"))},
        places=said_of,
        **more,
    )
    return found(desire(there), "nas", "internet")


def test_a_nat64_joins_ipv6_alone_and_ipv4_alone() -> None:
    (link,) = crossing(ONLY6, INTERNET, nat64=NAT64)
    assert hosts(link) == ["64:ff9b::c633:6405", "64:ff9b::cb00:7109"]
    (link,) = crossing(INTERNET, ONLY6)
    assert hosts(link) == ["198.51.100.5", "203.0.113.9"]  # where others see it, through the NAT64
    assert crossing(ONLY6, INTERNET) == []  # no NAT64
