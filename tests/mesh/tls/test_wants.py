"""What the agent wants of the process: written and read, and what cannot be is refused."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from tests.mesh.signers import fresh, key

from clan.mesh.errors import MeshError
from clan.mesh.link import Endpoint
from clan.mesh.tls import wants
from clan.mesh.tls.frames import Port
from clan.mesh.tls.wants import Listen, Proxy, Relay, Slot, Wants

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = Wants(
    slots=(
        Slot(
            id="00000001",
            port=51820,
            mark=7,
            family=4,
            peers=(Port(key("nas").public, "0a0b0c0d"),),
        ),
        Slot(id="00000002", port=51821),
    ),
    relays=(
        Relay(
            identity=key("vps").public,
            places=(Endpoint(host="192.0.2.1", port=443), Endpoint(host="2001:db8::1", port=443)),
            certificate=fresh("certificate"),
        ),
        Relay(
            identity=key("shop").public,
            places=(Endpoint(host="shop.example", port=443),),
            sni="shop.example",
            path="/clan",
        ),
    ),
    proxy=Proxy(place=Endpoint(host="proxy.lan", port=3128), credentials="/etc/clan/proxy"),
    listen=(
        Listen(place=Endpoint(host="::", port=443)),
        Listen(place=Endpoint(host="127.0.0.1", port=8443), web=True),
    ),
)


@pytest.mark.parametrize("each", [Wants(), WHOLE])
def test_what_is_written_is_read(each: Wants) -> None:
    assert wants.read(wants.written(each), "it") == each


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("more", to=1),
        _set("slots", 0, "id", to="0A0B0C0D"),
        _set("slots", 0, "port", to=0),
        _set("slots", 0, "family", to=5),
        _set("slots", 0, "peers", 0, 1, to="x"),
        _set("relays", 0, "places", 0, 1, to=70000),
        _set("relays", 0, "places", 0, 0, to="a b"),
        _set("relays", 0, "certificate", to="AAAA"),
        _set("relays", 0, "certificate", to=""),
        _set("relays", 1, "sni", to=""),
        _set("relays", 1, "sni", to="x\r\nHost: y"),
        _set("relays", 1, "path", to="/a\r\nHost: y"),
        _set("relays", 1, "path", to="clan"),
        _set("relays", 1, "path", to=""),
        _set("proxy", 0, 0, to="x\r\ny"),
        _set("listen", 0, 2, to=1),
    ],
)
def test_what_cannot_be_is_refused(change: Callable[[Any], None]) -> None:
    value = json.loads(wants.written(WHOLE))
    change(value)
    with pytest.raises(MeshError):
        wants.read(json.dumps(value).encode(), "it")


def test_a_peer_is_on_the_loopback_and_each_somewhere_else() -> None:
    ports = [Port(key(str(name)).public, f"{name:08x}") for name in range(300)]
    found = [wants.loopback(own, port) for own in ("00000001", "00000002") for port in ports]
    assert len(set(found)) == len(found)
    for each in found:
        assert ip_address(each.host) in ip_network("127.0.0.0/8")
        assert int(each.host.split(".")[1]) >= 64
    assert wants.loopback("00000001", ports[0]) == Endpoint(host="127.152.241.239", port=26743)
