"""Calling a relay for a slot, again and again until there is a stream, each time a little later."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.tls import certificate
from clan.mesh.tls.opening import Opening, calls, dial

if TYPE_CHECKING:
    from clan.mesh.identity import Key
    from clan.mesh.link import Endpoint
    from clan.mesh.tls.opening import Script
    from clan.mesh.tls.stream import Stream
    from clan.mesh.tls.transport import Transport
    from clan.mesh.tls.wants import Proxy, Relay, Slot

FIRST, LAST = 0.5, 30.0
"""Seconds between the first two calls, and the longest: each pause is twice the one before."""
GOOD = 10.0
"""Seconds for which a stream must have been there for the pauses to begin anew."""
_FAMILIES = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}

Address = tuple[int, tuple[str, int]]


class Call:
    """One relay for one slot: what is under way, or when it is tried next, and what was wrong."""

    def __init__(self, slot: Slot, relay: Relay, proxy: Proxy | None) -> None:
        self.slot, self.relay, self.proxy = slot, relay, proxy
        self.opening: Opening | None = None
        self.stream: Stream | None = None
        self.next_at = 0.0
        self.fault = ""
        self._pause = FIRST
        self._round = 0
        self._finder: Finder | None = None

    def is_for(self, slot: Slot, relay: Relay, proxy: Proxy | None) -> bool:
        """Whether it goes on as it is for what is wanted now: its peers do not matter."""
        mine = (self.slot.id, self.slot.mark, self.slot.family, self.relay, self.proxy)
        return mine == (slot.id, slot.mark, slot.family, relay, proxy)

    def failed(self, fault: str, now: float) -> None:
        """Note that there is no stream, and when to try again."""
        if self.stream is not None and now - self.stream.since > GOOD:
            self._pause = FIRST
        self.opening = self.stream = None
        self.fault = fault
        self.next_at = now + self._pause
        self._pause = min(2 * self._pause, LAST)

    def begin(self, key: Key, scratch: bytearray, now: float, wake: int) -> bool:
        """Begin if it is time; say whether something is under way now.

        `wake` is a descriptor that is written to when a name has been looked up. Raises MeshError,
        OSError.
        """
        if self.opening is not None or self.stream is not None or now < self.next_at:
            return False
        addresses = self._addresses(wake)
        if addresses is None:
            return False
        credentials = _credentials(self.proxy) if self.proxy else None
        context = certificate.calling(pinned=bool(self.relay.certificate))
        # One place after the other, a call each.
        address = addresses[self._round % len(addresses)]
        self._round += 1

        def script(transport: Transport, buffer: bytearray) -> Script:
            return calls(
                transport,
                buffer,
                key=key,
                slot=self.slot.id,
                relay=self.relay,
                tunnel=credentials,
                context=context,
            )

        made = dial(address, self.slot.mark)
        self.opening = Opening(made, scratch, script, now, called=True)
        return True

    def _addresses(self, wake: int) -> list[Address] | None:
        """Return where to call; None while a name is looked up, which this process waits for."""
        places = (self.proxy.place,) if self.proxy else self.relay.places
        if self._finder is None:
            with contextlib.suppress(socket.gaierror):
                return _found(places, self.slot.family, socket.AI_NUMERICHOST)
            self._finder = Finder(places, self.slot.family, wake)
        if self._finder.is_alive():
            return None
        found, fault = self._finder.found, self._finder.fault
        self._finder = None
        if not found:
            raise MeshError(fault)
        return found


class Finder(threading.Thread):
    """Looks names up; `found` or `fault` is there when it is not alive any more."""

    def __init__(self, places: tuple[Endpoint, ...], family: int, wake: int) -> None:
        super().__init__(daemon=True)
        self._places, self._family, self._wake = places, family, wake
        self.found: list[Address] = []
        self.fault = ""
        self.start()

    def run(self) -> None:
        """Ask the system's resolver, which takes its time."""
        try:
            self.found = _found(self._places, self._family, 0)
        except (OSError, UnicodeError) as fault:
            names = ", ".join(each.host for each in self._places)
            self.fault = f"{names}: {fault}"
        with contextlib.suppress(OSError):
            os.write(self._wake, b"\0")


def _found(places: tuple[Endpoint, ...], family: int, flags: int) -> list[Address]:
    found = [
        (int(entry[0]), (str(entry[4][0]), int(entry[4][1])))
        for each in places
        for entry in socket.getaddrinfo(
            each.host, each.port, _FAMILIES[family], socket.SOCK_STREAM, flags=flags
        )
    ]
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return found


def _credentials(proxy: Proxy) -> str:
    """Read a proxy's credentials. Raises MeshError, OSError; neither shows any of them."""
    if not proxy.credentials:
        return ""
    path = Path(proxy.credentials)
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise MeshError(f"{path}: others can read this password; chmod 600 {path}")
        data = file.read(1024)
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if ":" not in text or not text.isprintable():
        raise MeshError(f"{path}: has to hold user:password in one line")
    return text
