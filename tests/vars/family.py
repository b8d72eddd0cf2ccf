"""A family's clan for the stories of vars: machines, an admin, and generators written as needed."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from clan.errors import UsageError
from clan.model.clan import Clan, Instance, Machine, RoleMember
from clan.model.generator import Generator, Inputs, MachineKey, VarFile
from clan.model.inventory import Meta
from clan.model.module import Module, Role, Settings
from clan.vars.admins import Admin, path_of, write_record
from clan.vars.age import new_key
from clan.vars.birth import NotReachable
from clan.vars.generate import Making, Outcome, generate
from clan.vars.graph import Graph, graph
from clan.vars.need import Request
from clan.vars.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from clan.model.exports import Var
    from clan.model.generator import Prompt
    from clan.vars.birth import Birthplace
    from clan.vars.names import GeneratorId

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Declares(Module):
    """A module whose generators a story writes."""

    name = "declares"
    description = "Has the generators it is given."
    roles: ClassVar[Mapping[str, Role]] = {"default": Role(description="Takes part.")}

    def __init__(self, generators: Iterable[Generator]) -> None:
        self.declared = tuple(generators)

    def generators(self, instance: Instance, clan: Clan) -> Iterable[Generator]:
        del instance, clan
        return self.declared


def clan_of(
    folder: Path, *generators: Generator, machines: Iterable[str] = ("nas", "vps"), **more: Module
) -> Clan:
    """Return a clan whose instance `things` declares the generators; `more` are others by name."""
    modules: dict[str, Module] = {"things": Declares(generators), **more}
    names = tuple(machines)
    instances = {
        name: Instance(
            name=name,
            module=module,
            code=f"modules/{name}.py",
            settings=Settings(),
            members={"default": {m: RoleMember(machine=m, settings=Settings()) for m in names}},
            key=("instances", name),
        )
        for name, module in modules.items()
    }
    return Clan(
        directory=folder,
        meta=Meta(name="family", domain="family"),
        machines={m: Machine(name=m, host_name=m, tags=()) for m in names},
        tags={"all": names},
        instances=instances,
        exports={},
    )


class Counter:
    """Makes a different value at each call, so that a story sees what was made again."""

    def __init__(self, name: str = "value") -> None:
        self.name = name
        self.calls: list[Inputs] = []

    def __call__(self, inputs: Inputs) -> Mapping[str, bytes]:
        self.calls.append(inputs)
        return {self.name: f"{self.name} {len(self.calls)}".encode()}


def made(
    name: str,
    *files: str,
    make: Callable[[Inputs], Mapping[str, bytes]] | None = None,
    secret: bool = True,
    machine: str | None = "nas",
) -> Generator:
    """Return a generator of one file, or of those named."""
    names = files or ("value",)

    def make_all(inputs: Inputs) -> Mapping[str, bytes]:
        del inputs
        return {each: os.urandom(4).hex().encode() for each in names}

    declared = tuple(VarFile(name=each, secret=secret) for each in names)
    return Generator(name=name, files=declared, make=make or make_all, machine=machine)


def pair() -> Generator:
    """Return a generator of a secret and a public file with the same text in them."""

    def make(inputs: Inputs) -> Mapping[str, bytes]:
        del inputs
        value = os.urandom(8).hex().encode()
        return {"private": value, "public": value}

    files = (VarFile(name="private"), VarFile(name="public", secret=False))
    return Generator(name="pair", files=files, make=make, machine="nas")


def wireguard(machine: str = "nas", name: str = "wireguard-keys-vpn") -> Generator:
    """Return a key that is born on its machine."""
    files = (VarFile(name="privatekey"), VarFile(name="publickey", secret=False))
    return Generator(name=name, files=files, make=MachineKey.WIREGUARD, machine=machine)


class Machines:
    """Machines that answer, and make a new key whenever they are asked for one."""

    def __init__(self, *answering: str) -> None:
        self.answering = set(answering)
        self.asked: list[tuple[str, str, bool]] = []
        self.keys = 0

    async def born(
        self, machine: str, generator: Generator, *, replace: bool
    ) -> Mapping[str, bytes] | None:
        await asyncio.sleep(0)
        self.asked.append((machine, generator.name, replace))
        if machine not in self.answering:
            return None
        self.keys += 1
        return {"publickey": f"key {self.keys}\n".encode()}


def nobody(owner: GeneratorId, prompt: Prompt) -> str:
    raise UsageError(f"{owner}/{prompt.name} needs an answer")


class Family:
    """The clan's folder and its people; the first admin sits at this computer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environ = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
        self.store = Store.of(folder, environ)
        self.birthplace: Birthplace = NotReachable()
        self.ask: Callable[[GeneratorId, Prompt], str] | None = nobody

    def admin(self, name: str = "anna", *, here: bool = True) -> str:
        """Add an admin with a key; `here` keeps it on this computer. Returns the secret key."""
        secret, public = new_key()
        record = path_of(self.store.folder, name)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(write_record(Admin(name=name, key=public)))
        if here:
            self.sits_here(secret)
        return secret

    def sits_here(self, secret: str) -> None:
        """Have this private key on this computer, and no other."""
        path = self.store.keys[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{secret}\n")
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    def machine(self, name: str) -> str:
        """Have a machine installed; returns its private key."""
        secret, public = new_key()
        self.store.write(name, "identity", "age.pub", public)
        return secret

    def graph(self, *generators: Generator, **more: Module) -> Graph:
        return graph(clan_of(self.folder, *generators, machines=("nas", "vps"), **more))

    def generate(self, *generators: Generator, request: Request | None = None) -> list[Outcome]:
        making = Making(ask=self.ask, now=lambda: NOW, birthplace=self.birthplace)
        return asyncio.run(
            generate(self.store, self.graph(*generators), making, request or Request())
        )

    def regenerate(self, *generators: Generator, service: str) -> list[Outcome]:
        request = Request(services=frozenset({service}), regenerate=True)
        return self.generate(*generators, request=request)

    def readable_by(self, secret: str, var: Var) -> bool:
        """Whether the private key reads a secret as it lies in the clan."""
        from clan.errors import ClanError
        from clan.vars.age import decrypt, read_identity

        sealed = self.store.sealed(var)
        assert sealed is not None
        path = self.folder / "another.key"
        path.write_text(secret)
        path.chmod(0o600)
        try:
            decrypt(sealed, read_identity(path))
        except ClanError:
            return False
        return True


def changed(generator: Generator, **what: object) -> Generator:
    """Return the generator as another version of its module would declare it."""
    return replace(generator, **what)  # type: ignore[arg-type]
