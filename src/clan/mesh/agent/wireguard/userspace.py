"""wireguard-go, by its socket (https://www.wireguard.com/xplatform/)."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from clan.machine.wireguard.backend import Userspace as Daemon
from clan.mesh.agent.wireguard.device import Device, Endpoint, Peer, Wireguard, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.wireguard.device import Change

_PATIENCE = 5.0
"""Seconds that wireguard-go may take to answer."""


class InUserspace(Wireguard):
    """wireguard-go's, by its socket (https://www.wireguard.com/xplatform/)."""

    def __init__(self, kernel: Kernel, name: str, *, sockets: Path = Daemon.sockets) -> None:
        super().__init__(name)
        self._kernel = kernel
        self._socket = sockets / f"{name}.sock"

    def answers(self) -> bool:
        """Whether the daemon is there."""
        try:
            self.read()
        except OSError:
            return False
        return True

    def read(self) -> Device:
        """Ask for all it knows."""
        return _device(self._ask("get=1\n"))

    def peer(self, key: bytes) -> Peer | None:
        """Ask for all it knows, and read one: it is asked often."""
        pairs = self._ask("get=1\n")
        begins = [i for i, (word, _) in enumerate(pairs) if word == "public_key"]
        for begin, end in zip(begins, [*begins[1:], len(pairs)], strict=True):
            if pairs[begin][1] == key.hex():
                return _device(pairs[begin:end]).peers[key]
        return None

    def configure(self, *, private: bytes, port: int, mark: int) -> None:
        """Set them in one request."""
        self._ask(f"set=1\nprivate_key={private.hex()}\nlisten_port={port}\nfwmark={mark}\n")

    def change(self, changes: Iterable[Change]) -> None:
        """Set all in one request."""
        lines = [line for change in changes for line in _lines(change)]
        if lines:
            self._ask("\n".join(["set=1", *lines, ""]))

    def remove(self) -> None:
        """Stop the daemon, and delete the interface, which is ours."""
        Daemon().remove(self.name)
        there = self._kernel.interface(self.name)
        if there is not None:
            self._kernel.delete(there.index)

    def _ask(self, text: str) -> list[tuple[str, str]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(_PATIENCE)
            asked.connect(str(self._socket))
            asked.sendall(f"{text}\n".encode())
            answer = b""
            while not answer.endswith(b"\n\n"):
                part = asked.recv(1 << 16)
                if not part:
                    raise OSError(errno.EPIPE, f"wireguard-go for {self.name} ended")
                answer += part
        pairs = [(word, rest) for line in answer.decode().split()
                 for word, _, rest in [line.partition("=")]]  # fmt: skip
        code = abs(int(dict(pairs)["errno"]))
        if code:
            raise OSError(code, f"wireguard-go refused it: {os.strerror(code)}", self.name)
        return pairs


def _device(pairs: Iterable[tuple[str, str]]) -> Device:
    """Read the device, and after it its peers, each from its key to the next one's."""
    own: dict[str, str] = {}
    peers: dict[bytes, dict[str, str]] = {}
    allowed: dict[bytes, list[str]] = {}
    about, networks = own, list[str]()
    for word, rest in pairs:
        if word == "public_key":
            key = bytes.fromhex(rest)
            about, networks = peers.setdefault(key, {}), allowed.setdefault(key, [])
        elif word == "allowed_ip":
            networks.append(rest)
        else:
            about[word] = rest
    return Device(
        key=fingerprint(bytes.fromhex(own.get("private_key", ""))),
        port=int(own.get("listen_port", 0)),
        mark=int(own.get("fwmark", 0)),
        peers={
            key: Peer(
                endpoint=_read_endpoint(found["endpoint"]) if "endpoint" in found else None,
                allowed=frozenset(map(ip_network, allowed[key])),
                handshake=int(found.get("last_handshake_time_sec", 0))
                + int(found.get("last_handshake_time_nsec", 0)) / 1e9,
                received=int(found.get("rx_bytes", 0)),
                sent=int(found.get("tx_bytes", 0)),
                keepalive=int(found.get("persistent_keepalive_interval", 0)),
            )
            for key, found in peers.items()
        },
    )


def _read_endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    address, _, zone = host.strip("[]").partition("%")
    return Endpoint(ip_address(address), int(port), socket.if_nametoindex(zone) if zone else 0)


def _lines(change: Change) -> Iterator[str]:
    """Yield wireguard-go's lines for a change."""
    if change.remove or change.fresh:
        yield f"public_key={change.key.hex()}"
        yield "remove=true"
    if change.remove:
        return
    yield f"public_key={change.key.hex()}"
    if change.allowed is None:
        yield "update_only=true"
    if change.endpoint is not None:
        yield f"endpoint={_written(change.endpoint)}"
    if change.keepalive is not None:
        yield f"persistent_keepalive_interval={change.keepalive}"
    if change.allowed is not None:
        yield "replace_allowed_ips=true"
        yield from (f"allowed_ip={each}" for each in sorted(change.allowed, key=str))


def _written(endpoint: Endpoint) -> str:
    if endpoint.address.version == 4:  # noqa: PLR2004 (the version of IP)
        return f"{endpoint.address}:{endpoint.port}"
    zone = f"%{socket.if_indextoname(endpoint.zone)}" if endpoint.zone else ""
    return f"[{endpoint.address}{zone}]:{endpoint.port}"
