"""Finds modules by name and loads those that are named, nothing else.

Installed modules register under the entry point group `clan.modules`, ours like anyone's; a clan's
own are `modules/NAME.py` or `modules/NAME/__init__.py` in its folder, there called `module`. A name
that is in both needs `module.input` (`clan-core` or `self`): neither shadows the other in silence.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from clan.errors import Fault, InventoryError
from clan.inventory.boundary import guarded
from clan.inventory.faults import Faults
from clan.model.module import Module, Role, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from clan.model.inventory import KeyPath

GROUP = "clan.modules"
OURS = "clan-core"
OWN = "self"
FOLDER = "modules"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModule:
    """A module, and the `package.module` or the file that it was loaded from."""

    module: Module
    code: str


class Registry:
    """The modules that a clan can use: installed ones, and those in its folder."""

    def __init__(self, directory: Path) -> None:
        """Look in the clan's `directory`, beside what is installed."""
        self.directory = directory
        self._installed: dict[str, set[str]] | None = None
        self._loaded: dict[tuple[str, bool], LoadedModule] = {}

    def names(self) -> list[str]:
        """Name every module that there is, loading none."""
        return sorted({*self.installed(), *self.own()})

    def installed(self) -> dict[str, set[str]]:
        """Return name -> the `package.module:attribute` that installed packages give for it."""
        if self._installed is None:
            from importlib.metadata import entry_points

            found: dict[str, set[str]] = {}
            for point in entry_points(group=GROUP):
                found.setdefault(point.name, set()).add(point.value)
            self._installed = found
        return self._installed

    def own(self) -> dict[str, Path]:
        """Return name -> file of the modules in the clan's folder."""
        folder = self.directory / FOLDER
        found: dict[str, Path] = {}
        if not folder.is_dir():
            return found
        for entry in sorted(folder.iterdir()):
            package = entry / "__init__.py"
            if entry.suffix == ".py" and entry.stem.isidentifier() and entry.is_file():
                found[entry.stem] = entry
            elif entry.name.isidentifier() and package.is_file():
                found[entry.name] = package
        return found

    def get(self, name: str, module_input: str | None = None) -> LoadedModule:
        """Load a module; an InventoryError says why it cannot be had."""
        own = self.own_file(name)
        if module_input not in {None, OURS, OWN}:
            hint = f"modules of this clan are {FOLDER}/NAME.py, with module.input = '{OWN}'"
            message = f"unknown module input {module_input!r}: ours are {OURS!r}"
            raise fault(message, hint, key=("module", "input"))
        is_own = module_input == OWN or (module_input is None and own is not None)
        if module_input is None and own is not None and name in self.installed():
            message = f"module {name!r} is both installed and {own.relative_to(self.directory)}"
            raise fault(message, f"say which with module.input: '{OURS}' or '{OWN}'")
        if (name, is_own) not in self._loaded:
            self._loaded[name, is_own] = (
                self._load_own(name, own) if is_own else self._load_installed(name)
            )
        return self._loaded[name, is_own]

    def own_file(self, name: str) -> Path | None:
        """Return the file of a module in the clan's folder; None when it has none."""
        if not name.isidentifier():
            return None
        folder = self.directory / FOLDER
        candidates = (folder / f"{name}.py", folder / name / "__init__.py")
        return next((file for file in candidates if file.is_file()), None)

    def _load_installed(self, name: str) -> LoadedModule:
        targets = self.installed().get(name)
        if not targets:
            raise self._unknown(name, self.names())
        if len(targets) > 1:
            listed = " and ".join(sorted(targets))
            raise fault(f"two installed packages have a module {name!r}: {listed}", "remove one")
        code, _, attribute = next(iter(targets)).partition(":")
        faults = Faults()
        found: object = None
        with guarded(f"module {name!r}", (), faults):
            found = getattr(importlib.import_module(code), attribute)
        return made(name, found, code, faults)

    def _load_own(self, name: str, file: Path | None) -> LoadedModule:
        if file is None:
            raise self._unknown(name, sorted(self.own()))
        faults = Faults()
        found: object = None
        with guarded(f"module {name!r}", (), faults):
            found = getattr(import_file(file), "module", None)
        if found is None and not faults.faults:
            raise fault(f"{file} has no `module`", "write `module = YourModule` in it")
        return made(name, found, str(file), faults)

    def _unknown(self, name: str, known: list[str]) -> InventoryError:
        hint = Faults().near(name, known) or f"modules: {', '.join(known) or 'none'}"
        return fault(f"unknown module {name!r}", hint)


def fault(message: str, hint: str | None = None, key: KeyPath = ()) -> InventoryError:
    """Return the error for a module; its key, if any, is below that of the instance."""
    return InventoryError([Fault(message=message, hint=hint, key=key)])


def made(name: str, found: object, code: str, faults: Faults) -> LoadedModule:
    """Return the module from its class or instance, refusing what does not keep the contract."""
    if not faults.faults:
        with guarded(f"module {name!r}", (), faults):
            module = found() if isinstance(found, type) else found
            if keeps_contract(module):
                return LoadedModule(module=module, code=code)
            message = f"module {name!r} in {code} is no clan.model.module.Module"
            faults.add((), message, "it needs a name, a description and roles")
    raise InventoryError(faults.faults)


def keeps_contract(module: object) -> TypeGuard[Module]:
    """Say whether it is a module with all that others rely on."""
    declared: Any = module  # what its author wrote, whatever the contract's types promise
    return (
        isinstance(module, Module)
        and isinstance(declared.name, str)
        and isinstance(declared.description, str)
        and issubclass(declared.settings, Settings)
        and all(isinstance(role, Role) for role in declared.roles.values())
    )


def import_file(file: Path) -> object:
    """Import a module of the clan's folder, under a name that no package can have."""
    # Registered before it runs: pydantic looks up a class's annotations through sys.modules.
    name = f"clan_own {file}"
    if name in sys.modules:
        return sys.modules[name]
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise fault(f"{file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
