"""Having machines make the keys that never leave them: the Birthplace of `clan.vars`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.deploy.bundle import bundle
from clan.deploy.remote import RemoteError
from clan.deploy.supply import supplied
from clan.errors import HostKeyError, UnreachableError
from clan.model.generator import MachineKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clan.deploy.remote import Remote
    from clan.deploy.supply import Supply
    from clan.model.generator import Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The clan's machines; `remote` returns the way to one, `say` is told what takes long there."""

    remote: Callable[[str], Remote]
    say: Callable[[str, str], None]

    async def born(
        self, machine: str, generator: Generator, *, replace: bool
    ) -> Mapping[str, bytes] | None:
        """Have a machine make a key and return its public half; None when it cannot be asked now.

        A machine that is not installed yet cannot be asked either.
        """
        word = f"{'+' if replace else ''}{generator.name}={generator.make}"
        remote = self.remote(machine)

        async def ask(supply: Supply) -> Any:
            words = ("keys", word, *supply.words)
            if generator.make is MachineKey.MESH:
                # What is there may be of a clan without a mesh: it cannot make an identity.
                return await remote.send(bundle(mesh=True), *words, options=supply.options)
            return await remote.program(*words, options=supply.options)

        try:
            answer = await supplied(machine, ask, lambda text: self.say(machine, text))
        except (UnreachableError, HostKeyError, RemoteError):
            return None
        return {"publickey": f"{answer[generator.name]}\n".encode()}
