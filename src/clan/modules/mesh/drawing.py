"""The paths between machines as a picture: SVG 1.1 on a white ground, that needs nothing else.

Machines stand on a circle. A line is a path that lives, coloured by what it runs over and labelled
with its round trip; a broken red one is a pair that wants a path and has none. Pairs that have
nothing to say to each other are thin and grey. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from clan.modules.mesh.seen import in_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from clan.modules.mesh.seen import PeerSeen, Seen

COLORS = {
    "lan": "#1a7f37",
    "internet": "#0969da",
    "overlay": "#8250df",
    "relay": "#bc4c00",
    "tls": "#bf3989",
}
LOST, IDLE, TEXT, FAINT = "#cf222e", "#d0d7de", "#1f2328", "#59636e"
BOX = (132, 40)
"""Width and height of a machine's box."""
LETTERS = 16
"""Letters of a name that a box has room for."""
FEW = 8
"""Machines up to which each path has its round trip beside it."""
FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A pair of machines: the path as either end sees it, the nearest news first."""

    one: str
    other: str
    state: str
    kind: str | None
    round_trip: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; the round trip in seconds."""
        return {
            "machines": [self.one, self.other],
            "state": self.state,
            "kind": self.kind,
            "roundTrip": self.round_trip,
        }


def edges(seen: Mapping[str, Seen | None]) -> list[Edge]:
    """Return each pair of machines once, by what those that answered see of it."""
    found = []
    names = list(seen)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            sides = [*_side(seen[one], other), *_side(seen[other], one)]
            if sides:
                # What either end has lost is lost; a path is one that at least one end uses.
                best = min(sides, key=lambda side: ORDER.index(side.state))
                path = best.path if best.state == "connected" else None
                found.append(
                    Edge(
                        one=one,
                        other=other,
                        state=best.state,
                        kind=path.kind if path else None,
                        round_trip=path.round_trip if path else None,
                    )
                )
    return found


ORDER = ("lost", "connected", "idle")


def _side(seen: Seen | None, other: str) -> Iterator[PeerSeen]:
    if seen is not None and other in seen.peers:
        yield seen.peers[other]


def draw(title: str, seen: Mapping[str, Seen | None]) -> str:
    """Return the picture; machines that did not answer are None, and grey."""
    names = list(seen)
    radius = max(190.0, len(names) * 26.0)
    width, height = 2 * radius + BOX[0] + 60, 2 * radius + BOX[1] + 130
    places = _places(names, width / 2, 70 + radius + BOX[1] / 2, radius)
    pairs = edges(seen)
    size = f"width='{width:.0f}' height='{height:.0f}'"
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' {FONT}>",
        f"<title>{_text(title)}</title>",
        f"<rect {size} fill='#ffffff'/>",
        f"<text x='24' y='36' font-size='18' font-weight='600' fill='{TEXT}'>{_text(title)}</text>",
    ]
    # What matters is drawn over what does not.
    for edge in sorted(pairs, key=lambda each: -ORDER.index(each.state)):
        lines += _line(edge, places, bold=len(names) <= FEW)
    if len(names) <= FEW:
        for edge in pairs:
            lines += _label(edge, places)
    for name in names:
        lines += _box(name, seen[name], places[name])
    lines += _legend(pairs, height - 28)
    return "\n".join([*lines, "</svg>", ""])


def _places(
    names: Sequence[str], x: float, y: float, radius: float
) -> dict[str, tuple[float, float]]:
    found = {}
    for number, name in enumerate(names):
        angle = 2 * math.pi * number / max(1, len(names)) - math.pi / 2
        found[name] = (x + radius * math.cos(angle), y + radius * math.sin(angle))
    return found


def _line(edge: Edge, places: Mapping[str, tuple[float, float]], *, bold: bool) -> Iterator[str]:
    (x, y), (to_x, to_y) = places[edge.one], places[edge.other]
    color, width, more = IDLE, 1.0, ""
    if edge.state == "lost":
        color, width, more = LOST, 2.0, " stroke-dasharray='7 5'"
    elif edge.state == "connected":
        color, width = COLORS.get(edge.kind or "", TEXT), 2.5 if bold else 1.2
    yield (
        f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{to_x:.1f}' y2='{to_y:.1f}' stroke='{color}' "
        f"stroke-width='{width}'{more}/>"
    )


def _label(edge: Edge, places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    if edge.round_trip is None:
        return
    (x, y), (to_x, to_y) = places[edge.one], places[edge.other]
    order = list(places)
    between = abs(order.index(edge.one) - order.index(edge.other))
    # Nearer to one end, so that the labels of lines that cross in the middle do not; but neighbours
    # stand so near to each other that there is room in the middle alone.
    part = 0.5 if between in {1, len(order) - 1} else 0.4
    at_x, at_y = x + (to_x - x) * part, y + (to_y - y) * part
    text = in_ms(edge.round_trip)
    wide = 7.2 * len(text) + 8
    yield (
        f"<rect x='{at_x - wide / 2:.1f}' y='{at_y - 10:.1f}' width='{wide:.1f}' height='20' "
        "rx='4' fill='#ffffff'/>"
    )
    yield (
        f"<text x='{at_x:.1f}' y='{at_y + 4.5:.1f}' font-size='13' text-anchor='middle' "
        f"fill='{COLORS.get(edge.kind or '', TEXT)}'>{_text(text)}</text>"
    )


def _box(name: str, seen: Seen | None, at: tuple[float, float]) -> Iterator[str]:
    x, y = at[0] - BOX[0] / 2, at[1] - BOX[1] / 2
    border, ink = (IDLE, FAINT) if seen is None else (TEXT, TEXT)
    short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    under = "no answer" if seen is None else f"map {seen.map[0]}.{seen.map[1]}"
    yield f"<g><title>{_text(name)}</title>"
    yield (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{BOX[0]}' height='{BOX[1]}' rx='8' fill='#ffffff' "
        f"stroke='{border}' stroke-width='1.5'/>"
    )
    for text, down, size, color in ((short, 17, 13, ink), (under, 32, 11, FAINT)):
        yield (
            f"<text x='{at[0]:.1f}' y='{y + down:.1f}' font-size='{size}' text-anchor='middle' "
            f"fill='{color}'>{_text(text)}</text>"
        )
    yield "</g>"


def _legend(pairs: Sequence[Edge], y: float) -> Iterator[str]:
    there = {each.kind for each in pairs if each.state == "connected"}
    rows = [(kind, color, "") for kind, color in COLORS.items() if kind in there]
    states = {each.state for each in pairs}
    rows += [("no way", LOST, " stroke-dasharray='7 5'")] if "lost" in states else []
    rows += [("idle", IDLE, "")] if "idle" in states else []
    x = 24.0
    for name, color, more in rows:
        yield (
            f"<line x1='{x:.0f}' y1='{y:.0f}' x2='{x + 24:.0f}' y2='{y:.0f}' stroke='{color}' "
            f"stroke-width='2.5'{more}/>"
        )
        yield (
            f"<text x='{x + 30:.0f}' y='{y + 4.5:.0f}' font-size='13' fill='{TEXT}'>{name}</text>"
        )
        x += 50 + 8 * len(name)


def _text(text: str) -> str:
    """Return text as XML 1.0 may hold it."""
    shown = (each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return escape("".join(shown))
