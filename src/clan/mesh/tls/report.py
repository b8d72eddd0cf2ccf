"""How the streams are, as JSON values for who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from clan.mesh.tls.calls import Call
    from clan.mesh.tls.stream import Stream


def name_relays(status: dict[str, Any], streams: dict[str, Any]) -> None:
    """Write into an agent's status by which relay each link goes that is a stream's.

    The agent does not know it: `streams` is what the process says that keeps them.
    """
    for name, peer in status.get("peers", {}).items():
        for link in peer["links"]:
            if link["kind"] == "tls":
                own, _, their = link["id"].rpartition("/")[2].partition("-")
                link["relay"] = _relay(streams["streams"], name, own, their, status["name"])


def _relay(
    streams: Iterable[Mapping[str, Any]], peer: str, own: str, their: str, here: str
) -> str | None:
    for each in streams:
        if not each["called"] and (each["machine"], each["slot"]) == (peer, their):
            return here
    ways = [e for e in streams if e["called"] and e["slot"] == own and their in e["reaches"]]
    ways.sort(key=lambda each: bool(each["suspect"]))
    return str(ways[0]["machine"]) if ways else None


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
                "reaches": sorted({port.id for port in stream.numbers}) if call else [],
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
