"""A machine's own word of its interfaces: nobody else's counts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import fresh, key, record

from clan.mesh.chart import links, signed
from clan.mesh.chart.canonical import encode
from clan.mesh.chart.links import KINDS, LinkRecord, PublishedInterface, Served
from clan.mesh.errors import MeshError

NAS, TV = key("nas"), key("tv")
LAN = PublishedInterface(id="00000001", uplink="eth0", family=4, kind="lan", key=fresh(1), port=1)
WIFI = replace(LAN, id="00000002", uplink="wlan0", key=fresh(2), leaving=True, port=65535)
WHOLE = LinkRecord(
    identity=NAS.public,
    serial=7,
    interfaces=(LAN, WIFI),
    relays=("vps", "hub"),
    certificate=fresh("certificate"),
    served=Served(port=443),
)
PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=15)
INTERFACES = st.builds(
    PublishedInterface,
    id=st.integers(0, 2**32 - 1).map("{:08x}".format),
    uplink=PLAIN,
    family=st.sampled_from([4, 6]),
    kind=st.sampled_from(KINDS),
    network=PLAIN,
    key=st.binary(min_size=32, max_size=32),
    leaving=st.booleans(),
    port=st.integers(0, 65535),
)


@given(st.lists(INTERFACES, max_size=6, unique_by=(lambda each: each.id, lambda each: each.key)))
def test_what_a_machine_tells_is_read_as_it_was_told(interfaces: list[PublishedInterface]) -> None:
    said = tuple(sorted(interfaces, key=lambda each: each.id))
    keys = [each.key for each in said]
    told = replace(WHOLE, interfaces=said)
    if len(keys) != len(set(keys)):
        with pytest.raises(MeshError, match="each must have its own"):
            links.publish(told, NAS)
        return
    made = links.publish(told, NAS)
    assert made == told
    assert links.read(made.raw, NAS.public) == told


def test_nobody_tells_it_for_another() -> None:
    with pytest.raises(MeshError, match="may not sign"):
        links.publish(WHOLE, TV)
    with pytest.raises(MeshError, match="may not sign"):
        links.read(links.publish(WHOLE, NAS).raw, TV.public)
    as_tv = signed.sign(links.PURPOSE, links.publish(WHOLE, NAS).raw[signed.HEAD :], TV)
    with pytest.raises(MeshError, match="of another machine"):
        links.read(as_tv.raw, TV.public)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    raw = bytearray(links.publish(WHOLE, NAS).raw)
    raw[at % len(raw)] ^= change
    with pytest.raises(MeshError):
        links.read(bytes(raw), NAS.public)


@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(MeshError):
        links.read(data, NAS.public)


def body() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(links.publish(WHOLE, NAS).raw[signed.HEAD :])
    return read


def test_what_the_identity_signs_must_still_be_possible() -> None:
    first = body()["interfaces"][0]
    changes: tuple[dict[str, Any], ...] = (
        {"serial": 0},
        {"serial": True},
        {"serial": 1 << 63},
        {"more": 1},
        {"relays": ["a"] * 5},
        {"relays": [1]},
        {"certificate": "AAAA"},
        {"interfaces": [first, first]},
        {"interfaces": list(reversed(body()["interfaces"]))},
        {"interfaces": [first | {"id": "0000000G"}]},
        {"interfaces": [first | {"family": 5}]},
        {"interfaces": [first | {"kind": "pigeon"}]},
        {"interfaces": [first | {"port": 65536}]},
        {"interfaces": [first | {"uplink": "eth0\n"}]},
        {"interfaces": [first | {"leaving": 2}]},
        {"interfaces": [[]]},
        {"interfaces": {}},
    )
    for change in changes:
        proof = signed.sign(links.PURPOSE, encode(body() | change), NAS)
        with pytest.raises(MeshError):
            links.read(proof.raw, NAS.public)


def test_there_is_one_way_to_write_it() -> None:
    text = encode(body())
    for other in (
        text.replace(b",", b", ", 1),
        text.replace(b'"serial":7', b'"serial":07'),
        text.replace(b'"serial":7', b'"serial":7.0'),
        text.replace(b'"serial":7', b'"serial":7,"serial":7'),
        text.replace(b"eth0", b"\\u0065th0"),
        text.replace(b'"serial":7', b'"serial":' + b"7" * 5000),
        text + b"\n",
        b"[" * 10000,
    ):
        assert other != text
        with pytest.raises(MeshError):
            links.read(signed.sign(links.PURPOSE, other, NAS).raw, NAS.public)


def test_the_higher_serial_counts_and_of_two_alike_the_same_one_everywhere() -> None:
    old, new, none = record("nas", 1), record("nas", 2), b""
    twin = links.publish(replace(WHOLE, serial=2), NAS).raw
    assert links.newer(old, new) == links.newer(new, old) == new
    assert links.newer(old, none) == links.newer(none, old) == old
    assert links.newer(new, twin) == links.newer(twin, new)
    assert links.newer(none, none) == none


@pytest.mark.parametrize(
    "served",
    [
        Served(port=0),
        Served(port=65536),
        Served(port=443, name="www.example.org"),
        Served(port=443, path="/clan"),
        Served(port=443, name="a b", path="/clan"),
        Served(port=443, name="www.example.org", path="/c lan"),
    ],
)
def test_a_place_for_streams_that_cannot_be_is_refused(served: Served) -> None:
    certificate = b"" if served.name else WHOLE.certificate
    with pytest.raises(MeshError, match="a place for streams"):
        links.publish(replace(WHOLE, served=served, certificate=certificate), NAS)


def test_who_ends_tls_itself_has_a_certificate_and_nobody_else() -> None:
    web = Served(port=443, name="www.example.org", path="/clan")
    assert links.publish(replace(WHOLE, served=web, certificate=b""), NAS).served == web
    for served, certificate in ((WHOLE.served, b""), (web, b"c" * 32), (None, b"c" * 32)):
        with pytest.raises(MeshError, match="has a certificate"):
            links.publish(replace(WHOLE, served=served, certificate=certificate), NAS)
