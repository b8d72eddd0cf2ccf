"""`machine.pyz mesh COMMAND`: the mesh's part of the program that runs on a machine.

Answers are one line on standard output; a fault is one line on standard error and status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from clan.machine.layout import Layout
from clan.machine.system import StepError
from clan.mesh import identity
from clan.mesh.chart.carry import Told, unpacked
from clan.mesh.chart.records import Records
from clan.mesh.chart.store import Store
from clan.mesh.member import folder, member

LAYOUT = Layout()


def born(given: argparse.Namespace) -> str:
    """Make an identity in a file, unless it is there; answer its public half."""
    return identity.text(identity.born(Path(given.path)).public)


def take(given: argparse.Namespace) -> str:
    """Take in maps from standard input; answer what became of each."""
    store = Store(folder(given.instance, LAYOUT), member(given.instance, LAYOUT).first_root)
    verdicts = [store.offer(each) for each in unpacked(sys.stdin.buffer.read())]
    return json.dumps([{"outcome": each.outcome, "reason": each.reason} for each in verdicts])


def tell(given: argparse.Namespace) -> str:
    """Answer which maps and records are here; the maps themselves but for those that are named."""
    place = folder(given.instance, LAYOUT)
    maps = Store(place, member(given.instance, LAYOUT).first_root).held().maps
    told = Told(
        held=frozenset(each.hash.hex() for each in maps),
        maps=tuple(each.raw for each in maps if each.hash.hex() not in given.known),
        records=Records(place).all(),
    )
    return json.dumps(told.to_json())


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="machine.pyz mesh")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("born")
    command.add_argument("path")
    command.set_defaults(run=born)
    command = commands.add_parser("take")
    command.add_argument("instance")
    command.set_defaults(run=take)
    command = commands.add_parser("tell")
    command.add_argument("instance")
    command.add_argument("known", nargs="*")
    command.set_defaults(run=tell)
    given = parser.parse_args(sys.argv[2:])
    os.umask(0o077)
    try:
        print(given.run(given))  # noqa: T201 (its answer)
    except (StepError, OSError) as fault:
        print(fault, file=sys.stderr)  # noqa: T201 (its answer)
        sys.exit(1)


if __name__ == "__main__":
    main()
