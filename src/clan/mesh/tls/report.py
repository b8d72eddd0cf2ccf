"""How the streams are, as JSON values for who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from clan.mesh.tls.calls import Call
    from clan.mesh.tls.stream import Stream


def report(
    calls: Iterable[Call],
    streams: Mapping[Stream, Call | None],
    name: Callable[[bytes], str],
    now: float,
) -> dict[str, Any]:
    """Return what is called, and what there is; `name` is what people call an identity."""
    return {
        "calls": [
            {
                "slot": call.slot.id,
                "relay": name(call.relay.identity),
                "there": call.stream is not None,
                "fault": "" if call.stream else call.fault,
            }
            for call in calls
        ],
        "streams": [
            {
                "machine": name(stream.port.identity),
                "slot": call.slot.id if call else stream.port.id,
                "called": call is not None,
                "seconds": round(now - stream.since, 3),
                "received": stream.received,
                "sent": stream.sent,
                "dropped": stream.dropped,
                "suspect": stream.suspect(now),
            }
            for stream, call in streams.items()
        ],
    }
