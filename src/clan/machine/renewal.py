"""The machine's own two keys, made anew beside the old: its age identity, and its ssh host key.

    /etc/clan/age.key         identities, the newest last; age tries them all
    /etc/clan/host-key/new/   a host key that was made and is not shown yet
    /etc/clan/host-key/old/   the one that was shown before an update that is not confirmed yet

A generation says which identity its secrets are encrypted to, so an older identity stays as long as
a generation is kept that needs it. A host key belongs to no generation: an update shows the new one
and its confirmation makes that the machine's, so a later way back never brings an old one back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any

from clan.machine.layout import sync, write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from clan.machine.layout import Layout

PRIVATE = "AGE-SECRET-KEY-"
NAME = "ssh_host_ed25519_key"
DRAFT = "host-key/.draft"
SERVERS = ("ssh.service", "sshd.service")


def identity(layout: Layout, other_than: str = "") -> str:
    """Return the newest identity's public half; made, when that is `other_than` or there is none.

    Asked again before whoever asked could keep it, it is the same one. Raises StepError.
    """
    path = layout.own / "age.key"
    held = list(_identities(path))
    if held and held[-1] != other_than:
        return held[-1]
    made = run(["age-keygen"])
    before = path.read_text("ascii") if held else ""
    write(path, (before + made).encode("ascii"), 0o600)
    return list(_identities(path))[-1]


def _identities(path: Path) -> Iterable[str]:
    """Yield the public half of each identity in a file, by age's own word."""
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text("ascii").splitlines():
            if line.startswith(PRIVATE):
                yield run(["age-keygen", "-y"], stdin=f"{line}\n".encode("ascii")).strip()


def forget_identities(layout: Layout, manifests: Iterable[Mapping[str, Any]]) -> None:
    """Keep the newest identity and those that kept generations need. Raises StepError.

    A generation of an older clan does not say which it needs: then all are kept.
    """
    path = layout.own / "age.key"
    needed = {each.get("identity") for each in manifests}
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        return
    if None in needed or sum(line.startswith(PRIVATE) for line in lines) < 2:  # noqa: PLR2004
        return
    kept = _without_others(lines, needed)
    if kept != lines:
        write(path, "".join(f"{line}\n" for line in kept).encode("ascii"), 0o600)


def _without_others(lines: list[str], needed: Collection[str | None]) -> list[str]:
    """Leave out old identities that nothing needs, with the notes above each."""
    ends = [at for at, line in enumerate(lines, 1) if line.startswith(PRIVATE)]
    kept, begin = [], 0
    for end in ends:
        block = lines[begin:end]
        public = run(["age-keygen", "-y"], stdin=f"{block[-1]}\n".encode("ascii")).strip()
        if end == ends[-1] or public in needed:
            kept += block
        begin = end
    return kept + lines[begin:]


def host_key(layout: Layout, other_than: str) -> tuple[str, bool]:
    """Return a host key that is not `other_than`, and whether it is this machine's already.

    It is made unless one waits to be shown. Raises StepError.
    """
    shown = _public(_shown(layout))
    waits = layout.own / "host-key/new"
    if (layout.own / "host-key/old").exists():
        return shown, False  # an update that is not confirmed shows the new one
    if shown != other_than:
        return shown, True
    if not waits.exists():
        draft = _fresh(layout)
        draft.mkdir(parents=True, mode=0o700)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(draft / NAME)])
        _settle_folder(draft, waits)
    return _public(waits / NAME), False


def show_host_key(layout: Layout, public: str | None) -> None:
    """Have sshd show the key that an update names, if it waits here; the old one is put aside."""
    waits, aside = layout.own / "host-key/new", layout.own / "host-key/old"
    if public is None or not waits.exists() or _public(waits / NAME) != public:
        return
    if not aside.exists():
        draft = _fresh(layout)
        draft.mkdir(parents=True, mode=0o700)
        _copy(_shown(layout), draft / NAME)
        _settle_folder(draft, aside)
    _copy(waits / NAME, _shown(layout))
    _reload()


def settle_host_key(layout: Layout, confirmed: str | None, *, booting: bool = False) -> None:
    """End what `show_host_key` began, as the confirmed generation's key says: go on, or go back."""
    waits, aside = layout.own / "host-key/new", layout.own / "host-key/old"
    if not aside.exists():
        return
    if confirmed == _public(_shown(layout)):
        shutil.rmtree(waits, ignore_errors=True)
    else:
        _copy(aside / NAME, _shown(layout))
        if not booting:
            _reload()
    # The last to go, and at once: until then, all of this is done again.
    aside.rename(_fresh(layout))
    shutil.rmtree(layout.own / DRAFT)


def _shown(layout: Layout) -> Path:
    return layout.root / "etc/ssh" / NAME


def _public(private: Path) -> str:
    """Return the public half of a host key as `type base64`."""
    return " ".join(private.with_name(f"{NAME}.pub").read_text("ascii").split()[:2])


def _copy(source: Path, target: Path) -> None:
    """Copy a pair, each file at once: sshd goes by the private one if it looks in between."""
    write(target, source.read_bytes(), 0o600)
    write(target.with_name(f"{NAME}.pub"), source.with_name(f"{NAME}.pub").read_bytes(), 0o644)


def _fresh(layout: Layout) -> Path:
    """Return a name for a folder that nobody reads, and that nothing has."""
    draft = layout.own / DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    return draft


def _settle_folder(draft: Path, place: Path) -> None:
    """Give a folder its name when all of it is on the disk."""
    for path in (*draft.iterdir(), draft):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    draft.rename(place)
    sync(place.parent)


def _reload() -> None:
    """Have sshd read its keys again; sessions go on. Where none runs, each login reads them."""
    for unit in SERVERS:
        try:
            run(["systemctl", "is-active", "--quiet", unit])
        except StepError:
            continue
        run(["systemctl", "reload-or-restart", unit])
        return
