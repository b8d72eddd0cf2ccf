"""What an agent says of its machine's paths, read and put in words. Pure.

An agent may be of another version than this, so what is missing is nothing and what is more is
left; what is of another form is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.mesh.errors import MeshError
from clan.model.finding import lasting

if TYPE_CHECKING:
    from collections.abc import Mapping

COLD = "cold"
NUMBER = (int, float)
TRIES = 3
"""How often others try a place in vain before that is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSeen:
    """A link to a peer. Times in seconds; `loss` is a part of 1."""

    id: str
    uplink: str
    their_uplink: str
    kind: str
    family: int
    alive: bool
    heard: float | None
    round_trip: float | None
    loss: float | None
    mtu: int | None
    relay: str | None = None
    """By whom a stream's datagrams are passed on, where it is known."""

    @property
    def called(self) -> str:
        """What it runs over, for people: `lan by eth0`, `internet IPv6 by wwan0`, `tls via vps`."""
        if self.kind == "tls":
            return f"tls via {self.relay}" if self.relay else f"tls by {self.uplink}"
        version = "" if self.kind == "lan" or not self.family else f" IPv{self.family}"
        return f"{self.kind}{version} by {self.uplink}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSeen:
    """Another machine, as one sees it. `since` is for how many seconds it has been so.

    `map` is the epoch and the serial of the map that it has at least, as far as is known.
    """

    name: str
    address: str
    mode: str
    path: LinkSeen | None
    since: float | None
    why: str | None
    map: tuple[int, int] | None
    links: tuple[LinkSeen, ...]

    @property
    def state(self) -> str:
        """In a word: `idle`, `connected`, or `lost`."""
        if self.path is not None and self.path.alive:
            return "connected"
        return "idle" if self.mode == COLD else "lost"

    @property
    def others(self) -> tuple[LinkSeen, ...]:
        """The links that the path could go by instead."""
        return tuple(each for each in self.links if self.path is None or each.id != self.path.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A machine as its agent sees it; `name` None where its own map does not have it."""

    name: str | None
    address: str | None
    fault: str | None
    """What could not be had there, and is tried again."""
    map: tuple[int, int]
    """Epoch and serial; zeros while it has none."""
    map_state: str
    made: float | None
    """When that was signed, in seconds of 1970."""
    uplinks: Mapping[str, bool]
    """By name: whether it works."""
    peers: Mapping[str, PeerSeen]
    unreached: tuple[tuple[str, int], ...] = ()
    """Hosts and ports at which others tried to reach it as a relay, and did not, while they reach
    it as one nowhere."""


def read_seen(value: Any) -> Seen:
    """Read an agent's answer. Raises MeshError for what is none."""
    said = _record(value, "the answer")
    chart = _record(said.get("map", {}), "map")
    return Seen(
        name=_maybe(said, "name", str),
        address=_maybe(said, "address", str),
        fault=_maybe(said, "fault", str),
        map=(_of(chart, "epoch", int, 0), _of(chart, "serial", int, 0)),
        map_state=_of(chart, "state", str, ""),
        made=_maybe(chart, "made", *NUMBER),
        uplinks={
            name: not _of(_record(each, "an uplink"), "down", bool, False)
            for name, each in _record(said.get("uplinks", {}), "uplinks").items()
        },
        peers={
            name: _peer(name, _record(each, "a peer"))
            for name, each in _record(said.get("peers", {}), "peers").items()
        },
        unreached=_unreached(said.get("relay", [])),
    )


def _unreached(listed: Any) -> tuple[tuple[str, int], ...]:
    if type(listed) is not list:
        raise _wrong("relay")
    places = [_record(each, "a place of a relay") for each in listed]
    tried = [each for each in places if _of(each, "tried", int, 0) >= TRIES]
    late = [each for each in places if each in tried or not _of(each, "reached", bool, False)]
    hosts = {_of(each, "host", str, "") for each in places}
    if hosts - {_of(each, "host", str, "") for each in late}:
        return ()
    return tuple((_of(each, "host", str, ""), _of(each, "port", int, 0)) for each in tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What an agent decided of a peer, and why; `at` in seconds of 1970."""

    at: float
    peer: str
    what: str
    why: str


def read_decisions(value: Any) -> list[Decided]:
    """Read an agent's answer to `log`. Raises MeshError for what is none."""
    listed = _record(value, "the answer").get("decisions")
    if type(listed) is not list:
        raise _wrong("decisions")
    found = []
    for each in listed:
        said = _record(each, "a decision")
        at = _maybe(said, "at", *NUMBER)
        if at is None:
            raise _wrong("at")
        words = {name: _of(said, name, str, None) for name in ("peer", "what", "why")}
        found.append(Decided(at=at, **words))
    return found


def _peer(name: str, said: Mapping[str, Any]) -> PeerSeen:
    listed = said.get("links", [])
    if type(listed) is not list:
        raise _wrong("links")
    links = tuple(_link(_record(each, "a link")) for each in listed)
    path = _maybe(said, "path", str)
    has = said.get("map")
    chart = None if has is None else _record(has, "a peer's map")
    return PeerSeen(
        name=name,
        address=_of(said, "address", str, ""),
        mode=_of(said, "mode", str, COLD),
        path=next((each for each in links if each.id == path), None),
        since=_maybe(said, "since", *NUMBER),
        why=_maybe(said, "why", str),
        map=None if chart is None else (_of(chart, "epoch", int, 0), _of(chart, "serial", int, 0)),
        links=links,
    )


def _link(said: Mapping[str, Any]) -> LinkSeen:
    return LinkSeen(
        id=_of(said, "id", str, ""),
        uplink=_of(said, "uplink", str, ""),
        their_uplink=_of(said, "their_uplink", str, ""),
        kind=_of(said, "kind", str, ""),
        family=_of(said, "family", int, 0),
        alive=_of(said, "alive", bool, False),
        heard=_maybe(said, "heard", *NUMBER),
        round_trip=_maybe(said, "round_trip", *NUMBER),
        loss=_maybe(said, "loss", *NUMBER),
        mtu=_maybe(said, "mtu", int),
        relay=_maybe(said, "relay", str),
    )


def _record(value: Any, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise _wrong(what)
    return value


def _of(said: Mapping[str, Any], name: str, kind: type, usual: Any) -> Any:
    value = said.get(name, usual)
    if type(value) is not kind:
        raise _wrong(name)
    return value


def _maybe(said: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = said.get(name)
    if value is not None and type(value) not in kinds:
        raise _wrong(name)
    return value


def _wrong(what: str) -> MeshError:
    return MeshError(f"the agent says {what} in another form: is clan there as new as here?")


def in_ms(seconds: float | None) -> str:
    """Write a round trip: `0.4 ms`; `-` for none."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def in_percent(part: float | None) -> str:
    """Write a loss: `2 %`; `-` for none."""
    return "-" if part is None else f"{part * 100:.0f} %"


def for_long(seconds: float | None) -> str:
    """Write for how long something has been so: `3 hours`; `-` where it is not known."""
    return "-" if seconds is None else lasting(seconds)
