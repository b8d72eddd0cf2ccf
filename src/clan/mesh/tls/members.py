"""Who is in the clan by the maps on this machine's disk, for a process that only asks that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.chart.store import Store

if TYPE_CHECKING:
    from clan.mesh.agent.setting import Setting


class Members:
    """The members as of the last `reload`. Raises MeshError if the maps are damaged."""

    def __init__(self, setting: Setting) -> None:
        self._store = Store(setting.state, setting.root)
        self.reload()

    def reload(self) -> None:
        """Read the maps again. Raises MeshError, OSError; then all is as before."""
        self._view = self._store.held().view
        self._machines = {each.identity: each for each in self._view.content.machines}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._machines

    def name(self, identity: bytes) -> str:
        """Return what people call a machine."""
        found = self._machines.get(identity)
        return found.name if found else "a stranger"

    def may_talk(self, one: bytes, other: bytes) -> bool:
        """Say whether either of two machines may reach something of the other."""
        if one not in self._machines or other not in self._machines:
            return False
        first, second = self._machines[one], self._machines[other]
        return bool(self._view.allowed(first, second) or self._view.allowed(second, first))
