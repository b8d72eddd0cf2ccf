"""Key pairs that are born on this machine and never leave it: of WireGuard, and of the mesh.

    /etc/clan/keys/GENERATOR/PUBLIC.key    a pair, named by its public half
    /etc/clan/keys/GENERATOR/privatekey    link to the pair that the generation uses

A new pair lies beside the old ones, which are used until a generation names it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.machine.layout import sync
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from clan.machine.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How pairs of a kind are made: `package` brings the program, `make` fills a new file."""

    package: str
    make: Callable[[Path], None]
    public: Callable[[Path], str]


def _make_wireguard(draft: Path) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w") as file:
        file.write(run(["wg", "genkey"]))
        file.flush()
        os.fsync(file.fileno())


def _public_wireguard(private: Path) -> str:
    return run(["wg", "pubkey"], stdin=private.read_bytes()).strip()


def _born(path: Path) -> str:
    """Have the mesh's own program make an identity, unless it is there; return its public half.

    That is in the same archive, and a process of its own: it imports what this one may not.
    """
    return run([sys.executable, "-I", sys.argv[0], "mesh", "born", str(path)]).strip()


def _make_mesh(draft: Path) -> None:
    _born(draft)


KINDS = {
    "wireguard": Kind(package="wireguard-tools", make=_make_wireguard, public=_public_wireguard),
    "mesh": Kind(package="python3-cryptography", make=_make_mesh, public=_born),
}


def kind_of(name: str) -> Kind:
    """Return a kind by its name. Raises StepError for one that this program does not know."""
    if name not in KINDS:
        raise StepError(f"keys of kind {name} are not known to this machine")
    return KINDS[name]


def packages(kinds: Iterable[str]) -> list[str]:
    """Return the packages that making keys of some kinds needs. Raises StepError."""
    return sorted({kind_of(name).package for name in kinds})


def choose_keys(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Let each private key's path lead to the pair that a generation uses. Raises StepError."""
    for key in manifest.get("keys", ()):
        public = key["public"] or make_key(layout, key["generator"], key["kind"])
        place = layout.root / key["path"].lstrip("/")
        pair = place.with_name(_pair(public))
        if not pair.exists():
            raise StepError(
                f"this machine does not have the private key of {public} ({key['generator']}); "
                "`clan vars generate` asks it for one that it has"
            )
        draft = place.with_name(".chosen")
        draft.unlink(missing_ok=True)
        draft.symlink_to(pair.name)
        draft.replace(place)


def make_key(layout: Layout, generator: str, kind: str, *, anew: bool = False) -> str:
    """Return the public half of a key pair that is born here; made unless there is one.

    Raises StepError.
    """
    how = kind_of(kind)
    folder = layout.own / "keys" / generator
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    chosen = folder / "privatekey"
    if chosen.exists() and not anew:
        return how.public(chosen)
    pairs = sorted(folder.glob("*.key"), key=lambda pair: pair.stat().st_mtime)
    if pairs and not anew:
        return how.public(pairs[-1])
    draft = folder / ".draft"
    draft.unlink(missing_ok=True)
    how.make(draft)
    public = how.public(draft)
    draft.replace(folder / _pair(public))
    sync(folder)
    return public


def _pair(public: str) -> str:
    """Return the name of the file of a pair: by its public half, `/` being none in a name."""
    return f"{public.replace('/', '_').replace('+', '-')}.key"
