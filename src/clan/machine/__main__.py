"""`machine.pyz COMMAND`: what the admin's `clan`, systemd and a boot run on a machine.

Answers are one line of JSON on standard output; a fault is one line on standard error and status 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from clan.machine import activate, apply, units
from clan.machine.files import place_files
from clan.machine.layout import CONFIRMED, CURRENT, MANIFEST, PROGRAM, Layout, sync, write
from clan.machine.packages import install as install_packages
from clan.machine.system import StepError, run

LAYOUT = Layout()
PREFIX = "generation/"
STARTS = 30.0
"""Seconds that systemd may take to start an activation."""


def receive() -> int:
    """Lay down the generation in this program's own archive; return its number.

    It is there whole or not at all: its folder gets its name when all of it is on the disk.
    """
    LAYOUT.prepare()
    draft = LAYOUT.generations / ".incoming"
    with activate.alone(LAYOUT):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o755)
        with zipfile.ZipFile(sys.argv[0]) as archive:
            for entry in archive.infolist():
                if entry.filename.startswith(PREFIX) and not entry.is_dir():
                    path = draft / entry.filename.removeprefix(PREFIX)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(entry))
                    path.chmod(entry.external_attr >> 16 & 0o777 or 0o644)
        manifest = json.loads((draft / MANIFEST).read_bytes())
        number = max([*LAYOUT.numbers(), 0]) + 1
        write(draft / MANIFEST, json.dumps({**manifest, "number": number}).encode())
        run(["sync", "--file-system", str(draft)])
        draft.rename(LAYOUT.generation(number))
        sync(LAYOUT.generations)
    return number


def begin(number: int, token: str, limit: float) -> dict[str, Any]:
    """Have systemd activate a generation, so that it goes on when this login is cut; follow it."""
    program = LAYOUT.generation(number) / PROGRAM
    started = time.monotonic()
    LAYOUT.activation.unlink(missing_ok=True)
    run(
        [
            "systemd-run", "--quiet", "--collect", "--unit=clan-activate",
            "/usr/bin/python3", "-I", str(program), "activate", str(number), token, f"{limit:g}",
        ]
    )  # fmt: skip
    while True:
        now = activate.activation(LAYOUT)
        if now is not None and now.stage not in {"preparing", "switching"}:
            return {"number": number, "stage": now.stage, "reason": now.reason}
        if now is None and time.monotonic() - started > STARTS:
            said = units.journal(["clan-activate"])
            raise StepError(f"the activation of generation {number} did not start: {said}")
        time.sleep(0.02)


def collect_keys(wanted: list[str]) -> dict[str, str]:
    """Return generator -> public key for `GENERATOR=KIND` words; `+` before one makes it anew."""
    LAYOUT.prepare()
    found = {}
    for word in wanted:
        generator, _, kind = word.lstrip("+").partition("=")
        found[generator] = apply.make_key(LAYOUT, generator, kind, anew=word.startswith("+"))
    return found


def install(packages: list[str]) -> dict[str, Any]:
    """Make this machine a member: programs, identity, what starts generations at a boot."""
    install_packages(packages)
    LAYOUT.prepare()
    with zipfile.ZipFile(sys.argv[0]) as archive:
        write(LAYOUT.program, archive.read(PREFIX + PROGRAM), 0o755)
    identity = LAYOUT.own / "age.key"
    if not identity.exists():
        draft = LAYOUT.own / ".age.draft"
        draft.unlink(missing_ok=True)
        run(["age-keygen", "-o", str(draft)])
        draft.chmod(0o400)
        draft.replace(identity)
        sync(LAYOUT.own)
    units.install(LAYOUT.root)
    return {
        "identity": run(["age-keygen", "-y", str(identity)]).strip(),
        "host_key": Path("/etc/ssh/ssh_host_ed25519_key.pub").read_text("ascii").strip(),
    }


def uninstall() -> None:
    """Leave nothing: the empty generation, then all folders. Packages and users stay."""
    with activate.alone(LAYOUT):
        before = LAYOUT.manifest(LAYOUT.chosen(CURRENT))
        LAYOUT.choose(CURRENT, 0)
        LAYOUT.choose(CONFIRMED, 0)
        activate.disarm()
        apply.apply(LAYOUT, before, {})
        place_files(LAYOUT, {})
        units.uninstall(LAYOUT.root)
        for folder in (LAYOUT.state, LAYOUT.own, LAYOUT.run):
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="machine.pyz")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, arguments in {
        "update": ["token", "limit"],
        "activate": ["number", "token", "limit"],
        "switch": ["number", "token", "limit"],
        "confirm": ["number", "token"],
        "rollback": ["number", "reason"],
        "boot": [],
        "links": [],
        "status": [],
        "keys": ["*wanted"],
        "install": ["*packages"],
        "uninstall": [],
        "gc": [],
    }.items():
        command = commands.add_parser(name)
        for argument in arguments:
            kind = {"number": int, "limit": float}.get(argument, str)
            many = {"nargs": "*"} if argument.startswith("*") else {}
            command.add_argument(argument.lstrip("*"), type=kind, **many)
    given = parser.parse_args()
    try:
        status, answer = dispatch(given)
    except (StepError, OSError) as fault:
        print(fault, file=sys.stderr)  # noqa: T201 (its answer)
        sys.exit(1)
    if answer is not None:
        print(json.dumps(answer))  # noqa: T201 (its answer)
    sys.exit(status)


def dispatch(given: argparse.Namespace) -> tuple[int, Any]:
    """Run what was asked for; return exit status and answer."""
    if given.command == "update":
        return 0, begin(receive(), given.token, given.limit)
    if given.command == "switch":
        if given.number not in LAYOUT.numbers():
            have = ", ".join(map(str, LAYOUT.numbers()))
            raise StepError(f"there is no generation {given.number} here (there are {have})")
        return 0, begin(given.number, given.token, given.limit)
    if given.command == "activate":
        return activate.activate(LAYOUT, given.number, given.token, given.limit), None
    if given.command == "confirm":
        activate.confirm(LAYOUT, given.number, given.token)
        return 0, activate.status(LAYOUT)
    if given.command == "rollback":
        activate.rollback(LAYOUT, given.number, given.reason)
        return 0, None
    if given.command == "boot":
        activate.boot(LAYOUT)
        return 0, None
    if given.command == "links":
        current = LAYOUT.manifest(LAYOUT.chosen(CURRENT))
        apply.set_links(current, current)
        return 0, None
    if given.command == "keys":
        return 0, collect_keys(given.wanted)
    if given.command == "install":
        return 0, install(given.packages)
    if given.command == "uninstall":
        uninstall()
        return 0, None
    if given.command == "gc":
        with activate.alone(LAYOUT):
            return 0, activate.collect(LAYOUT)
    return 0, activate.status(LAYOUT)


if __name__ == "__main__":
    main()
