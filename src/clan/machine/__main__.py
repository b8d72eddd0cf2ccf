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

from clan.machine import activate, apply, reserve, units
from clan.machine.files import give_up_others
from clan.machine.layout import CONFIRMED, CURRENT, MANIFEST, PROGRAM, Layout, sync, write
from clan.machine.packages import install as install_packages
from clan.machine.system import StepError, run

LAYOUT = Layout()
PREFIX = "generation/"
STARTS = 30.0
"""Seconds that systemd may take to start an activation."""
LOOK = 1.0
"""Seconds between two looks whether an activation is still at it."""


def receive() -> int:
    """Lay down the generation in this program's own archive; return its number.

    It is there whole or not at all: its folder gets its name when all of it is on the disk.
    """
    LAYOUT.prepare()
    draft = LAYOUT.generations / ".incoming"
    with activate.alone(LAYOUT):
        activate.refuse_second(LAYOUT)
        # Those of updates that failed are kept to look at, but not for ever.
        activate.collect(LAYOUT)
        try:
            shutil.rmtree(draft, ignore_errors=True)
            _unpack(draft)
            number = max([*LAYOUT.numbers(), 0]) + 1
            manifest = json.loads((draft / MANIFEST).read_bytes())
            write(draft / MANIFEST, json.dumps({**manifest, "number": number}).encode())
            run(["sync", "--file-system", str(draft)])
            reserve.keep(LAYOUT)
            draft.rename(LAYOUT.generation(number))
            sync(LAYOUT.generations)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return number


def _unpack(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with zipfile.ZipFile(sys.argv[0]) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith(PREFIX) and not entry.is_dir():
                path = folder / entry.filename.removeprefix(PREFIX)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(entry))
                path.chmod(entry.external_attr >> 16 & 0o777 or 0o644)


def sent_token() -> str:
    """Return the token in this program's own archive."""
    with zipfile.ZipFile(sys.argv[0]) as archive:
        return archive.read("token").decode("ascii")


def begin(number: int, token: str, limit: float) -> dict[str, Any]:
    """Have systemd activate a generation, so that it goes on when this login is cut; follow it."""
    activate.begin(LAYOUT, number, token, STARTS)
    unit = activate.unit_of(number)
    words = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", "/usr/bin/python3", "-I"]
    words += [str(LAYOUT.generation(number) / PROGRAM), "activate", str(number), f"{limit:g}"]
    try:
        run(words)
    except StepError as fault:
        activate.abandon(LAYOUT, number, str(fault))
    looked = time.monotonic()
    while True:
        now = activate.activation(LAYOUT)
        if now is None or now.token != token:
            raise StepError(f"generation {number} gave way to another")
        if now.stage not in {"preparing", "switching"}:
            return {"number": number, "stage": now.stage, "reason": now.reason}
        if time.monotonic() - looked > LOOK:
            looked = time.monotonic()
            if not units.runs(unit):
                said = f"the activation died: {units.journal([unit])}"
                activate.abandon(LAYOUT, number, said)
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
        write(identity, run(["age-keygen"]).encode("ascii"), 0o600)
    units.install(LAYOUT.root)
    return {
        "identity": run(["age-keygen", "-y", str(identity)]).strip(),
        "host_key": Path("/etc/ssh/ssh_host_ed25519_key.pub").read_text("ascii").strip(),
    }


def uninstall() -> None:
    """Leave nothing: the empty generation, then all folders. Packages and users stay.

    It may be repeated: what it needs goes last.
    """
    with activate.alone(LAYOUT, patience=activate.PATIENCE):
        activate.disarm()
        before = LAYOUT.manifest(LAYOUT.chosen(CURRENT))
        units.stop_old(before, {})
        give_up_others(LAYOUT, {})
        LAYOUT.choose(CURRENT, 0)
        LAYOUT.choose(CONFIRMED, 0)
        apply.apply(LAYOUT, before, {}, going_back=True)
        units.uninstall(LAYOUT.root)
        shutil.rmtree(LAYOUT.own, ignore_errors=True)
        for entry in LAYOUT.state.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
        shutil.rmtree(LAYOUT.state)
        shutil.rmtree(LAYOUT.run, ignore_errors=True)


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
        "expire": ["number", "reason"],
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
    sys.exit(activate.activate(LAYOUT, given.number, given.limit))


def confirm(given: argparse.Namespace) -> Any:
    """Confirm a generation; standard input is the token."""
    activate.confirm(LAYOUT, given.number, sys.stdin.read().strip())
    return activate.status(LAYOUT)


def rollback(given: argparse.Namespace) -> None:
    """Go back to the confirmed generation unless this one was confirmed."""
    activate.rollback(LAYOUT, given.number, given.reason)


def expire(given: argparse.Namespace) -> None:
    """Go back to the confirmed generation, as nobody confirmed this one in time."""
    activate.rollback(LAYOUT, given.number, given.reason, unheard=True)


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
    "expire": expire,
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
