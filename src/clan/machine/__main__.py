"""`machine.pyz COMMAND`: what the admin's `clan`, systemd and a boot run on a machine.

Answers are one line of JSON on standard output; a fault is one line on standard error and status 1.
"""

from __future__ import annotations

import argparse
import json
import os
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


def sent_token() -> str:
    """Return the token in this program's own archive."""
    with zipfile.ZipFile(sys.argv[0]) as archive:
        return archive.read("token").decode("ascii")


def begin(number: int, token: str, limit: float) -> dict[str, Any]:
    """Have systemd activate a generation, so that it goes on when this login is cut; follow it."""
    write(LAYOUT.token, token.encode(), 0o600)
    program = LAYOUT.generation(number) / PROGRAM
    started = time.monotonic()
    LAYOUT.activation.unlink(missing_ok=True)
    run(
        [
            "systemd-run", "--quiet", "--collect", "--unit=clan-activate",
            "/usr/bin/python3", "-I", str(program), "activate", str(number), f"{limit:g}",
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
    # They are asked for before the first generation that would bring it.
    install_packages(["wireguard-tools"])
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
        "update": ["limit"],
        "activate": ["number", "limit"],
        "switch": ["number", "limit"],
        "confirm": ["number"],
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
            many = "*" if argument.startswith("*") else None
            command.add_argument(argument.lstrip("*"), type=kind, nargs=many)
    given = parser.parse_args()
    # Generations are read by daemons that are not root; what is secret says so itself.
    os.umask(0o022)
    try:
        answer = COMMANDS[given.command](given)
    except (StepError, OSError) as fault:
        print(fault, file=sys.stderr)  # noqa: T201 (its answer)
        sys.exit(1)
    if answer is not None:
        print(json.dumps(answer))  # noqa: T201 (its answer)


def update(given: argparse.Namespace) -> Any:
    """Lay down what was sent, and switch to it."""
    return begin(receive(), sent_token(), given.limit)


def switch(given: argparse.Namespace) -> Any:
    """Switch to a generation that is here; standard input is the token."""
    if given.number not in LAYOUT.numbers():
        have = ", ".join(map(str, LAYOUT.numbers()))
        raise StepError(f"there is no generation {given.number} here (there are {have})")
    return begin(given.number, sys.stdin.read().strip(), given.limit)


def activate_now(given: argparse.Namespace) -> None:
    """Do what `begin` had systemd do."""
    token = LAYOUT.token.read_text("ascii")
    sys.exit(activate.activate(LAYOUT, given.number, token, given.limit))


def confirm(given: argparse.Namespace) -> Any:
    """Confirm a generation; standard input is the token."""
    activate.confirm(LAYOUT, given.number, sys.stdin.read().strip())
    return activate.status(LAYOUT)


def rollback(given: argparse.Namespace) -> None:
    """Go back to the confirmed generation unless this one was confirmed."""
    activate.rollback(LAYOUT, given.number, given.reason)


def links(_: argparse.Namespace) -> None:
    """Apply the links of the generation that runs once more: names may lead elsewhere now."""
    current = LAYOUT.manifest(LAYOUT.chosen(CURRENT))
    apply.set_links(current, current)


def gc(_: argparse.Namespace) -> Any:
    """Remove generations that nothing needs."""
    with activate.alone(LAYOUT):
        return activate.collect(LAYOUT)


def status(_: argparse.Namespace) -> Any:
    """Say how the machine stands; a token on standard input asks whether the activation is its."""
    return activate.status(LAYOUT, "" if sys.stdin.isatty() else sys.stdin.read().strip())


COMMANDS = {
    "update": update,
    "switch": switch,
    "activate": activate_now,
    "confirm": confirm,
    "rollback": rollback,
    "boot": lambda _: activate.boot(LAYOUT),
    "links": links,
    "status": status,
    "keys": lambda given: collect_keys(given.wanted),
    "install": lambda given: install(given.packages),
    "uninstall": lambda _: uninstall(),
    "gc": gc,
}


if __name__ == "__main__":
    main()
