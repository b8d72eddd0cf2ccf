"""`machine.pyz mesh …`: what the mesh does on a machine, as processes of their own.

born PATH               make this machine's identity, unless it is there; print its public half
run INSTANCE            be the agent
pump PATH               pass on what a relay's kernel cannot, as the agent says on the socket PATH
tls INSTANCE            keep the streams for machines that get nothing out but TCP 443
take INSTANCE           take in the maps on standard input, and tell the agent; print what came of
                        each
tell INSTANCE [HASH…]   print which maps and records are here, and the maps that are not named
ask INSTANCE            ask the agent the line of JSON on standard input, and print its answer
doors INSTANCE          hold doors open for the agent in the routers of this machine's uplinks
dht INSTANCE NODE…      look in the DHT for the agent, beginning with these nodes, each HOST:PORT
clock INSTANCE          at a boot, set a clock that stands before where it was
leave INSTANCE PREFIX…  take away what the agent made here; the clan's addresses are in PREFIX
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.system import StepError
from clan.mesh import identity
from clan.mesh.agent import setting, status
from clan.mesh.agent.leave import leave
from clan.mesh.agent.loop import Agent
from clan.mesh.chart.carry import Told, unpacked
from clan.mesh.chart.store import Store
from clan.mesh.clock import Notes
from clan.mesh.errors import MeshError
from clan.mesh.records import Records
from clan.mesh.relay import pump

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; a fault is one line on standard error and status 1."""
    parser = argparse.ArgumentParser(prog="machine.pyz mesh")
    parser.add_argument("--root", type=Path, default=Path("/"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("born").add_argument("path", type=Path)
    commands.add_parser("pump").add_argument("path", type=Path)
    for name in ("run", "take", "tell", "ask", "doors", "tls", "clock"):
        commands.add_parser(name).add_argument("instance")
    commands.choices["tell"].add_argument("known", nargs="*")
    leaves = commands.add_parser("leave")
    leaves.add_argument("instance")
    leaves.add_argument("prefixes", nargs="+", type=ip_network)
    searching = commands.add_parser("dht")
    searching.add_argument("instance")
    searching.add_argument("nodes", nargs="+")
    given = parser.parse_args(words)
    os.umask(0o077)
    try:
        if given.command == "born":
            _print(identity.text(identity.born(given.path).public))
            return
        if given.command == "leave":
            # Its setting is gone by now, or another's.
            leave(given.instance, given.prefixes, given.root, _print)
            return
        if given.command == "pump":
            pump.run(given.path)
            return
        place = setting.read(given.instance, given.root)
        if given.command == "tell":
            _tell(place, given.known)
        elif given.command == "dht":
            _dht(place, given.nodes)
        else:
            COMMANDS[given.command](place)
    except (StepError, OSError) as fault:
        print(fault, file=sys.stderr)  # noqa: T201 (its answer)
        sys.exit(1)


def _run(given: setting.Setting) -> None:
    agent = Agent(given, _print)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.closing(agent):
        agent.start()
        while True:
            agent.turn()


def _tls(given: setting.Setting) -> None:
    # Imported here: the agent, of which there is one on every machine, does without.
    from clan.mesh.tls.service import Service

    # A socket for each peer of each slot: more than the 1024 that a process has at first.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    service = Service(given, _print)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.closing(service):
        service.start()
        while True:
            service.turn()


def _take(given: setting.Setting) -> None:
    store = Store(given.state, given.root)
    verdicts = [store.offer(each) for each in unpacked(sys.stdin.buffer.read())]
    # Without an agent there is nobody to tell: it reads the map when it starts.
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        status.ask(given.socket, {"ask": "reload"})
    _print(json.dumps([{"outcome": each.outcome, "reason": each.reason} for each in verdicts]))


def _tell(given: setting.Setting, known: Sequence[str]) -> None:
    maps = Store(given.state, given.root).held().maps
    records = Records(given.state / "records").held
    told = Told(
        held=frozenset(each.hash.hex() for each in maps),
        maps=tuple(each.raw for each in maps if each.hash.hex() not in known),
        records={identity: record.raw for identity, record in records.items()},
    )
    _print(json.dumps(told.to_json()))


def _ask(given: setting.Setting) -> None:
    question = json.loads(sys.stdin.read())
    try:
        answer = status.ask(given.socket, question)
        if question.get("ask") == "status" and given.tls is not None:
            from clan.mesh.tls.report import name_relays

            # Without streams there is nobody to ask.
            with contextlib.suppress(OSError):
                name_relays(answer, status.ask(given.streams, {}))
        _print(json.dumps(answer))
    except (FileNotFoundError, ConnectionRefusedError):
        raise MeshError(
            f"the agent of the mesh {given.instance} does not run here: "
            f"`systemctl status clan-mesh-{given.instance}` tells more"
        ) from None


def _doors(given: setting.Setting) -> None:
    import asyncio

    from clan.mesh.outside import doors

    asyncio.run(doors.hold(given.line, _print))


def _dht(given: setting.Setting, nodes: Sequence[str]) -> None:
    import asyncio

    from clan.mesh.outside import dht

    asyncio.run(dht.search(given.line, nodes, _print))


def _clock(given: setting.Setting) -> None:
    top = Store(given.state, given.root).held().top
    Notes(given.state).apply(top.made if top else 0, _print)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (its answer, or the journal)


COMMANDS = {
    "run": _run,
    "take": _take,
    "ask": _ask,
    "doors": _doors,
    "tls": _tls,
    "clock": _clock,
}

if __name__ == "__main__":
    main()
