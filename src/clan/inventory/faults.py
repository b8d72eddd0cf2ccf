"""Gathers what is wrong with a clan's file, so that all of it is reported in one go.

It owns the words that faults share (types as a person calls them, "did you mean") and refuses to
say the same thing twice. It knows keys, not lines: `locate` finds those once there is a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clan.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Collection

    from clan.model.inventory import KeyPath

# Names compared for suggestions in one run. A file of ten thousand misspelt names gets its faults
# at once and goes without most suggestions, instead of waiting minutes for them.
COMPARISONS = 300_000
LONGEST_QUOTE = 40
LONGEST_LIST = 12


class Faults:
    """Faults and warnings as they are found, each once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self._seen: set[tuple[KeyPath, str]] = set()
        self._comparisons = COMPARISONS

    def add(self, key: KeyPath, message: str, hint: str | None = None) -> None:
        """Note a fault at a key."""
        if (key, message) not in self._seen:
            self._seen.add((key, message))
            self.faults.append(Fault(message=message, key=key, hint=hint))

    def warn(self, key: KeyPath, message: str, hint: str | None = None) -> None:
        """Note something that does not keep the clan from being used."""
        if (key, message) not in self._seen:
            self._seen.add((key, message))
            self.warnings.append(Fault(message=message, key=key, hint=hint))

    def near(self, name: str, known: Collection[str]) -> str | None:
        """Return `did you mean X?`, or None when nothing is near or too much was compared."""
        self._comparisons -= len(known)
        if self._comparisons < 0:
            return None
        from clan.errors import did_you_mean

        return did_you_mean(name, known)

    def near_or_list(self, name: str, known: Collection[str], what: str) -> str | None:
        """Return `did you mean X?`, else the names there are when they fit a line."""
        near = self.near(name, known)
        if near:
            return near
        if not known:
            return f"there are no {what}"
        return f"{what}: {', '.join(sorted(known))}" if len(known) <= LONGEST_LIST else None


def type_name(value: Any) -> str:
    """Return what a person calls the type of a value read from a file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")


def described(value: Any) -> str:
    """Return the value as it may be quoted in a message: its type, and itself when it is short."""
    if value is None or isinstance(value, list | dict):
        return type_name(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > LONGEST_QUOTE:
        text = f"{text[:LONGEST_QUOTE]}…"
    return repr(text) if isinstance(value, str) else text
