"""The processes beside an agent, each as its unit would run it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import clan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.agents import Box


SOURCE = Path(clan.__file__).parents[1]


@contextlib.contextmanager
def beside(
    box: Box, command: str, *words: str, python: str = sys.executable
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `machine.pyz mesh COMMAND home` in a machine, until SIGTERM at the end."""
    called = [python, "-m", "clan.mesh", "--root", str(box.folder), command, "home", *words]
    with (box.folder / command).open("ab") as log, box.space.inside():
        process = subprocess.Popen(called, env={"PYTHONPATH": str(SOURCE)}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
