"""What can go wrong in the mesh's own files and messages, as one type."""

from __future__ import annotations

from clan.machine.system import StepError


class MeshError(StepError):
    """A key, a map or a message is not what it must be; the message says what, and what to do."""
