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
from clan.mesh.relay import desk
from clan.mesh.relay.desk import Asked, Desk, Flow, Leg, Post, State
from clan.mesh.relay.forward import Forwarding
from clan.mesh.relay.ports import DOOR, PORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from clan.mesh.relay.message import Call
    from clan.mesh.relay.table import Passed

PUMP = "pump.sock"
"""In a relay's folder: what the program that passes datagrams on listens at."""
SOON, LATER = 1.0, 10.0
"""Seconds until datagrams are counted after a change, and from then on."""


class Host:
    """This machine's side of a relay; `say` is for people.

    `folder` is gone at the next boot; what is opened in others' firewalls stays, and is noted in
    `opened`. Raises OSError where the kernel lacks netlink.
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
        self._socket = folder / PUMP
        self._opened = opened
        self._say = say
        self.forwarding = Forwarding()
        self._forwards = True
        self.state = self._read()
        self._uplinks: Mapping[str, int] = {}
        self._kept: list[object] | None = None
        self._pumped: list[Any] | None = None
        self._count_at = math.inf

    def close(self) -> None:
        """Let go; what passes, passes."""
        self.forwarding.close()

    @property
    def due(self) -> float:
        """When `turn` has something to do."""
        return self._count_at

    def settle(self, *, uplinks: Mapping[str, int], now: float) -> None:
        """Have what follows from another map, or from other networks around.

        `uplinks` are their interfaces' indices by name. Raises OSError, StepError.
        """
        self._uplinks = uplinks
        self._forwards = True
        self.forwarding.settle(uplinks)
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
        self.forwarding.settle(self._uplinks)
        seen = self.forwarding.counts() if self._forwards else {}
        self._have(desk.count(self.state, seen, now), now)
        if self._pumped:
            self._pump(self._pumped)  # it may have been restarted
        self._count_at = now + LATER if self.state.flows else math.inf

    def _have(self, state: State, now: float) -> None:
        self.state = state
        flows = [_essence(flow) for flow in state.flows]
        if flows != self._kept:
            self._keep()
            self._kept = flows
            self._count_at = min(self._count_at, now + SOON) if flows else math.inf
        forwarded = {each.flow.number for each in self._forward()}
        pumped = [
            [
                [leg.local, leg.port, leg.mark, leg.endpoint.host, leg.endpoint.port]
                for leg in flow.legs
            ]
            for flow in state.flows
            if flow.is_ready and flow.number not in forwarded
        ]
        if pumped != self._pumped:
            self._pump(pumped)
            self._pumped = pumped

    def _forward(self) -> list[Passed]:
        """Have the kernel pass on what it can, and return that. Raises OSError."""
        if not self._forwards:
            return []
        passed = self.forwarding.passed(self.state.flows)
        try:
            self.forwarding.have(passed)
        except StepError as fault:
            self._forwards = False
            if passed:
                self._say(
                    "the kernel does not pass relayed datagrams on: a program does, at a part of "
                    f"the speed: {fault}"
                )
            return []
        return passed

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


def _essence(flow: Flow) -> object:
    """Return what its datagrams are known by, and who passes them on: not when one last came."""
    legs = tuple((leg.side, leg.endpoint, leg.local, leg.port, leg.mark) for leg in flow.legs)
    return flow.number, flow.seat, legs, flow.is_cut


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


def end(folder: Path) -> None:
    """Stop the program of the relay whose folder this is, if there is one. Raises StepError."""
    if (folder / PUMP).is_socket():
        run(["systemctl", "stop", _unit(folder)])
        (folder / PUMP).unlink(missing_ok=True)


def _unit(folder: Path) -> str:
    """Return the name of the unit that the program runs in."""
    return f"clan-relay-{folder.name}.service"


def _begin(path: Path) -> None:
    """Run the program in a unit of its own, and wait until it listens. Raises StepError."""
    unit = _unit(path.parent)
    words = ["systemd-run", "--quiet", "--collect", f"--unit={unit}"]
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
