"""Kernel parameters, below /proc/sys: set as a generation wants them, and put back.

What each was before is written down, in memory, before it is set: a boot starts anew anyway.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from clan.machine.layout import write
from clan.machine.system import StepError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from clan.machine.layout import Layout


def set_all(layout: Layout, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Set parameters, as `Sysctl` of a plan says, in their order; put back what is no more wanted.

    Raises StepError.
    """
    folder = layout.root / "proc/sys"
    values = {str(path): each for each in wanted for path in _matching(each["key"], folder)}
    before = noted = _read(layout)
    for path in reversed(noted):
        each = values.get(path)
        if each is None or each["instead_of"] not in {None, noted[path]["value"]}:
            _put_back(layout.root / path, **noted[path])
            before = {known: value for known, value in before.items() if known != path}
    for path, each in values.items():
        present = _value(layout.root / path, each["key"])
        if present != each["value"] and each["instead_of"] in {None, present}:
            first = before.get(path, {"value": present})["value"]
            before = {**before, path: {"value": first, "ours": each["value"]}}
            write(layout.parameters, json.dumps(before).encode(), 0o600)
            _set(layout.root / path, each["key"], each["value"])
    if before != noted:
        write(layout.parameters, json.dumps(before).encode(), 0o600)


def _matching(key: str, folder: Path) -> list[Path]:
    """Return the files of a parameter; `*` in the key is each that is there, perhaps none.

    A slash is a dot of an interface's name, as in sysctl.d(5).
    """
    pattern = "/".join(part.replace("/", ".") for part in key.split("."))
    return sorted(folder.glob(pattern)) if "*" in key else [folder / pattern]


def _read(layout: Layout) -> dict[str, dict[str, str]]:
    try:
        read: dict[str, dict[str, str]] = json.loads(layout.parameters.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return read


def _value(path: Path, key: str) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise StepError(f"this kernel has no parameter {key}") from None
    except OSError as fault:
        raise StepError(f"the kernel parameter {key}: {fault.strerror}") from None


def _set(path: Path, key: str, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as fault:
        raise StepError(f"the kernel parameter {key}: {fault.strerror}") from None


def _put_back(path: Path, *, value: str, ours: str) -> None:
    """Give a parameter its old value, unless somebody else has set it since or it is gone."""
    with contextlib.suppress(OSError):
        if path.read_text().strip() == ours:
            path.write_text(value)
