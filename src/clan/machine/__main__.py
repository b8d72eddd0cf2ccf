"""`machine.pyz COMMAND`: what the admin's `clan`, systemd and a boot run on a machine.

Answers are one line of JSON on standard output; a fault is one line on standard error and status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.machine import activate, apply, firewalls, keys, renewal, reserve, static, units
from clan.machine.files import give_up_others
from clan.machine.lacks import NOTHING, Given, lacks
from clan.machine.layout import CONFIRMED, CURRENT, MANIFEST, PROGRAM, Layout, sync, write
from clan.machine.packages import install as install_packages
from clan.machine.system import StepError, run
from clan.machine.wireguard import agent

if TYPE_CHECKING:
    import zipfile

LAYOUT = Layout()
PREFIX = "generation/"
GIVEN = ("update", "keys", "install")
"""Commands that install packages, for which the admin's `clan` may give something."""


def receive(archive: zipfile.ZipFile) -> int:
    """Lay down the generation in an archive, and its programs; return its number.

    It is there whole or not at all: its folder gets its name when all of it is on the disk.
    """
    LAYOUT.prepare()
    draft = LAYOUT.generations / ".incoming"
    activate.give_way(LAYOUT, archive.read("former").decode("ascii"))
    with activate.alone(LAYOUT):
        activate.refuse_second(LAYOUT)
        # Those of updates that failed are kept to look at, but not for ever.
        activate.collect(LAYOUT)
        try:
            shutil.rmtree(draft, ignore_errors=True)
            _unpack(archive, draft)
            static.take(LAYOUT, archive)
            number = max([*LAYOUT.numbers(), 0]) + 1
            manifest = json.loads((draft / MANIFEST).read_bytes())
            static.link(LAYOUT, draft, manifest["static"])
            write(draft / MANIFEST, json.dumps({**manifest, "number": number}).encode())
            run(["sync", "--file-system", str(draft)])
            reserve.keep(LAYOUT)
            draft.rename(LAYOUT.generation(number))
            sync(LAYOUT.generations)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return number


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    for entry in archive.infolist():
        if entry.filename.startswith(PREFIX) and not entry.is_dir():
            path = folder / entry.filename.removeprefix(PREFIX)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))
            path.chmod(entry.external_attr >> 16 & 0o777 or 0o644)
    (folder / PROGRAM).write_bytes(_program(archive))


def _program(archive: zipfile.ZipFile) -> bytes:
    """Return this program alone, without what it was sent with."""
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as alone:
        for entry in archive.infolist():
            if entry.filename.startswith("clan/") or entry.filename.startswith("__main__."):
                alone.writestr(zipfile.ZipInfo(entry.filename), archive.read(entry))
    return buffer.getvalue()


def sent() -> zipfile.ZipFile:
    """Open this program's own archive, in which its data was sent."""
    import zipfile

    return zipfile.ZipFile(sys.argv[0])


def begin(
    number: int, token: str, arguments: argparse.Namespace, given: Given = NOTHING
) -> dict[str, Any]:
    """Activate a generation, in a unit that goes on when the login that started it is cut."""
    activate.begin(LAYOUT, number, token, arguments.unit)
    activate.activate(LAYOUT, number, arguments.limit, given)
    now = activate.activation(LAYOUT)
    if now is None or now.token != token:
        raise StepError(f"generation {number} gave way to another")
    return {"number": number, "stage": now.stage, "reason": now.reason}


def collect_keys(wanted: list[str], given: Given) -> dict[str, Any]:
    """Return generator -> public key for `GENERATOR=KIND` words; `+` before one makes it anew."""
    LAYOUT.prepare()
    words = [(word.startswith("+"), *word.lstrip("+").partition("=")[::2]) for word in wanted]
    # They are asked for before the first generation that would bring them.
    needed = keys.packages(kind for _, _, kind in words)
    lacking = lacks(LAYOUT, given, needed)
    if lacking is not None:
        return lacking
    install_packages(needed, given.way)
    return {
        generator: keys.make_key(LAYOUT, generator, kind, anew=anew)
        for anew, generator, kind in words
    }


def install(packages: list[str], given: Given) -> dict[str, Any]:
    """Make this machine a member: programs, identity, what starts generations at a boot."""
    lacking = lacks(LAYOUT, given, packages)
    if lacking is not None:
        return lacking
    install_packages(packages, given.way)
    LAYOUT.prepare()
    with sent() as archive:
        write(LAYOUT.program, _program(archive), 0o755)
    identity = renewal.identity(LAYOUT)
    units.install(LAYOUT.root)
    return {
        "identity": identity,
        "host_key": Path("/etc/ssh/ssh_host_ed25519_key.pub").read_text("ascii").strip(),
    }


def renew(given: argparse.Namespace) -> dict[str, Any]:
    """Make the machine's own keys anew, each other than the one that the clan knows."""
    with activate.alone(LAYOUT, patience=activate.PATIENCE):
        answer: dict[str, Any] = {}
        now = activate.activation(LAYOUT)
        if now is None or not now.under_way:
            confirmed = LAYOUT.manifest(LAYOUT.chosen(CONFIRMED))
            renewal.settle_host_key(LAYOUT, confirmed.get("host_key"))
        if given.identity:
            answer["identity"] = renewal.identity(LAYOUT, given.identity)
        if given.host_key:
            answer["host_key"], answer["shown"] = renewal.host_key(LAYOUT, given.host_key)
        return answer


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
        "update": ["unit", "limit"],
        "switch": ["unit", "number", "limit"],
        "confirm": ["number"],
        "rollback": ["number", "reason"],
        "expire": ["number", "reason"],
        "boot": [],
        "links": [],
        "carry": ["name"],
        "status": [],
        "keys": ["*wanted"],
        "install": ["*packages"],
        "uninstall": [],
        "gc": [],
        "renew": ["--identity", "--host-key"],
    }.items():
        command = commands.add_parser(name)
        for argument in arguments:
            kind = {"number": int, "limit": float}.get(argument, str)
            many = "*" if argument.startswith("*") else None
            command.add_argument(argument.lstrip("*"), type=kind, nargs=many)
        if name in GIVEN:
            command.add_argument("--way", type=Path)
            command.add_argument("--instead", action="append", default=[])
    given = parser.parse_args()
    # Generations are read by daemons that are not root; what is secret says so itself.
    os.umask(0o022)
    try:
        answer = COMMANDS[given.command](given)
    except (StepError, OSError) as fault:
        print(fault, file=sys.stderr)  # noqa: T201 (its answer)
        sys.exit(1)
    finally:
        if given.command in GIVEN and given.way:
            given.way.unlink(missing_ok=True)
    if answer is not None:
        # Whoever asked may be cut off by now; that is no fault of what was done.
        with contextlib.suppress(OSError):
            print(json.dumps(answer), flush=True)  # noqa: T201 (its answer)


def update(arguments: argparse.Namespace) -> Any:
    """Lay down what was sent, and switch to it; or say what this machine lacks for it."""
    given = Given.of(arguments)
    with sent() as archive:
        manifest = json.loads(archive.read(PREFIX + MANIFEST))
        programs = static.sent(archive)
        lacking = lacks(LAYOUT, given, manifest["packages"], manifest["static"], programs)
        if lacking is not None:
            return lacking
        token = archive.read("token").decode("ascii")
        return begin(receive(archive), token, arguments, given)


def switch(given: argparse.Namespace) -> Any:
    """Switch to a generation that is here; standard input is the token, and a former one."""
    if given.number not in LAYOUT.numbers():
        have = ", ".join(map(str, LAYOUT.numbers()))
        raise StepError(f"there is no generation {given.number} here (there are {have})")
    token, _, former = sys.stdin.read().partition("\n")
    activate.give_way(LAYOUT, former.strip())
    return begin(given.number, token, given)


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
    """Apply the links of the generation that runs once more: names may lead elsewhere now.

    Firewalls may be there that were not.
    """
    current = LAYOUT.manifest(LAYOUT.chosen(CURRENT))
    firewalls.settle(LAYOUT.opened, firewalls.openings(current))
    apply.set_links(current, current)


def carry(given: argparse.Namespace) -> None:
    """Have live controllers of an interface stand in for dead ones, for as long as it runs."""
    agent.carry(LAYOUT, given.name)


def gc(_: argparse.Namespace) -> Any:
    """Remove generations that nothing needs."""
    with activate.alone(LAYOUT):
        return activate.collect(LAYOUT)


def status(_: argparse.Namespace) -> Any:
    """Say how the machine stands; a token on standard input asks whether the activation is its."""
    activate.bury(LAYOUT)
    return activate.status(LAYOUT, "" if sys.stdin.isatty() else sys.stdin.read().strip())


COMMANDS = {
    "update": update,
    "switch": switch,
    "confirm": confirm,
    "rollback": rollback,
    "expire": expire,
    "boot": lambda _: activate.boot(LAYOUT),
    "links": links,
    "carry": carry,
    "status": status,
    "keys": lambda given: collect_keys(given.wanted, Given.of(given)),
    "install": lambda given: install(given.packages, Given.of(given)),
    "uninstall": lambda _: uninstall(),
    "gc": gc,
    "renew": renew,
}


if __name__ == "__main__":
    main()
