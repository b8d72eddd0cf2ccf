"""What makes a WireGuard interface: the kernel, or wireguard-go. All else is the same for both."""

from __future__ import annotations

import json
import re
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.machine import static
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "wireguard-go"
"""What makes interfaces where the kernel does not."""

_START = 5.0
"""Seconds that wireguard-go has to make its interface; it takes some hundredths."""

_PROBE = "clan-probe"
"""An interface that is there for a moment, to see whether it can be."""

_NO_KERNEL = re.compile("Unknown device type|not supported|No such device")


class Backend(ABC):
    """What makes the interface. `wg` and `ip` do all the rest, the same for each."""

    @abstractmethod
    def has(self, shown: Mapping[str, Any]) -> bool:
        """Whether an interface, as `ip -d` shows it, is this backend's."""

    @abstractmethod
    def create(self, name: str) -> bool:
        """Make the interface, not up yet; False where this cannot be had. Raises StepError."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take the interface away. Raises StepError."""


class Kernel(Backend):
    """The module that Linux has since 5.6."""

    def has(self, shown: Mapping[str, Any]) -> bool:
        """Whether the interface is of the kernel's kind."""
        return bool(shown.get("linkinfo", {}).get("info_kind") == "wireguard")

    def create(self, name: str) -> bool:
        """Add a link of the type `wireguard`; the kernel loads its module if it has one."""
        try:
            run(["ip", "link", "add", name, "type", "wireguard"])
        except StepError as fault:
            if _NO_KERNEL.search(str(fault)):
                return False
            raise
        return True

    def remove(self, name: str) -> None:
        """Delete the link."""
        run(["ip", "link", "delete", name])


class Userspace(Backend):
    """wireguard-go, which shows itself as a TUN interface and a socket that `wg` finds."""

    sockets = Path("/var/run/wireguard")

    def has(self, shown: Mapping[str, Any]) -> bool:
        """Whether there is the daemon's socket to a TUN interface."""
        is_tun = shown.get("linkinfo", {}).get("info_kind") == "tun"
        return is_tun and self._socket(shown["ifname"]).is_socket()

    def create(self, name: str) -> bool:
        """Run the daemon in a transient unit, and wait until it can be spoken to."""
        program = static.find(PROGRAM)
        if program is None:
            return False
        unit = self.unit(name)
        words = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", "--property=Type=exec"]
        words += [f"--description=WireGuard interface {name}", "--setenv=LOG_LEVEL=error"]
        self._socket(name).unlink(missing_ok=True)  # of one that was killed
        run([*words, program, "--foreground", name])
        deadline = time.monotonic() + _START
        while not self._socket(name).is_socket():
            if time.monotonic() > deadline:
                said = run(["journalctl", "-q", "-n", "3", "-o", "cat", "-u", unit]).strip()
                raise StepError(f"wireguard-go did not make the interface {name}: {said}")
            time.sleep(0.02)
        # As the kernel's: no address of its own making.
        run(["ip", "link", "set", name, "addrgenmode", "none"])
        return True

    def remove(self, name: str) -> None:
        """Stop the daemon, whose interface goes with it; one that others run loses its socket."""
        try:
            run(["systemctl", "stop", self.unit(name)])
        except StepError:
            self._socket(name).unlink(missing_ok=True)

    @staticmethod
    def unit(name: str) -> str:
        """Return the unit of an interface's daemon."""
        return f"clan-wireguard-{name}.service"

    def _socket(self, name: str) -> Path:
        return self.sockets / f"{name}.sock"


_BACKENDS: tuple[Backend, ...] = (Kernel(), Userspace())


def available() -> bool:
    """Whether an interface can be made here at all. Raises StepError."""
    return static.find(PROGRAM) is not None or in_kernel()


def in_kernel() -> bool:
    """Whether the kernel makes one: tried, as no list of modules tells it. Raises StepError."""
    kernel = Kernel()
    if not kernel.create(_PROBE):
        return False
    kernel.remove(_PROBE)
    return True


def shown(name: str) -> dict[str, Any] | None:
    """Return the interface as `ip` shows it, None where there is none. Raises StepError."""
    if name not in {known for _, known in socket.if_nameindex()}:
        return None
    seen: dict[str, Any] = json.loads(run(["ip", "-j", "-d", "address", "show", "dev", name]))[0]
    backend_of(seen)
    return seen


def backend_of(shown: Mapping[str, Any]) -> Backend:
    """Return what made an interface. Raises StepError for one that is not WireGuard's."""
    for backend in _BACKENDS:
        if backend.has(shown):
            return backend
    raise StepError(f"there is an interface {shown['ifname']} already, which is not WireGuard's")


def created(name: str) -> dict[str, Any]:
    """Make an interface by the first backend that can, and return it as `ip` shows it."""
    if not any(backend.create(name) for backend in _BACKENDS):
        raise StepError("this kernel has no WireGuard, and wireguard-go is not installed")
    made = shown(name)
    if made is None:
        raise StepError(f"the interface {name} went away while it was made")
    return made
