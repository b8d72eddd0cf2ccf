"""A mesh's maps and agents on machines, by ssh: what they have, are given, and say.

Each call is one login. What a machine says is verified by whoever uses it.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from clan.deploy.remote import PYTHON, RemoteError, answer
from clan.mesh.agent import setting
from clan.mesh.chart.carry import Told, packed, read_told
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.deploy.remote import Remote

PROGRAM = f"{PYTHON} /var/lib/clan/current/machine.pyz mesh"
LIMIT = 30.0
"""Seconds that a machine may take to answer."""


async def tell(remote: Remote, instance: str, known: Iterable[str]) -> Told:
    """Return which maps and records a machine has; none while it is in no such mesh.

    Maps whose hashes (hexadecimal) are known are not sent. Raises ClanError.
    """
    words = shlex.join([instance, *known])
    command = f"test -e {setting.path(instance)} || exit 0; {PROGRAM} tell {words}"
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
