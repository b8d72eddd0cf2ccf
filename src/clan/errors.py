"""What can go wrong, as types. Only `clan.cli` turns one into text and an exit code.

    ClanError                 1   something failed; the message says what, the hint what to do
    ├── UsageError            2   the command was called in a way that cannot work
    ├── InventoryError        3   faults in the clan's file, all of them at once
    ├── UnreachableError      4   no network leads to the machine now
    ├── HostKeyError          5   what answers is not the machine
    ├── PrivilegeError        6   needs root
    ├── MissingProgramError   7   a program of the system is not installed
    └── LabError              8   the lab could not do what was asked

The numbers are the exit codes; docs/reference/exit-codes.md is their table.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return `did you mean X?` for the known name nearest to `name`, or None when none is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[near[0]]!r}?" if near else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong in a file a person wrote: what, where, and what to do about it.

    `key` is the path of keys inside the file (strings, and integers for list elements). `line`
    counts from 1 and is filled in by `clan.inventory.locate` once there is a fault to report.
    """

    message: str
    key: tuple[str | int, ...] = ()
    hint: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        key = dotted(self.key)
        head = ": ".join(part for part in (place, key) if part)
        text = f"{head}: {self.message}" if head else self.message
        return printable(f"{text} ({self.hint})" if self.hint else text)


def printable(text: str) -> str:
    """Return the text as one line that no terminal takes for a command: a file is quoted in it."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """Return text of several lines, each as `printable` has it: a name in it may hold anything."""
    return "\n".join(printable(line) for line in text.split("\n"))


def dotted(key: Sequence[str | int]) -> str:
    """Write a key path as TOML would: `machines.nas.tags[0]`, quoting what is not a bare key."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        bare = part and all(c.isascii() and (c.isalnum() or c in "-_") for c in part)
        quoted = part if bare else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text += f".{quoted}" if text else quoted
    return text


class ClanError(Exception):
    """Something failed: `message` says what, `where` where, `hint` what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(ClanError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class InventoryError(ClanError):
    """The clan's file has faults; `faults` holds every one that was found."""

    exit_code = 3

    def __init__(self, faults: Sequence[Fault], *, hint: str | None = None) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults), hint=hint)


class UnreachableError(ClanError):
    """No network leads to the machine from here, now."""

    exit_code = 4


class HostKeyError(ClanError):
    """What answered showed another host key than the machine's, or one nobody has confirmed."""

    exit_code = 5


class PrivilegeError(ClanError):
    """The command needs root."""

    exit_code = 6


class MissingProgramError(ClanError):
    """A program of the system that the command needs is not installed."""

    exit_code = 7


class LabError(ClanError):
    """The lab could not do what was asked of it."""

    exit_code = 8
