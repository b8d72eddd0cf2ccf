"""Having a machine make its own keys anew: asking for them, and the rounds in which they are shown.

A machine's new host key is known to the machines that log in to it before it is shown, and the old
one is forgotten when it was: that is up to three rounds of updates, of which most change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.deploy.bundle import bundle
from clan.deploy.remote import RemoteError
from clan.networks.hostkeys import well_formed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.deploy.remote import Remote
    from clan.deploy.update import Outcome
    from clan.plan.render import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a machine made: public halves, None what it was not asked for.

    `shown` is whether its sshd shows the host key already, in a generation that was confirmed.
    """

    identity: str | None
    host_key: str | None
    shown: bool


async def renew(remote: Remote, *, identity: str | None, host_key: str | None) -> Renewed:
    """Have a machine make an identity and a host key, each other than the one that is given.

    They lie there beside the old ones. Asked again, it has the same ones. Raises ClanError.
    """
    words = ["renew"]
    words += ["--identity", identity] if identity else []
    words += ["--host-key", host_key] if host_key else []
    # Our own program, not the machine's: that may be older than this command.
    answer = await remote.send(bundle(), *words)
    made = answer.get("host_key")
    if made is not None and not well_formed(made):
        raise RemoteError(f"{remote.found.machine} made a host key that is none")
    return Renewed(
        identity=answer.get("identity"), host_key=made, shown=answer.get("shown") is True
    )


def named_by_others(generations: Iterable[Generation], keys: Iterable[str]) -> bool:
    """Whether machines know each other by these host keys, and must hear of them beforehand."""
    wanted = set(keys)
    return bool(wanted) and any(
        host["key"] in wanted
        for generation in generations
        for host in generation.manifest["known_hosts"]
    )


def later(before: Outcome, after: Outcome) -> Outcome:
    """Return what to tell of two rounds: one that changed nothing tells nothing."""
    return before if after.state == "unchanged" else after
