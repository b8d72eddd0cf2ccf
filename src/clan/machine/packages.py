"""Packages of the system's archive, installed with their daemons kept from starting."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine import archives
from clan.machine.layout import write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

POLICY = Path("/usr/sbin/policy-rc.d")
REFUSAL = "#!/bin/sh\n# Made by clan while it installs packages.\nexit 101\n"
PROGRAMS = {"nftables": "nft", "wireguard-tools": "wg"}
"""Package -> a program of it, where that is not the package's name."""
MODULES = {"python3-cryptography": "cryptography"}
"""Package -> what it lets Python import, where it brings no program."""
MINUTES = 900.0
"""Seconds that an installation may take."""


def missing(wanted: Iterable[str]) -> list[str]:
    """Return the packages that are not installed; without dpkg, those whose program is not there.

    Other systems have other names for packages, and the same for what they bring.
    """
    if not is_debian():
        return [name for name in wanted if not _there(name)]
    absent = []
    for name in wanted:
        try:
            state = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name])
        except StepError:
            state = ""
        if state.strip() != "installed":
            absent.append(name)
    return absent


def _there(package: str) -> bool:
    if package in MODULES:
        import importlib.util

        return importlib.util.find_spec(MODULES[package]) is not None
    return shutil.which(PROGRAMS.get(package, package)) is not None


def is_debian() -> bool:
    """Whether packages can be installed here: the system is Debian's, or a relative."""
    return all(map(shutil.which, ("apt-get", "dpkg-query")))


def install(wanted: Iterable[str], way: Path | None = None) -> None:
    """Install what is missing from the machine's own sources; `way` is as `archives` has it.

    Raises StepError, on another system with the list of what is missing.
    """
    absent = missing(wanted)
    if not absent:
        return
    if not is_debian():
        raise StepError(f"this system is not Debian's: install {', '.join(absent)} on it yourself")
    with contextlib.ExitStack() as stack:
        options = [] if way is None else stack.enter_context(archives.through(way))
        stack.enter_context(_daemons_held())
        stack.enter_context(_none_enabled())
        words = ["install", "--no-install-recommends", *absent]
        try:
            _apt(*options, *words)
        except StepError:
            # It may have been interrupted the last time; the lists may be old, or never fetched.
            run(["dpkg", "--configure", "-a"], limit=MINUTES, environment=_environment())
            _install_anew(options, words)


def _install_anew(options: Sequence[str], words: Sequence[str]) -> None:
    """Fetch the lists and install. One archive of several that fails is told of, not the end."""
    stale = ""
    try:
        _apt(*options, "-o", "APT::Update::Error-Mode=any", "update")
    except StepError as fault:
        stale = f"; {fault}"
    try:
        _apt(*options, *words)
    except StepError as fault:
        raise StepError(f"{fault}{stale}") from None


def _apt(*words: str) -> None:
    """Run apt-get. Raises StepError with all that it calls errors: the last says the least."""
    try:
        run(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", *words],
            limit=MINUTES, environment=_environment())  # fmt: skip
    except StepError as fault:
        errors = [line[2:].strip() for line in fault.said.splitlines() if line.startswith("E:")]
        raise StepError(f"apt-get: {'; '.join(errors)}" if errors else str(fault)) from None


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


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
