"""What the clan's file says to a machine of streams: where it takes them, by whom it calls.

It is part of the setting that the generation lays on the machine. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.mesh.chart.canonical import Fields, row
from clan.mesh.chart.links import Served
from clan.mesh.link import Endpoint
from clan.mesh.tls.wants import Listen, Proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

ANYWHERE, HERE = "::", "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """It; without a field, this machine takes no streams and calls others itself."""

    served: Served | None = None
    """Where others find the streams' end."""
    local: int = 0
    """The TCP port on the loopback that the web server passes streams on to, if there is one."""
    proxy: Proxy | None = None
    """What relays are called through."""

    @property
    def listen(self) -> tuple[Listen, ...]:
        """Where the process is to listen."""
        if self.served is None:
            return ()
        if self.served.name:
            return (Listen(place=Endpoint(host=HERE, port=self.local), web=True),)
        return (Listen(place=Endpoint(host=ANYWHERE, port=self.served.port)),)


def value(told: Told) -> Mapping[str, Any]:
    """Return it as a JSON value."""
    served, proxy = told.served, told.proxy
    return {
        "served": [[served.port, served.name, served.path]] if served else [],
        "local": told.local,
        "proxy": [[proxy.place.host, proxy.place.port, proxy.credentials]] if proxy else [],
    }


def read(written: Any, what: str) -> Told:
    """Read what `value` returned. Raises MeshError; `what` names it in the message."""
    fields = Fields(written, what)
    served = [row(each, (int, str, str), what) for each in fields.several("served", 1)]
    proxy = [row(each, (str, int, str), what) for each in fields.several("proxy", 1)]
    told = Told(
        served=next((Served(port=p, name=n, path=h) for p, n, h in served), None),
        local=fields.number("local", 0, 65535),
        proxy=next(
            (Proxy(place=Endpoint(host=h, port=p), credentials=c) for h, p, c in proxy), None
        ),
    )
    fields.end()
    return told
