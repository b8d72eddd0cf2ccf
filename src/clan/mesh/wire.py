"""What agents say to each other inside links, as bytes.

A message travels as one UDP datagram inside a WireGuard tunnel, so it is authenticated, and who
sent it and on which link is known from where it came in. Integers are big-endian. Each message is

    version u8 = 1 | type u8 | length u16 | body | padding of zeros

`length` counts from the version to the end of the body. A later version of the program may put more
into a body: what follows the fields known here is skipped. A type that is not known is no error
either, but `None`, so that a machine may be older than its peers. Everything else that is odd is
refused with a `WireError`: another version, a body that ends early, a list over its bound, padding
that is not zero.

| type | body |
|---|---|
| 1 probe | sequence u32, every u16 (ms), flags u8, zero u8, choice |
| 2 answer | sequence u32, received u32, sent u32 (µs, modulo 2³²), choice |
| 3 switch | choice, reason u8 |
| 4 summary | count u8, entry length u8, entries: own u32, their u32, penalty u16 (ms), flags u8 |
| 5 seen | family u8 (4 or 6), zero u8, port u16, address 16 bytes (IPv4: 12 zeros before it) |
| 6 letter | length u16, a signed signal (`signal.py`), for the receiver or to be handed on |
| 7 where | nothing: asks for a `seen` |
| 16 knock | as `seen`, then number u64: asks for a datagram there, the number twice |
| 17 neighbours | length u16, a signed list of whom a member reaches (`hops/lists.py`) |

A choice is number u32, own u32, their u32: the ids of the sender's interface and the receiver's.
Probe flag 1: the sender has traffic for the receiver. Summary flag 1: the link can be used.

Times are as in the TCP timestamps of RFC 7323: only differences between two of one clock mean
anything, so they wrap, here every 71 minutes.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from clan.mesh.link import Endpoint

VERSION = 1
LONGEST = 9216
"""Bytes of the largest message: a jumbo frame."""
MOST_LINKS = 32
"""Entries in one summary: more links than that between two machines are not told of."""
LONGEST_LETTER = 1180
"""Bytes of a letter or a list, so that it fits a link that takes only IPv6's least."""
CLOCK = 1 << 32

_HEAD = struct.Struct(">BBH")
_CHOICE = struct.Struct(">III")
_PROBE = struct.Struct(">IHBB")
_ANSWER = struct.Struct(">III")
_ENTRY = struct.Struct(">IIHB")
_LIST = struct.Struct(">BB")
_LETTER = struct.Struct(">H")
_SEEN = struct.Struct(">BBH16s")
_NUMBER = struct.Struct(">Q")


class WireError(ValueError):
    """Bytes that no version of the program that speaks this version of the format sends."""


class Reason(enum.IntEnum):
    """Why a path was left, as its peer is told."""

    SILENT = 1
    """Nothing came by it while another way lived."""
    UPLINK = 2
    """Its uplink lost its carrier, its address or its route."""
    BETTER = 3
    """Another one is better, or good again."""
    WANTED = 4
    """Someone wants that uplink left."""
    FIRST = 5
    """There was no path yet."""
    OTHER = 255
    """A reason that this version does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which link the sender's packets take, and how new that is."""

    number: int = 0
    """Rises with each switch at either end, modulo 2³²; 0 is no choice yet."""
    own: str = "00000000"
    """The sender's interface."""
    their: str = "00000000"
    """The receiver's interface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question that shows that a link lives in both directions."""

    sequence: int
    every: float = 0.0
    """Seconds until the next one on this link: a promise. 0 is none."""
    busy: bool = False
    """Whether the sender has traffic for the receiver."""
    choice: Choice = Choice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a probe, on the link that it came by."""

    sequence: int
    received: int
    """When the probe came, in µs of the answerer's clock modulo 2³²."""
    sent: int
    """When this was sent, by the same clock."""
    choice: Choice = Choice()

    @property
    def held(self) -> float:
        """Return the seconds between the two."""
        return ((self.sent - self.received) % CLOCK) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The sender's packets take another link from now on."""

    choice: Choice
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the sender says of one link."""

    own: str
    their: str
    penalty: float = 0.0
    """Seconds that its use costs the sender beyond what is measured, such as for money."""
    usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The same for each of the sender's links to the receiver."""

    links: tuple[About, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where the receiver's packets on this link come from, as the sender sees it."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A signal; whose it is, and for whom, stands in it."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Asks where the sender's packets on this link come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """Asks for a datagram from a new port, to see whether it comes in."""

    endpoint: Endpoint
    number: int
    """64 random bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Whom a member reaches; which member, and for how long that holds, stands in it."""

    data: bytes


Message = Probe | Answer | Switch | Summary | Seen | Letter | Where | Knock | Neighbours


def ticks(seconds: float) -> int:
    """Return a moment of a clock in seconds as an answer carries it."""
    return int(seconds * 1e6) % CLOCK


def encode(message: Message, *, size: int = 0) -> bytes:
    """Return the bytes of a message, padded with zeros to `size` bytes.

    Raises `ValueError` where a field is out of its range: a fault of the program.
    """
    kind, body = _encoded(message)
    data = _HEAD.pack(VERSION, kind, _HEAD.size + len(body)) + body
    if max(size, len(data)) > LONGEST:
        raise ValueError(f"{size} bytes in a message, {LONGEST} at most")
    return data.ljust(size, b"\0")


def _encoded(message: Message) -> tuple[int, bytes]:
    """Return a message's type and body."""
    match message:
        case Probe():
            return (
                1,
                _PROBE.pack(message.sequence, _milliseconds(message.every), int(message.busy), 0)
                + _choice(message.choice),
            )
        case Answer():
            return (
                2,
                _ANSWER.pack(message.sequence, message.received, message.sent)
                + (_choice(message.choice)),
            )
        case Switch():
            return 3, _choice(message.choice) + bytes([message.reason])
        case Summary(links=links):
            if len(links) > MOST_LINKS:
                raise ValueError(f"{len(links)} links in a summary, {MOST_LINKS} at most")
            return 4, _LIST.pack(len(links), _ENTRY.size) + b"".join(map(_entry, links))
        case _:
            return _aside(message)


def _aside(message: Seen | Letter | Where | Knock | Neighbours) -> tuple[int, bytes]:
    """Return the same of a message that tells nothing of links."""
    match message:
        case Seen(endpoint=endpoint):
            return 5, _place(endpoint)
        case Letter(data=inside) | Neighbours(data=inside):
            if len(inside) > LONGEST_LETTER:
                raise ValueError(f"{len(inside)} bytes in a letter, {LONGEST_LETTER} at most")
            return 6 if isinstance(message, Letter) else 17, _LETTER.pack(len(inside)) + inside
        case Where():
            return 7, b""
        case Knock(endpoint=endpoint, number=number):
            return 16, _place(endpoint) + _NUMBER.pack(number)


def decode(data: bytes) -> Message | None:
    """Return the message in a datagram; None for a type that only later versions know.

    Raises `WireError` for anything that is not as the module says.
    """
    if not _HEAD.size <= len(data) <= LONGEST:
        raise WireError(f"{len(data)} bytes are no message")
    version, kind, length = _HEAD.unpack_from(data)
    if version != VERSION:
        raise WireError(f"version {version} is not spoken here")
    if not _HEAD.size <= length <= len(data):
        raise WireError(f"says {length} bytes and has {len(data)}")
    if any(data[length:]):
        raise WireError("padding that is not zero")
    body = data[_HEAD.size : length]
    try:
        return _body(kind, body)
    except struct.error as error:
        raise WireError(f"type {kind} ends after {len(body)} bytes") from error


def _body(kind: int, body: bytes) -> Message | None:
    if kind == 1:
        sequence, every, flags, _ = _PROBE.unpack_from(body)
        return Probe(
            sequence=sequence,
            every=every / 1000,
            busy=bool(flags & 1),
            choice=_choose(body, _PROBE.size),
        )
    if kind == 2:  # noqa: PLR2004
        sequence, received, sent = _ANSWER.unpack_from(body)
        choice = _choose(body, _ANSWER.size)
        return Answer(sequence=sequence, received=received, sent=sent, choice=choice)
    if kind == 3:  # noqa: PLR2004
        choice = _choose(body, 0)
        (number,) = struct.unpack_from("B", body, _CHOICE.size)
        reason = Reason(number) if number in set(Reason) else Reason.OTHER
        return Switch(choice=choice, reason=reason)
    if kind == 4:  # noqa: PLR2004
        return _summary(body)
    if kind == 5:  # noqa: PLR2004
        return Seen(endpoint=_endpoint(body))
    if kind in {6, 17}:
        (size,) = _LETTER.unpack_from(body)
        if size > LONGEST_LETTER or _LETTER.size + size > len(body):
            raise WireError(f"a letter of {size} bytes is too long, or ends early")
        inside = body[_LETTER.size : _LETTER.size + size]
        return Letter(data=inside) if kind == 6 else Neighbours(data=inside)  # noqa: PLR2004
    if kind == 7:  # noqa: PLR2004
        return Where()
    if kind == 16:  # noqa: PLR2004
        (number,) = _NUMBER.unpack_from(body, _SEEN.size)
        return Knock(endpoint=_endpoint(body), number=number)
    return None


def _place(endpoint: Endpoint) -> bytes:
    host = ip_address(endpoint.host)
    return _SEEN.pack(host.version, 0, endpoint.port, host.packed.rjust(16, b"\0"))


def _endpoint(body: bytes) -> Endpoint:
    version, _, port, packed = _SEEN.unpack_from(body)
    if version not in {4, 6} or not port or (version == 4 and any(packed[:12])):  # noqa: PLR2004
        raise WireError("no place that anything can come from")
    host = ip_address(packed[12:] if version == 4 else packed)  # noqa: PLR2004
    return Endpoint(host=str(host), port=port)


def _summary(body: bytes) -> Summary:
    count, each = _LIST.unpack_from(body)
    if count > MOST_LINKS:
        raise WireError(f"{count} links in a summary, {MOST_LINKS} at most")
    if each < _ENTRY.size:
        raise WireError(f"entries of {each} bytes")
    links = []
    for place in range(count):
        start = _LIST.size + place * each
        if start + each > len(body):
            raise WireError(f"{count} links are said to follow, {place} do")
        own, their, penalty, flags = _ENTRY.unpack_from(body, start)
        links.append(
            About(
                own=f"{own:08x}",
                their=f"{their:08x}",
                penalty=penalty / 1000,
                usable=bool(flags & 1),
            )
        )
    return Summary(links=tuple(links))


def _entry(about: About) -> bytes:
    return _ENTRY.pack(
        int(about.own, 16), int(about.their, 16), _milliseconds(about.penalty), int(about.usable)
    )


def _choice(choice: Choice) -> bytes:
    return _CHOICE.pack(choice.number, int(choice.own, 16), int(choice.their, 16))


def _choose(body: bytes, offset: int) -> Choice:
    number, own, their = _CHOICE.unpack_from(body, offset)
    return Choice(number=number, own=f"{own:08x}", their=f"{their:08x}")


def _milliseconds(seconds: float) -> int:
    """Return it as 16 bits hold it: what is longer is told as the longest, 65 seconds."""
    return max(0, min(0xFFFF, round(seconds * 1000)))
