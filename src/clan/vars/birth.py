"""Where keys are born that never leave a machine: the contract for asking it.

The real one logs in to machines, and belongs to what deploys to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.generator import Generator


class Birthplace(Protocol):
    """A way to machines, to have keys made there."""

    async def born(
        self, machine: str, generator: Generator, *, replace: bool
    ) -> Mapping[str, bytes] | None:
        """Have the machine make a key and return its public files, by name.

        With `replace` False a key that is there is used. With True a new one is made and kept
        beside the old one, which is used until the next update. None when the machine cannot be
        reached, or does not exist yet.
        """


class NotReachable:
    """No machine can be reached: every key is due at the next update."""

    async def born(
        self, machine: str, generator: Generator, *, replace: bool
    ) -> Mapping[str, bytes] | None:
        """Return None."""
        del machine, generator, replace
        return None
