"""Packages of the system's archive, installed with their daemons kept from starting."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.layout import write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POLICY = Path("/usr/sbin/policy-rc.d")
REFUSAL = "#!/bin/sh\n# Made by clan while it installs packages.\nexit 101\n"
MINUTES = 900.0
"""Seconds that an installation may take."""


def missing(wanted: Sequence[str]) -> list[str]:
    """Return the packages that are not installed. Without dpkg nothing can be said: all."""
    if shutil.which("dpkg-query") is None:
        return list(wanted)
    absent = []
    for name in wanted:
        try:
            state = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name])
        except StepError:
            state = ""
        if state.strip() != "installed":
            absent.append(name)
    return absent


def install(wanted: Sequence[str]) -> None:
    """Install what is missing, from the machine's own sources. Raises StepError."""
    absent = missing(wanted)
    if not absent:
        return
    if shutil.which("apt-get") is None:
        raise StepError(f"this system is not Debian's: install {', '.join(absent)} on it yourself")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    words = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    with _daemons_held(), _none_enabled():
        try:
            run([*words, "install", "--no-install-recommends", *absent],
                limit=MINUTES, environment=environment)  # fmt: skip
        except StepError:
            # It may have been interrupted the last time; the lists may be old, or never fetched.
            run(["dpkg", "--configure", "-a"], limit=MINUTES, environment=environment)
            run([*words, "update"], limit=MINUTES, environment=environment)
            run([*words, "install", "--no-install-recommends", *absent],
                limit=MINUTES, environment=environment)  # fmt: skip


def let_daemons_start() -> None:
    """Take away what an installation that was interrupted by a power cut left."""
    with contextlib.suppress(FileNotFoundError):
        if POLICY.read_text("utf-8", "replace") == REFUSAL:
            POLICY.unlink()


@contextlib.contextmanager
def _none_enabled() -> Iterator[None]:
    """Undo what packages enable: the next boot would start it with a configuration of its own.

    What a generation runs are units of ours, which are not enabled but emitted.
    """
    before = _enabled()
    try:
        yield
    finally:
        fresh = sorted(_enabled() - before)
        if fresh:
            run(["systemctl", "disable", "--quiet", *fresh])


def _enabled() -> set[str]:
    kinds = "--type=service,socket,timer,path"
    listed = run(["systemctl", "list-unit-files", "--state=enabled", "--no-legend", kinds])
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


@contextlib.contextmanager
def _daemons_held() -> Iterator[None]:
    """Keep packages from starting what they bring (Debian Policy 9.3.3, policy-rc.d)."""
    if POLICY.exists() and POLICY.read_text("utf-8", "replace") != REFUSAL:
        yield
        return
    # On the disk at once: emptied by a power cut it would look like somebody else's for good.
    write(POLICY, REFUSAL.encode(), 0o755)
    try:
        yield
    finally:
        let_daemons_start()
