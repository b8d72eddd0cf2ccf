"""A mesh's maps and agents on machines, by ssh: what they have, are given, and say.

Each call is one login. What a machine says is verified by whoever uses it.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from clan.deploy.remote import PYTHON, RemoteError, answer
from clan.mesh.chart.carry import Told, packed, read_told
from clan.mesh.errors import MeshError
from clan.mesh.places import setting_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.deploy.remote import Remote

PROGRAM = f"{PYTHON} /var/lib/clan/current/machine.pyz mesh"
LIMIT = 30.0
"""Seconds that a machine may take to answer."""
PATIENCE = 5
"""Seconds that the last ping is waited for: an idle pair has to find its path."""
PONG = re.compile(r"icmp_seq=(\d+) .*time=([\d.]+) ms")


async def tell(remote: Remote, instance: str, known: Iterable[str]) -> Told:
    """Return which maps and records a machine has; none while it is in no such mesh.

    Maps whose hashes (hexadecimal) are known are not sent. Raises ClanError.
    """
    words = shlex.join([instance, *known])
    command = f"test -e {setting_file(instance)} || exit 0; {PROGRAM} tell {words}"
    said = await remote.run(command, limit=LIMIT)
    if not said.strip():
        return Told()
    try:
        return read_told(said)
    except MeshError as fault:
        raise RemoteError(str(fault)) from None


async def take(remote: Remote, instance: str, maps: Iterable[bytes]) -> list[dict[str, str]]:
    """Give a machine maps; return for each what became of it, `outcome` and `reason`. ClanError."""
    command = f"{PROGRAM} take {shlex.quote(instance)}"
    said: list[dict[str, str]] = answer(await remote.run(command, stdin=packed(maps), limit=LIMIT))
    return said


async def ask(remote: Remote, instance: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a machine's agent, and return its answer. Raises ClanError."""
    command = f"{PROGRAM} ask {shlex.quote(instance)}"
    stdin = json.dumps(question).encode("ascii") + b"\n"
    said: dict[str, Any] = answer(await remote.run(command, stdin=stdin, limit=LIMIT))
    if "error" in said:
        raise RemoteError(f"{remote.found.machine}: {said['error']}")
    return said


async def journal(remote: Remote, instance: str) -> list[str]:
    """Return the lines of an agent's journal, which `clan.mesh.journal.replay` reads. ClanError."""
    files = (await ask(remote, instance, {"ask": "journal"})).get("files", [])
    if not files:
        return []
    said = await remote.run(shlex.join(["cat", *map(str, files)]), limit=LIMIT)
    return said.decode("utf-8", "replace").splitlines()


async def ping(remote: Remote, address: str, *, count: int) -> list[float | None]:
    """Ping an address of the mesh from a machine, five times a second.

    Return each round trip in seconds, None for one that nothing came back of. Raises ClanError.
    """
    words = ["ping", "-6", "-n", "-i", "0.2", "-c", str(count), "-w", str(count // 5 + PATIENCE)]
    ended = await remote.ended(shlex.join([*words, address]), limit=LIMIT + count)
    if ended.status not in {0, 1}:
        said = ended.errors.decode("utf-8", "replace").strip()
        raise RemoteError(said.splitlines()[-1] if said else f"exit status {ended.status}")
    trips: list[float | None] = [None] * count
    for number, milliseconds in PONG.findall(ended.output.decode("utf-8", "replace")):
        if 1 <= int(number) <= count:
            trips[int(number) - 1] = float(milliseconds) / 1000
    return trips
