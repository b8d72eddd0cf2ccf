"""What this machine lacks for a task and cannot get by itself, so that the admin's `clan` gives it.

It is said before anything is changed, as the answer to the task, which is then asked for again:

    {"lacks": {"static": ["wireguard-go"], "architecture": "aarch64",
               "packages": ["age"], "archives": [["deb.debian.org", 80]]}}

`static` are programs that clan brings along; one that it cannot bring is asked for as a package
(`instead`). `packages` are missing while none of `archives` answers, for which it lends a way.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.machine import archives, packages, static

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from clan.machine.layout import Layout


def _in_kernel() -> bool:
    # Here, not above: it takes a third of this program's start.
    from clan.machine import wireguard

    return wireguard.in_kernel()


NEEDLESS = {"wireguard-go": _in_kernel}
"""Static program -> whether this system does without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the admin's `clan` gave for a task: a way to archives, packages in a program's stead."""

    way: Path | None
    instead: tuple[str, ...]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Given:
        """Read it from the command line."""
        return cls(way=arguments.way, instead=tuple(arguments.instead))

    def words(self) -> list[str]:
        """Write it for the command line."""
        way = [] if self.way is None else ["--way", str(self.way)]
        return way + [word for name in self.instead for word in ("--instead", name)]


NOTHING = Given(way=None, instead=())
"""What is given for a task unless it was asked for."""


def lacks(
    layout: Layout,
    given: Given,
    wanted: Iterable[str],
    programs: Iterable[Mapping[str, Any]] = (),
    sent: Iterable[str] = (),
) -> dict[str, Any] | None:
    """Say what is lacking for packages and static programs; None where nothing is.

    `sent` are the files of programs that come with the task. Raises StepError.
    """
    found: dict[str, Any] = {}
    absent = [
        program["name"]
        for program in programs
        if program["package"] not in given.instead
        and f"{program['name']}-{program['version']}" not in set(sent)
        and not _does_without(layout, program)
    ]
    if absent:
        found |= {"static": absent, "architecture": os.uname().machine}
    missing = packages.missing([*wanted, *given.instead])
    if missing and given.way is None and packages.is_debian() and not archives.reached():
        found |= {"packages": missing, "archives": archives.known()}
    return {"lacks": found} if found else None


def _does_without(layout: Layout, program: Mapping[str, Any]) -> bool:
    """Whether a program is here, or the system needs none, or somebody put one of their own here.

    A package that was installed in its stead is not as good: it is asked for again.
    """
    name = program["name"]
    if static.has(layout, program) or (name in NEEDLESS and NEEDLESS[name]()):
        return True
    packaged = packages.is_debian() and not packages.missing([program["package"]])
    return shutil.which(name) is not None and not packaged
