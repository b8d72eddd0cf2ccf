"""From a reference in an export to the technology it names; imported only when it is used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.networks.technology import NetworkTechnology, Traits

if TYPE_CHECKING:
    from types import ModuleType


def technology(reference: str) -> NetworkTechnology:
    """Make the technology that `package.module:Class` or `/folder/file.py:Class` names.

    Raises ClanError when it cannot be imported, whatever its code did.
    """
    place, _, name = reference.rpartition(":")
    try:
        code = _file(place) if place.startswith("/") else importlib.import_module(place)
        made = getattr(code, name)()
    except Exception as error:
        # Code of others: whatever it raises is its fault, and the other networks still work.
        raise ClanError(
            f"the network technology {reference} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, NetworkTechnology):
        raise ClanError(f"{reference} is not a NetworkTechnology")
    if not isinstance(getattr(made, "traits", None), Traits):
        raise ClanError(f"the network technology {reference} has no traits")
    return made


def _file(path: str) -> ModuleType:
    name = f"clan_technology_{path.replace('/', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not Python")
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    try:
        spec.loader.exec_module(code)
    except BaseException:
        del sys.modules[name]
        raise
    return code
