"""The text of UPnP's Internet Gateway Device, versions 1 and 2, for UDP ports alone. Pure.

    search       a datagram to everyone: which gateways are there (SSDP)
    described    where in a gateway's answer its services are described: a port and a path
    services     what of these a description (XML) has
    request      one HTTP request; what a service is asked is SOAP
    replied      what came back

The actions are of WANIPConnection:1 and :2, WANPPPConnection:1 (AddPortMapping) and
WANIPv6FirewallControl:1 (AddPinhole). Where a router says that it is found is never believed: it is
asked at its own address, so that no router can send this machine elsewhere.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # what could make it dangerous is refused before
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT = 1900
GROUPS = {4: "239.255.255.250", 6: "ff02::c"}
LONGEST = 1 << 17
"""Bytes of a description or an answer."""
_CONNECTIONS = tuple(
    f"urn:schemas-upnp-org:service:{name}"
    for name in ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
)
FIREWALL = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"
_GATEWAYS = tuple(
    f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2)
)
_PATH = re.compile(r"/[!-~]{0,1000}")
_MOST = 8
"""Services of one kind."""


class UpnpError(ValueError):
    """What came is no answer; or `code`, if it is not 0, is UPnP's number of a refusal."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service of a gateway: its type, and the path that it is asked at."""

    kind: str
    path: str


def search(group: str) -> list[bytes]:
    """Return the datagrams that look for gateways, for one of the groups."""
    host = f"[{group}]" if ":" in group else group
    return [
        (
            f"M-SEARCH * HTTP/1.1\r\nHOST: {host}:{PORT}\r\n"
            f'MAN: "ssdp:discover"\r\nMX: 1\r\nST: {each}\r\n\r\n'
        ).encode("ascii")
        for each in _GATEWAYS
    ]


def described(data: bytes) -> tuple[int, str]:
    """Read an answer to `search`: the port and the path of the description. Raises UpnpError."""
    first, _, rest = data.decode("latin-1").partition("\r\n")
    if not re.fullmatch(r"HTTP/1\.[01] 200( .*)?", first):
        raise UpnpError("this answers no search")
    found = re.search(
        r"^location:[ \t]*(http://[!-~]+)[ \t]*\r?$", rest, re.IGNORECASE | re.MULTILINE
    )
    if found is None:
        raise UpnpError("this does not say where the gateway is described")
    try:
        url = urlsplit(found[1])
        return url.port or 80, _path(url.path + (f"?{url.query}" if url.query else ""))
    except ValueError:
        raise UpnpError("this does not say where the gateway is described") from None


def services(description: bytes) -> list[Service]:
    """Return the services that open ports, the best first. Raises UpnpError."""
    found = []
    for each in _tree(description).iter():
        if _name(each) == "service":
            said = {_name(child): (child.text or "").strip() for child in each}
            kind = said.get("serviceType", "")
            if kind in {*_CONNECTIONS, FIREWALL}:
                path = urlsplit(said.get("controlURL", "")).path
                found.append(
                    Service(kind=kind, path=_path(path if path[:1] == "/" else f"/{path}"))
                )
    order = (*_CONNECTIONS, FIREWALL)
    return sorted(found, key=lambda each: order.index(each.kind))[:_MOST]


def request(host: str, path: str) -> bytes:
    """Return the request for a description."""
    return f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii")


def action(host: str, service: Service, name: str, arguments: Mapping[str, str | int]) -> bytes:
    """Return the request for an action of a service."""
    said = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{name} xmlns:u="{service.kind}">{said}</u:{name}></s:Body></s:Envelope>\r\n'
    )
    return (
        f"POST {service.path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n"
        'Content-Type: text/xml; charset="utf-8"\r\n'
        f'SOAPAction: "{service.kind}#{name}"\r\nContent-Length: {len(body)}\r\n\r\n{body}'
    ).encode("ascii")


def replied(data: bytes) -> bytes:
    """Return the body of an HTTP answer. Raises UpnpError, with the code of a refusal."""
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", head)
    if found is None:
        raise UpnpError("this is no answer of HTTP's")
    if found[1] == b"200":
        return body
    if found[1] == b"500":
        code = answers(body).get("errorCode", "")
        if re.fullmatch("[0-9]{3}", code):
            raise UpnpError(f"the router refuses it: {code}", int(code))
    raise UpnpError(f"the router answers {found[1].decode()}")


def answers(body: bytes) -> dict[str, str]:
    """Return what a SOAP answer says, by the names of its arguments. Raises UpnpError."""
    return {_name(each): (each.text or "").strip() for each in _tree(body).iter()}


def _tree(data: bytes) -> ET.Element:
    """Parse XML without definitions of its own: those could make much of little."""
    try:
        text = data.decode("utf-8")
        if len(data) > LONGEST or re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
            raise UpnpError("this XML has definitions of its own, or is too long")
        return ET.fromstring(text)  # noqa: S314
    except (UnicodeDecodeError, ET.ParseError):
        raise UpnpError("this is not XML") from None


def _name(element: ET.Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _path(written: str) -> str:
    if not _PATH.fullmatch(written):
        raise UpnpError("this is no path")
    return written
