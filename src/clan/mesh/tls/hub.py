"""Whom a relay passes datagrams on to, and what it tells whom of the others. Pure.

Every port has a number: each stream's, and each of the relay's own interfaces'. A number is used
once, so what was sent to a stream that is gone reaches nobody. A port is told of those alone that
the map lets it talk to, or that may talk to it, and nothing is passed on between others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from clan.mesh.tls.frames import Port

E = TypeVar("E")


@dataclass(slots=True)
class _Joined(Generic[E]):
    port: Port
    end: E
    told: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class News(Generic[E]):
    """What an end is to be told."""

    end: E
    here: tuple[tuple[int, Port], ...] = ()
    gone: tuple[int, ...] = ()


class Hub(Generic[E]):
    """The ports of a relay; `may_talk` says of two identities whether one may reach the other."""

    def __init__(self, may_talk: Callable[[bytes, bytes], bool]) -> None:
        self._may_talk = may_talk
        self._joined: dict[int, _Joined[E]] = {}
        self._numbers = itertools.count(1)
        self._ways: dict[tuple[int, int], E | None] = {}

    def join(self, port: Port, end: E) -> tuple[int, list[News[E]]]:
        """Add an end; return its number, and who is to be told what."""
        number = next(self._numbers)
        each = self._joined[number] = _Joined(port, end)
        news = []
        for other, theirs in self._joined.items():
            if other != number and self._is_let(each, theirs):
                each.told.add(other)
                theirs.told.add(number)
                news.append(News(theirs.end, ((number, port),)))
        if each.told:
            told = tuple((other, self._joined[other].port) for other in sorted(each.told))
            news.append(News(end, told))
        return number, news

    def leave(self, number: int) -> list[News[E]]:
        """Take an end away; return who is to be told what."""
        gone = self._joined.pop(number, None)
        if gone is None:
            return []
        self._ways.clear()
        told = [self._joined[other] for other in sorted(gone.told)]
        for each in told:
            each.told.discard(number)
        return [News(each.end, gone=(number,)) for each in told]

    def changed(self) -> list[News[E]]:
        """Note that others may talk to each other now; return who is to be told what."""
        self._ways.clear()
        news = []
        for number, each in self._joined.items():
            wanted = {
                other
                for other, theirs in self._joined.items()
                if other != number and self._is_let(each, theirs)
            }
            come, gone = wanted - each.told, each.told - wanted
            each.told = wanted
            if come or gone:
                told = tuple((other, self._joined[other].port) for other in sorted(come))
                news.append(News(each.end, told, tuple(sorted(gone))))
        return news

    def ends(self) -> Iterable[tuple[int, Port, E]]:
        """Return all, by number."""
        return [(number, each.port, each.end) for number, each in self._joined.items()]

    def find(self, source: int, number: int) -> E | None:
        """Return to whom what came from one number goes, if it is let through."""
        way = (source, number)
        if way not in self._ways:
            # Only what there is is remembered: who invents numbers fills no memory.
            if source not in self._joined or number not in self._joined:
                return None
            told = self._joined[source].told
            self._ways[way] = self._joined[number].end if number in told else None
        return self._ways[way]

    def number(self, source: int, port: Port) -> int | None:
        """Return the newest number of a port that a source may send to."""
        found = None
        if source in self._joined:
            for number in self._joined[source].told:
                there = self._joined[number].port == port
                found = number if there and number > (found or 0) else found
        return found

    def _is_let(self, one: _Joined[E], other: _Joined[E]) -> bool:
        return one.port != other.port and self._may_talk(one.port.identity, other.port.identity)
