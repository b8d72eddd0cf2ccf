"""A machine as a relay: it takes registrations, and has the kernel or a program pass flows on.

What is decided is `desk`'s. Who is registered is on the disk until the next boot, so that an agent
that was restarted knows what its kernel still does.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clan.machine import firewalls
from clan.machine.layout import write
from clan.machine.system import StepError, run
from clan.mesh.agent import status
from clan.mesh.link import Endpoint
from clan.mesh.relay import desk, table
from clan.mesh.relay.desk import Asked, Desk, Flow, Leg, Post, State
from clan.mesh.relay.nat import Nat
from clan.mesh.relay.ports import DOOR, PORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from clan.mesh.relay.message import Call

SOON, LATER = 1.0, 10.0
"""Seconds until datagrams are counted after a change, and from then on."""


class Host:
    """This machine's side of a relay; `say` is for people.

    `folder` is gone at the next boot; what is opened in others' firewalls stays, and is noted in
    `opened`. Raises OSError where connections are not tracked.
    """

    def __init__(
        self,
        identity: bytes,
        joins: Callable[[bytes, bytes], bool],
        folder: Path,
        opened: Path,
        say: Callable[[str], None],
    ) -> None:
        self._desk = Desk(own=identity, secret=secrets.token_bytes(32), joins=joins)
        self._file = folder / "flows.json"
        self._socket = folder / "pump.sock"
        self._opened = opened
        self._say = say
        self.nat = Nat(folder / "forwarding")
        self.state = self._read()
        self._uplinks: tuple[str, ...] = ()
        self._pumped: list[Any] | None = None
        self._count_at = math.inf

    def close(self) -> None:
        """Let go; what passes, passes."""
        self.nat.close()

    @property
    def due(self) -> float:
        """When `turn` has something to do."""
        return self._count_at

    def settle(self, *, uplinks: Iterable[str], now: float) -> None:
        """Have what follows from another map, or from other networks around.

        Raises OSError, StepError.
        """
        self._uplinks = tuple(sorted(uplinks))
        self._have(self._desk.revise(self.state), now)

    def take(self, asked: Asked, now: float) -> list[Post | Call]:
        """Take an ask in, have what follows, and return what is to be said to whom.

        Raises OSError, StepError.
        """
        state, said = self._desk.take(self.state, asked, now)
        self._have(state, now)
        return said

    def turn(self, now: float) -> None:
        """Look at what passes, when that is due. Raises OSError, StepError."""
        if now < self._count_at:
            return
        state, blocked = desk.count(self.state, self.nat.counts(), now)
        if blocked:
            self._say(
                "the kernel does not pass relayed datagrams on, as somebody's rules drop what is "
                "forwarded: a program passes them on, at a part of the speed"
            )
        self._have(state, now)
        if self._pumped:
            self._pump(self._pumped)  # it may have been restarted
        self._count_at = now + LATER if self.state.flows else math.inf

    def _have(self, state: State, now: float) -> None:
        self.state = state
        passes = table.passed(state.flows)
        told = table.Told(
            flows=state.flows,
            uplinks=self._uplinks,
            shut=self.nat.forward() if passes else (),
        )
        if self.nat.have(told):
            self._keep()
            self._count_at = min(self._count_at, now + SOON) if state.flows else math.inf
        pumped = [
            [
                [leg.local, leg.port, leg.mark, leg.endpoint.host, leg.endpoint.port]
                for leg in flow.legs
            ]
            for flow in state.flows
            if flow.is_ready and not flow.in_kernel
        ]
        if pumped != self._pumped:
            self._pump(pumped)
            self._pumped = pumped

    def _pump(self, flows: list[Any]) -> None:
        """Tell the program what to pass on; begin it where there is something."""
        try:
            answer = status.ask(self._socket, {"flows": flows})
        except OSError:
            if not flows:
                firewalls.settle(self._opened, [])
                return
            ports = f"{PORTS.start}-{PORTS.stop - 1}"
            firewalls.settle(self._opened, [("udp", ports, ""), ("udp", str(DOOR), "")])
            _begin(self._socket)
            answer = status.ask(self._socket, {"flows": flows})
        for fault in answer.get("faults", ()):
            self._say(f"a relayed pair cannot be passed on: {fault}")

    def _keep(self) -> None:
        flows = json.dumps([asdict(flow) for flow in self.state.flows], default=bytes.hex)
        write(self._file, flows.encode(), 0o600)

    def _read(self) -> State:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            return State(flows=tuple(map(_flow, json.loads(self._file.read_bytes()))))
        return State()


def _flow(value: dict[str, Any]) -> Flow:
    sides = tuple((bytes.fromhex(key), id_) for key, id_ in value["sides"])
    legs = tuple(
        Leg(
            **{
                **leg,
                "side": (bytes.fromhex(leg["side"][0]), leg["side"][1]),
                "endpoint": Endpoint(**leg["endpoint"]),
            }
        )
        for leg in value["legs"]
    )
    return Flow(**{**value, "sides": sides, "legs": legs})


def _begin(path: Path) -> None:
    """Run the program in a unit of its own, and wait until it listens. Raises StepError."""
    unit = f"clan-relay-{path.parent.name}"
    words = ["systemd-run", "--quiet", "--collect", f"--unit={unit}.service"]
    words += ["--property=Restart=always", "--description=Datagrams that clan relays"]
    path.unlink(missing_ok=True)
    # This program itself, told to do something else.
    own = sys.orig_argv
    own = own[1 : own.index("run")] if "run" in own else ["-m", "clan.mesh"]
    run([*words, sys.executable, *own, "pump", str(path)])
    deadline = time.monotonic() + 5
    while not path.is_socket():
        if time.monotonic() > deadline:
            raise StepError(f"{unit} did not begin: journalctl -u {unit}")
        time.sleep(0.02)
