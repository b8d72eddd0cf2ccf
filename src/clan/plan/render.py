"""From a machine's plan to a generation: the files that `clan.machine` lays down and applies.

The same plan gives the same bytes. Secrets are taken as the clan keeps them, encrypted to the
machine; nothing here can read them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from clan.errors import ClanError
from clan.model.exports import Var
from clan.model.plan import (
    AuthorizedKey,
    File,
    Forwarding,
    HealthCheck,
    HostName,
    Key,
    KnownHost,
    Opening,
    Package,
    State,
    StaticProgram,
    Sysctl,
    Unit,
    User,
    WireguardLink,
)
from clan.static import TABLE, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from clan.model.plan import MachinePlan

T = TypeVar("T")

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What is sent to a machine: path in the generation -> bytes, the manifest among them.

    `hash` names all of it: two generations with one hash are the same.
    """

    machine: str
    hash: str
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]


def render(
    plan: MachinePlan,
    sealed: Callable[[Var], bytes],
    *,
    identity: str | None = None,
    host_key: str | None = None,
) -> Generation:
    """Make a generation; `sealed` returns a secret as it is encrypted to the machine.

    `identity` is what it is encrypted to, `host_key` the key that its sshd is to show; both public,
    and None before the machine has them.
    Raises ClanError where two instances want different things at one place.
    """
    files: dict[str, bytes] = {}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "machine": plan.machine,
        "identity": identity,
        "host_key": host_key,
        "packages": sorted({item.name for item in _of(plan, Package)}),
        "static": [_static(item.name) for item in _single(plan, StaticProgram, "name")],
        "files": [_file(item, files, sealed) for item in _single(plan, File, "path")],
        "users": [asdict(item) for item in _single(plan, User, "name")],
        "hosts": _hosts(_of(plan, HostName)),
        "sysctl": [asdict(item) for item in dict.fromkeys(_of(plan, Sysctl))],
        "links": [item.to_json() for item in _single(plan, WireguardLink, "name")],
        "known_hosts": [
            {"names": list(item.names), "key": item.key}
            for item in dict.fromkeys(_of(plan, KnownHost))
        ],
        "authorized_keys": list(dict.fromkeys(item.key for item in _of(plan, AuthorizedKey))),
        "keys": [asdict(item) for item in _single(plan, Key, "generator")],
        "checks": [asdict(item) for item in _single(plan, HealthCheck, "name")],
        "state": sorted({item.path for item in _of(plan, State)}),
        "openings": [asdict(item) for item in _of(plan, Opening)],
        "forwardings": [item.interface for item in _of(plan, Forwarding)],
        "nftables": _nftables(_of(plan, Opening), _of(plan, Forwarding)),
    }
    content = {file["path"]: file["sha256"] for file in manifest["files"]}
    manifest["units"] = [_unit(item, files, content) for item in _single(plan, Unit, "name")]
    started = [item["name"] for item in manifest["units"] if item["start"]]
    # As a machine will give it back: lists, no tuples.
    manifest = json.loads(_json(manifest))
    files["start"] = "".join(f"{name}\n" for name in started).encode()
    digest = hashlib.sha256(_json(manifest))
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    manifest["hash"] = digest.hexdigest()
    files["hash"] = f"{manifest['hash']}\n".encode()
    files["manifest.json"] = _json(manifest)
    return Generation(machine=plan.machine, hash=manifest["hash"], manifest=manifest, files=files)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _of(plan: MachinePlan, kind: type[T]) -> list[T]:
    return [item for item in plan.all() if isinstance(item, kind)]


def _single(plan: MachinePlan, kind: type[T], attribute: str) -> list[T]:
    """Return the resources of a kind; two that differ at one place are a contradiction."""
    found: dict[str, tuple[str, T]] = {}
    for instance, resources in plan.resources.items():
        for item in resources:
            if not isinstance(item, kind):
                continue
            place = str(getattr(item, attribute))
            first, known = found.setdefault(place, (instance, item))
            if known != item:
                raise ClanError(
                    f"{plan.machine}: the instances {first!r} and {instance!r} want different "
                    f"things of {kind.__name__.lower()} {place}"
                )
    return [item for _, item in found.values()]


def _static(name: str) -> dict[str, str]:
    """Return what a machine of any architecture is to know of a program that it may need."""
    return {"name": name, "version": version(name), "package": TABLE[name].debian}


def _file(item: File, files: dict[str, bytes], sealed: Callable[[Var], bytes]) -> dict[str, Any]:
    shape = {"path": item.path, "mode": item.mode, "owner": item.owner, "group": item.group}
    if isinstance(item.content, Var):
        name = f"{item.content.generator}.{item.content.file}"
        data = files[f"secrets/{name}.age"] = sealed(item.content)
        shape["secret"] = name
    else:
        data = files[f"files/{item.path.lstrip('/')}"] = item.content
    return {**shape, "sha256": hashlib.sha256(data).hexdigest()}


def _unit(item: Unit, files: dict[str, bytes], content: Mapping[str, str]) -> dict[str, Any]:
    files[f"units/{item.name}"] = item.text.encode()
    read = [content.get(path, "") for path in item.restart_on]
    stamp = hashlib.sha256(_json([item.text, read])).hexdigest()
    return {"name": item.name, "start": item.start, "stamp": stamp}


def _hosts(names: Iterable[HostName]) -> list[list[Any]]:
    """Return address -> names, in the order in which programs are to try the addresses."""
    lines: dict[str, list[str]] = {}
    for item in names:
        for address in item.addresses:
            lines.setdefault(address, []).append(item.name)
    return [[address, list(dict.fromkeys(found))] for address, found in lines.items()]


def _nftables(openings: Iterable[Opening], forwardings: Iterable[Forwarding]) -> str:
    """Return our table: openings, and forwarding inside our own interfaces and nowhere else."""
    allowed = [
        (f'iifname "{item.interface}" ' if item.interface else "")
        + f"{item.protocol} dport {item.port} accept"
        for item in openings
    ]
    inside = []
    for item in forwardings:
        inside.append(f'iifname "{item.interface}" oifname "{item.interface}" accept')
        inside += [f'{side} "{item.interface}" drop' for side in ("iifname", "oifname")]
    if not allowed and not inside:
        return ""
    chains = {
        "input": ("filter", allowed),
        "forward": ("filter", inside),
    }
    text = ["table inet clan {"]
    for hook, (kind, rules) in chains.items():
        if rules:
            text += [f"\tchain {hook} {{", f"\t\ttype {kind} hook {hook} priority {kind};"]
            text += [f"\t\t{rule}" for rule in dict.fromkeys(rules)]
            text.append("\t}")
    text.append("}")
    return "\n".join(text) + "\n"
