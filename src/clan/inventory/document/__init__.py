"""A TOML or JSON text under edit: keys renamed, strings replaced, elements removed and added.

Only the bytes that the change is about are touched: comments, order, spacing and quotes stay as
they were typed. Each change is also made on the parsed data, and the edited text must parse to
exactly that; so a style of writing that this package does not understand is refused, never damaged.

A library that keeps the style of a whole document (tomlkit) was not enough: it has no renaming of
a key that stands in several headers and dotted keys, and none is there for JSON.
"""

from __future__ import annotations

import copy
import json
import tomllib
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError, dotted
from clan.inventory.document.add import added
from clan.inventory.document.remove import removed
from clan.inventory.document.rename import renamed, renamed_data
from clan.inventory.document.spans import outline_json, outline_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.inventory.document.lines import Splice
    from clan.inventory.document.spans import Outline
    from clan.model.inventory import KeyPath

BOM = b"\xef\xbb\xbf"


class Document:
    """The text and its data, changed together. `language` is `toml` or `json`.

    `data` is only read by callers; each change replaces it. The text must be valid.
    """

    def __init__(self, language: str, text: bytes) -> None:
        self.language = language
        self._bom = BOM if text.startswith(BOM) else b""
        self._text = text.removeprefix(BOM)
        self.data = self._parse(self._text)

    @property
    def text(self) -> bytes:
        """The text as it is now."""
        return self._bom + self._text

    def rename(self, *, keys: Mapping[KeyPath, str], values: Mapping[KeyPath, str]) -> None:
        """Rename keys and replace strings; both are named by their paths before the change."""
        data = renamed_data(self.data, (), keys, values)
        self._change(renamed(self._text, self._outline(), keys, values), data, "rename this")

    def remove(self, path: KeyPath) -> None:
        """Remove the element at `path`; what held it stays, if need be empty."""
        data = copy.deepcopy(self.data)
        holder: Any = data
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        self._change(removed(self._text, self._outline(), path), data, "remove this")

    def add(self, parent: tuple[str, ...], name: str, value: Mapping[str, Any]) -> None:
        """Add the table `value` as `name` in the table `parent`, in the manner of its elements."""
        data = copy.deepcopy(self.data)
        holder = data
        for depth, key in enumerate(parent, 1):
            holder = holder.setdefault(key, {})
            if not isinstance(holder, dict):
                raise ClanError(f"{dotted(parent[:depth])} is no table")
        holder[name] = copy.deepcopy(dict(value))
        self._change([added(self._text, self._outline(), parent, name, value)], data, "add this")

    def _parse(self, text: bytes) -> dict[str, Any]:
        data: dict[str, Any]
        data = json.loads(text) if self.language == "json" else tomllib.loads(text.decode())
        return data

    def _outline(self) -> Outline:
        return outline_json(self._text) if self.language == "json" else outline_toml(self._text)

    def _change(self, splices: Iterable[Splice], data: dict[str, Any], what: str) -> None:
        text = applied(self._text, splices)
        try:
            same = self._parse(text) == data
        except ValueError:
            same = False
        if not same:
            raise ClanError(
                f"cannot {what} without disturbing the rest of the file",
                hint="the file is unchanged; please make this change in an editor",
            )
        self._text = text
        self.data = data


def applied(text: bytes, splices: Iterable[Splice]) -> bytes:
    """Return the text with the splices made; removals may overlap."""
    parts = []
    done = 0
    for splice in sorted(splices, key=lambda splice: (splice.start, splice.end)):
        parts += [text[done : splice.start], splice.text]
        done = max(done, splice.end)
    return b"".join((*parts, text[done:]))
