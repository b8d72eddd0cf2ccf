"""The bytes of PCP (RFC 6887: MAP and ANNOUNCE) and of NAT-PMP (RFC 6886), for UDP alone. Pure.

Both ask a router on one port to lead datagrams to this machine; PCP also opens the firewall of
IPv6. PCP's version is 2 and NAT-PMP's 0, and a router that knows the other one alone says so. What
comes in is read with `read`, and counts only for the request that it answers: `Answer.is_for`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

PORT = 5351
"""Of the router."""
HEARING = 5350
"""Where machines hear that a router was restarted."""
LONGEST = 1100
"""Bytes of PCP's longest message (RFC 6887, section 7)."""
UNSUPPORTED = 1
"""The result: the router knows another version alone."""
SLACK = 2.0
"""Seconds by which a router's clock may be wrong, beside a sixteenth of the time."""

IpAddress = IPv4Address | IPv6Address

_PCP, _NATPMP = 2, 0
_ANNOUNCE, _MAP = 0, 1
_UDP = 17
_ANSWER = 0x80
_HEAD = struct.Struct("!BBxBLL12x")
_BODY = struct.Struct("!12sB3xHH16s")
_OLD_HEAD = struct.Struct("!BBHL")


class PcpError(ValueError):
    """These bytes are no answer of a router."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a router says.

    `epoch` are the seconds since it lost all that it had opened. `life` is in seconds.
    """

    version: int
    result: int
    epoch: int
    announces: bool = False
    nonce: bytes = b""
    inner: int = 0
    outer: int = 0
    address: IpAddress | None = None
    life: int = 0

    def is_for(self, nonce: bytes, port: int) -> bool:
        """Say whether it is the answer to `ask` with these."""
        return not self.announces and (self.nonce, self.inner) == (nonce, port)


def ask(*, source: IpAddress, nonce: bytes, inner: int, outer: int, life: int) -> bytes:
    """Ask PCP to lead `outer`, or another port, to `inner` at `source`; a life of 0 ends it."""
    head = struct.pack("!BBxxL16s", _PCP, _MAP, life, _sixteen(source))
    any_address = IPv4Address(0) if source.version == 4 else IPv6Address(0)  # noqa: PLR2004
    return head + _BODY.pack(nonce, _UDP, inner, outer, _sixteen(any_address))


def ask_address() -> bytes:
    """Ask NAT-PMP for the address that the router has outside."""
    return struct.pack("!BB", _NATPMP, 0)


def ask_old(*, inner: int, outer: int, life: int) -> bytes:
    """Ask NAT-PMP for the same as `ask`; with a life of 0, `outer` has to be 0."""
    return struct.pack("!BBxxHHL", _NATPMP, 1, inner, outer, life)


def read(data: bytes) -> Answer:
    """Read what a router sent. Raises PcpError."""
    try:
        version = data[0]
        if version == _PCP and len(data) <= LONGEST and len(data) % 4 == 0:
            return _read(data)
        if version == _NATPMP:
            return _read_old(data)
    except (IndexError, struct.error):
        pass
    raise PcpError(f"{len(data)} bytes that are no answer of PCP or NAT-PMP")


def restarted(before: tuple[int, float], now: tuple[int, float]) -> bool:
    """Say whether a router lost what it had between two answers: each its epoch and our time.

    By RFC 6887, section 8.5: it went back, or far slower or faster than this machine's clock.
    """
    server, client = now[0] - before[0], now[1] - before[1]
    if server < -1:
        return True
    return client + SLACK < server - server / 16 or server + SLACK < client - client / 16


def _read(data: bytes) -> Answer:
    _, opcode, result, life, epoch = _HEAD.unpack_from(data)
    if opcode == _ANSWER | _ANNOUNCE:
        return Answer(version=_PCP, result=result, epoch=epoch, announces=True)
    if opcode != _ANSWER | _MAP:
        raise PcpError(f"PCP's opcode {opcode} was not asked for")
    nonce, protocol, inner, outer, sixteen = _BODY.unpack_from(data, _HEAD.size)
    if protocol != _UDP:
        raise PcpError(f"PCP's protocol {protocol} was not asked for")
    six = IPv6Address(sixteen)
    return Answer(
        version=_PCP,
        result=result,
        epoch=epoch,
        nonce=nonce,
        inner=inner,
        outer=outer,
        address=six.ipv4_mapped or six,
        life=life,
    )


def _read_old(data: bytes) -> Answer:
    _, opcode, result, epoch = _OLD_HEAD.unpack_from(data)
    if opcode == _ANSWER:
        address = None if result else ip_address(struct.unpack_from("!4s", data, 8)[0])
        return Answer(version=_NATPMP, result=result, epoch=epoch, announces=True, address=address)
    # A router that does not know PCP answers its MAP, too, with its own version and a short head.
    inner, outer, life = (0, 0, 0) if result else struct.unpack_from("!HHL", data, 8)
    if opcode != _ANSWER | _MAP:
        raise PcpError(f"NAT-PMP's opcode {opcode} was not asked for")
    return Answer(version=_NATPMP, result=result, epoch=epoch, inner=inner, outer=outer, life=life)


def _sixteen(address: IpAddress) -> bytes:
    if isinstance(address, IPv4Address):
        return b"\0" * 10 + b"\xff\xff" + address.packed
    return address.packed
