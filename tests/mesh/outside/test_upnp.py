"""UPnP: what real gateways send is read, and what lies or is damaged is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.outside import upnp
from clan.mesh.outside.upnp import Service, UpnpError

FOUND = (
    b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:x\r\n"
    b"LOCATION: http://192.168.1.1:5000/rootDesc.xml?a=1\r\nEXT:\r\n\r\n"
)
DESCRIBED = b"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/ctl/L3F</controlURL></service></serviceList>
<deviceList><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>
<controlURL>ctl/PPP</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>http://203.0.113.9:80/ctl/IP</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1</serviceType>
<controlURL>/ctl/FW</controlURL></service>
</serviceList></device></deviceList></device></root>"""
REFUSED = (
    b"HTTP/1.0 500 Internal Server Error\r\nContent-Type: text/xml\r\n\r\n"
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><detail>'
    b'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>718</errorCode>'
    b"</UPnPError></detail></s:Fault></s:Body></s:Envelope>"
)
LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><root>&b;</root>'


def test_of_where_a_gateway_says_it_is_only_port_and_path_are_taken() -> None:
    assert upnp.described(FOUND) == (5000, "/rootDesc.xml?a=1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FOUND.replace(b"200 OK", b"404 Not"),
        FOUND.replace(b"http://", b"file://"),
        FOUND.replace(b":5000", b":99999"),
        FOUND.replace(b"/rootDesc.xml?a=1", b"/" + 2000 * b"a"),
        FOUND.replace(b"/rootDesc.xml?a=1", b"/a\x7f"),
    ],
)
def test_what_is_no_gateway_is_refused(data: bytes) -> None:
    with pytest.raises(UpnpError):
        upnp.described(data)


def test_services_are_found_wherever_they_are_and_asked_at_the_router() -> None:
    kind = "urn:schemas-upnp-org:service:"
    assert upnp.services(DESCRIBED) == [
        Service(kind=f"{kind}WANIPConnection:1", path="/ctl/IP"),
        Service(kind=f"{kind}WANPPPConnection:1", path="/ctl/PPP"),
        Service(kind=f"{kind}WANIPv6FirewallControl:1", path="/ctl/FW"),
    ]


@pytest.mark.parametrize("data", [b"", b"<a>", b"\xff", LAUGHS, b"<r>" + b" " * upnp.LONGEST])
def test_xml_that_is_none_or_makes_much_of_little_is_refused(data: bytes) -> None:
    with pytest.raises(UpnpError):
        upnp.services(data)


def test_nothing_can_be_put_into_a_header_by_a_path() -> None:
    with pytest.raises(UpnpError):
        upnp.services(DESCRIBED.replace(b"/ctl/IP", b"/ctl&#13;&#10;X: y"))


def test_an_action_is_written_so_that_its_values_are_values() -> None:
    service = Service(kind="urn:x:1", path="/ctl")
    sent = upnp.action("192.168.1.1:5000", service, "Add", {"One": "<&>", "Two": 2})
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /ctl HTTP/1.0\r\nHost: 192.168.1.1:5000\r\n")
    assert b'SOAPAction: "urn:x:1#Add"' in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"<One>&lt;&amp;&gt;</One><Two>2</Two>" in body
    assert upnp.answers(body)["One"] == "<&>"


def test_a_refusal_has_its_number() -> None:
    with pytest.raises(UpnpError) as refused:
        upnp.replied(REFUSED)
    assert refused.value.code == 718


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 500 x\r\n\r\n<a/>", b"SSH-2.0\r\n\r\n"],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(UpnpError):
        upnp.replied(data)


@given(st.binary(max_size=200), st.integers(0, 900))
def test_anything_is_read_or_refused(noise: bytes, at: int) -> None:
    for read, real in (
        (upnp.described, FOUND),
        (upnp.services, DESCRIBED),
        (upnp.replied, REFUSED),
    ):
        for data in (noise, real[:at] + noise + real[at + len(noise) :]):
            try:
                read(data)
            except UpnpError:
                continue
