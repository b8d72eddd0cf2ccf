"""`machine.pyz mesh …`: what the mesh does on a machine, as processes of their own.

born PATH        make this machine's identity, unless it is there; print its public half
run INSTANCE     be the agent
take INSTANCE    take in the map on standard input, and tell the agent; print what came of it
ask INSTANCE     ask the agent the line of JSON on standard input, and print its answer
doors INSTANCE   hold doors open for the agent in the routers of this machine's uplinks
dht INSTANCE NODE…   look in the DHT for the agent, beginning with these nodes, each HOST:PORT
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.system import StepError
from clan.mesh import identity
from clan.mesh.agent import setting, status
from clan.mesh.agent.loop import Agent
from clan.mesh.chart.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; a fault is one line on standard error and status 1."""
    parser = argparse.ArgumentParser(prog="machine.pyz mesh")
    parser.add_argument("--root", type=Path, default=Path("/"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("born").add_argument("path", type=Path)
    for name in ("run", "take", "ask", "doors"):
        commands.add_parser(name).add_argument("instance")
    searching = commands.add_parser("dht")
    searching.add_argument("instance")
    searching.add_argument("nodes", nargs="+")
    given = parser.parse_args(words)
    os.umask(0o077)
    try:
        if given.command == "born":
            _print(identity.text(identity.born(given.path).public))
        elif given.command == "dht":
            _dht(setting.read(given.instance, given.root), given.nodes)
        else:
            COMMANDS[given.command](setting.read(given.instance, given.root))
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


def _take(given: setting.Setting) -> None:
    verdict = Store(given.state, given.root).offer(sys.stdin.buffer.read())
    # Without an agent there is nobody to tell: it reads the map when it starts.
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        status.ask(given.socket, {"ask": "reload"})
    _print(json.dumps({"outcome": verdict.outcome.value, "reason": verdict.reason}))


def _ask(given: setting.Setting) -> None:
    _print(json.dumps(status.ask(given.socket, json.loads(sys.stdin.read()))))


def _doors(given: setting.Setting) -> None:
    import asyncio

    from clan.mesh.outside import doors

    asyncio.run(doors.hold(given.line, _print))


def _dht(given: setting.Setting, nodes: Sequence[str]) -> None:
    import asyncio

    from clan.mesh.outside import dht

    asyncio.run(dht.search(given.line, nodes, _print))


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (its answer, or the journal)


COMMANDS = {"run": _run, "take": _take, "ask": _ask, "doors": _doors}

if __name__ == "__main__":
    main()
