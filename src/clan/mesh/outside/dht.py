"""`machine.pyz mesh dht`: puts items into the mainline DHT and looks for others (BEP 5, BEP 44).

It knows nothing of the clan: keys and sealed values come from the agent. libtorrent, Debian's, does
all of the DHT; nothing else that it can do is switched on. This machine only asks (BEP 43): it
answers nobody, and so is in nobody's table and has little to send.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
from typing import TYPE_CHECKING, Any

from clan.mesh.errors import MeshError
from clan.mesh.identity import Key
from clan.mesh.outside import blind, seam
from clan.mesh.outside.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from clan.mesh.outside.seam import Search

_EVERY = 10.0
"""Seconds between two times that the same is looked for, and until a failed put is tried again."""
_OFF = (
    *("enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_tcp", "enable_outgoing_tcp"),
    *("enable_incoming_utp", "enable_outgoing_utp"),
)


async def search(path: Path, bootstrap: Sequence[str], say: Callable[[str], None]) -> None:
    """Do what the agent at a socket asks for, until SIGTERM.

    `bootstrap` are nodes to begin with, each `HOST:PORT`. Raises MeshError without libtorrent.
    """
    dht = _Dht(path, bootstrap)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    tasks = [asyncio.create_task(dht.line.listen(say)), asyncio.create_task(dht.go_on())]
    await ended.wait()
    for each in tasks:
        each.cancel()


class _Dht:
    """This machine's part in it. Raises MeshError without libtorrent."""

    def __init__(self, path: Path, bootstrap: Sequence[str]) -> None:
        try:
            import libtorrent
        except ImportError:
            raise MeshError(
                "the DHT needs libtorrent for Python: apt install python3-libtorrent"
            ) from None
        self._torrent: Any = libtorrent
        self._bootstrap = ",".join(bootstrap)
        self._session: Any = None
        self._sources: tuple[str, ...] = ()
        self._wanted: Search | None = None
        self._is_put = False
        self._got: dict[bytes, bytes] = {}
        self.line = Line(path, seam.DHT, lambda: seam.got(self._got), self._take)
        self._alerts, waking = socket.socketpair()
        self._waking = waking  # which libtorrent writes to
        for each in (self._alerts, waking):
            each.setblocking(False)
        asyncio.get_running_loop().add_reader(self._alerts, self._hear)

    async def go_on(self) -> None:
        """Look for what is wanted again and again."""
        while True:
            await asyncio.sleep(_EVERY)
            self._ask()

    def _take(self, line: bytes) -> None:
        before, self._wanted = self._wanted, seam.read_search(line)
        self._got = {key: value for key, value in self._got.items() if key in self._wanted.get}
        if before is None or before.put != self._wanted.put:
            self._is_put = False
        self._begin(self._wanted.sources)
        self._ask()

    def _begin(self, sources: tuple[str, ...]) -> None:
        """Be there by these addresses of this machine's."""
        if sources == self._sources:
            return
        self._sources = sources
        listened = ",".join(f"[{a}]:0" if ":" in a else f"{a}:0" for a in sources)
        if self._session is not None:
            self._session.apply_settings({"listen_interfaces": listened})
            return
        self._session = self._torrent.session(
            {
                "listen_interfaces": listened,
                "alert_mask": self._torrent.alert.category_t.dht_notification,
                "dht_bootstrap_nodes": self._bootstrap,
                "dht_read_only": True,
                "enable_dht": True,
            }
            | dict.fromkeys(_OFF, False)
        )
        self._session.set_alert_fd(self._waking.fileno())

    def _ask(self) -> None:
        if self._session is None or self._wanted is None or not self._sources:
            return
        for public in self._wanted.get:
            self._session.dht_get_mutable_item(public, b"")
        if self._wanted.put is not None and not self._is_put:
            seed, value = self._wanted.put
            public = Key.of_seed(seed).public
            self._session.dht_put_mutable_item(_expanded(seed), public, value, b"")

    def _hear(self) -> None:
        self._alerts.recv(4096)
        changed = False
        for alert in self._session.pop_alerts():
            if isinstance(alert, self._torrent.dht_put_alert):
                self._is_put = self._is_put or alert.num_success > 0
            if isinstance(alert, self._torrent.dht_mutable_item_alert):
                public, value = bytes(alert.key), _value(alert)
                is_wanted = self._wanted is not None and public in self._wanted.get
                if is_wanted and value and self._got.get(public) != value:
                    self._got[public] = value
                    changed = True
        if changed:
            self.line.tell()


def _value(alert: Any) -> bytes:
    """Return what was found; nothing for what nobody of the clan can have put there."""
    try:
        value = alert.item["value"]
    except RuntimeError:  # so libtorrent says that there is none
        return b""
    return value if isinstance(value, bytes) and len(value) <= blind.LONGEST else b""


def _expanded(seed: bytes) -> bytes:
    """Return a private key as libtorrent takes it: what RFC 8032, section 5.1.5, makes of it."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 0xF8
    key[31] = key[31] & 0x3F | 0x40
    return bytes(key)
