"""Showing a race to people: what was tried, when, with what result, and why this one won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clan.cli.output import USUAL_WIDTH, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.networks.attempt import Attempt
    from clan.networks.choose import Ranked


def explain(
    machine: str,
    attempts: Sequence[Attempt],
    excluded: Sequence[Ranked],
    *,
    action: str,
    width: int = USUAL_WIDTH,
) -> str:
    """Return the race as lines of text of at most `width` columns, in rank order."""
    lines = [f"{machine}, for {action} use, best first:"]
    names = [attempt.route.network.name for attempt in attempts]
    names += [ranked.route.network.name for ranked in excluded]
    names_width = max(map(len, names), default=0)

    def row(name: str, text: str) -> None:
        first = f"  {name:<{names_width}}  "
        for line in wrapped(text, width - len(first)):
            lines.append(first + line)
            first = " " * len(first)

    for attempt in attempts:
        row(attempt.route.network.name, attempt.why)
        row("", _course(attempt))
    for ranked in excluded:
        row(ranked.route.network.name, f"not tried: {ranked.why}")
    lines += wrapped(_verdict(attempts), width)
    return "\n".join(lines)


def explain_json(
    machine: str, attempts: Sequence[Attempt], excluded: Sequence[Ranked], *, action: str
) -> dict[str, Any]:
    """Return the race as JSON values."""
    return {
        "machine": machine,
        "action": action,
        "attempts": [attempt.to_json() for attempt in attempts],
        "excluded": [{"network": item.route.network.name, "why": item.why} for item in excluded],
    }


def _course(attempt: Attempt) -> str:
    lap = attempt.lap
    if lap.started is None:
        return "not needed"
    began = f"from {_ms(lap.started)}"
    if attempt.connection is not None:
        return (
            f"{began}: connected to {attempt.connection.address} at {_ms(lap.ended or 0)}, "
            f"round trip {_ms(attempt.connection.rtt)}"
        )
    if lap.error is not None:
        return f"{began}: {lap.error} (at {_ms(lap.ended or 0)})"
    if lap.ended is None:
        return f"{began}: no answer yet when another had won"
    return f"{began}: connected too, at {_ms(lap.ended)}, and given up for a better one"


def _verdict(attempts: Sequence[Attempt]) -> str:
    for place, attempt in enumerate(attempts):
        if attempt.connection is None:
            continue
        if place == 0:
            return f"{attempt.route.network.name} won: it ranks first, and it answered"
        silent = ", ".join(better.route.network.name for better in attempts[:place])
        return (
            f"{attempt.route.network.name} won: the best of those that answered ({silent} did not)"
        )
    return "none won"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
