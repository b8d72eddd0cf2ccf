"""What was observed and decided, one JSON line each, and the same decisions from it once more.

A journal begins with a `start` line, which holds the whole state, so whoever keeps it can begin a
new one at any step and throw the older away. Then, in the order of the steps: a `want` line when
what is wanted changed, a `step` line with the time and what was observed, and a `decision` line for
each decision with its reason in words. `replay` steps through it again, which is how a report from
another machine is looked into, and how a change of the program is tried on what really happened.

Values are written by their class's name, `{"": "LinkId", "peer": …}`. Only the mesh's own can be
read back: a name that is not one of theirs is refused. Nothing here opens a file.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from clan.mesh import exchange, link, measure, pair, width, wire
from clan.mesh.exchange import Decision
from clan.mesh.step import State, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from clan.mesh.exchange import Action, Desired, Event

NAME = ""
"""The key that holds a value's class: no field can have it."""
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def _values() -> Mapping[str, type]:
    found = {
        name: value
        for module in (exchange, link, measure, pair, width, wire)
        for name, value in vars(module).items()
        if isinstance(value, type) and (is_dataclass(value) or issubclass(value, enum.Enum))
    }
    return MappingProxyType(found | {"State": State})


VALUES = _values()


class JournalError(ValueError):
    """A line that is not as this module writes it; says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One step of a journal, done again."""

    now: float
    recorded: tuple[Decision, ...]
    """What was decided then."""
    again: tuple[Decision, ...]
    """What is decided now: the same, unless the program changed."""
    state: State
    """The state after it."""


def start(state: State, desired: Desired) -> str:
    """Return the line that a journal begins with: all that the next step depends on."""
    return _line("start", state=_plain(state), desired=_plain(desired))


def record(
    before: Desired,
    desired: Desired,
    observed: Sequence[Event],
    now: float,
    actions: Iterable[Action],
) -> list[str]:
    """Return the lines of one step; `before` is what was wanted in the one before it."""
    is_same = desired is before or desired == before
    lines = [] if is_same else [_line("want", desired=_plain(desired))]
    lines.append(_line("step", now=now, observed=_plain(tuple(observed))))
    return lines + [
        _line("decision", at=action.at, peer=action.peer, what=action.what, why=action.why)
        for action in actions
        if isinstance(action, Decision)
    ]


def decisions(lines: Iterable[str]) -> Iterator[Decision]:
    """Yield what was decided, for people to read.

    Raises `JournalError` at a line that is none of a journal's.
    """
    for number, entry in _entries(lines):
        if entry["kind"] == "decision":
            yield _decision(entry, number)


def replay(lines: Iterable[str]) -> Iterator[Replayed]:
    """Yield each step of a journal, done again with this program.

    Raises `JournalError` at a line that is none of a journal's, or where a step comes before the
    start.
    """
    state: State | None = None
    desired: Any = None
    last: tuple[float, tuple[Decision, ...]] | None = None
    recorded: list[Decision] = []

    def finished() -> Iterator[Replayed]:
        if last is not None and state is not None:
            now, again = last
            yield Replayed(now=now, recorded=tuple(recorded), again=again, state=state)

    for number, entry in _entries(lines):
        kind = entry["kind"]
        if kind == "decision":
            recorded.append(_decision(entry, number))
            continue
        yield from finished()
        last, recorded = None, []
        if kind == "start":
            state, desired = _read(entry, "state", number), _read(entry, "desired", number)
        elif state is None:
            raise JournalError(f"line {number}: a {kind} before the journal's start")
        elif kind == "want":
            desired = _read(entry, "desired", number)
        else:
            now = _read(entry, "now", number)
            state, actions = step(state, desired, _read(entry, "observed", number), now)
            last = now, tuple(a for a in actions if isinstance(a, Decision))
    yield from finished()


def _entries(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise JournalError(f"line {number}: no JSON: {error}") from error
        kinds = {"start", "want", "step", "decision"}
        if not isinstance(entry, dict) or entry.get("kind") not in kinds:
            raise JournalError(f"line {number}: none of a journal's lines")
        yield number, entry


def _decision(entry: Mapping[str, Any], number: int) -> Decision:
    try:
        return Decision(**{key: entry[key] for key in ("at", "peer", "what", "why")})
    except KeyError as error:
        raise JournalError(f"line {number}: a decision without {error}") from error


def _read(entry: Mapping[str, Any], key: str, number: int) -> Any:
    try:
        return _value(entry[key])
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(f"line {number}: {key} cannot be read: {error}") from error


def _line(kind: str, **entry: Any) -> str:
    return _JSON.encode({"kind": kind, **entry})


def _plain(value: Any) -> Any:
    way = _WAYS.get(type(value))
    return value if way is None else way(value)


def _fields(of: type) -> Callable[[Any], dict[str, Any]]:
    name, names = of.__name__, [each.name for each in fields(of)]

    def plain(value: Any) -> dict[str, Any]:
        return {NAME: name} | {each: _plain(getattr(value, each)) for each in names}

    return plain


def _enumerated(value: enum.Enum) -> dict[str, Any]:
    return {NAME: type(value).__name__, "value": value.value}


def _map(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {NAME: "map", "items": [[_plain(k), _plain(v)] for k, v in value.items()]}


def _set(value: frozenset[str]) -> dict[str, Any]:
    return {NAME: "set", "items": sorted(value)}


def _float(value: float) -> Any:
    return {NAME: "float", "value": str(value)} if math.isinf(value) else value


def _ways() -> Mapping[type, Callable[[Any], Any]]:
    own = {each: _fields(each) if is_dataclass(each) else _enumerated for each in VALUES.values()}
    others = {tuple: lambda value: [_plain(each) for each in value], float: _float}
    return MappingProxyType(own | others | {dict: _map, MappingProxyType: _map, frozenset: _set})


_WAYS = _ways()
"""How values are written, by their classes: what is in none of them is in JSON as it is."""


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(map(_value, plain))
    if not isinstance(plain, dict):
        return plain
    name = plain[NAME]
    if name == "map":
        return {_value(key): _value(item) for key, item in plain["items"]}
    if name == "set":
        return frozenset(plain["items"])
    if name == "float":
        return float(plain["value"])
    if name not in VALUES:
        raise ValueError(f"{name} is none of the mesh's values")
    given = {key: _value(item) for key, item in plain.items() if key != NAME}
    return VALUES[name](**given)
