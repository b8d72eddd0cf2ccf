"""Make a machine what a generation says: each part compares and changes only what differs.

`apply` may be repeated, and interrupted: run again, it ends in the same place.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from typing import TYPE_CHECKING, Any

from clan.machine import units, wireguard
from clan.machine.blocks import set_block
from clan.machine.files import place_files
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clan.machine.layout import Layout

TABLE = "clan"
"""Of nftables, family inet: ours alone."""


def apply(
    layout: Layout, before: Mapping[str, Any], after: Mapping[str, Any], *, booting: bool = False
) -> None:
    """Go from what one manifest says to another's. Raises StepError.

    While the machine boots there is no network yet, and systemd starts units and links itself.
    """
    decrypt(layout, after)
    make_users(after)
    if not booting:
        units.stop_old(before, after)
    place_files(layout, after)
    set_blocks(layout, after)
    set_parameters(layout, after)
    set_firewall(after)
    if not booting:
        set_links(before, after)
        units.start_new(before, after)


def decrypt(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Have exactly a generation's secrets in the clear, in memory. Raises StepError.

    They are decrypted beside the old ones and swapped in, so that a failure leaves those.
    """
    wanted = [file for file in manifest.get("files", ()) if "secret" in file]
    fresh, old = (layout.run / f"secrets.{name}" for name in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o711)
    for file in wanted:
        clear = fresh / file["secret"]
        sealed = layout.generation(manifest["number"]) / "secrets" / f"{file['secret']}.age"
        identity = str(layout.own / "age.key")
        run(["age", "--decrypt", "-i", identity, "-o", str(clear), str(sealed)])
        clear.chmod(0o400)
        _own(clear, file)
        clear.chmod(file["mode"])
    if layout.secrets.exists():
        layout.secrets.rename(old)
    fresh.rename(layout.secrets)
    shutil.rmtree(old, ignore_errors=True)


def _own(path: Path, file: Mapping[str, Any]) -> None:
    try:
        shutil.chown(path, file["owner"], file["group"])
    except LookupError as fault:
        raise StepError(f"{file['path']}: {fault}") from None


def make_users(manifest: Mapping[str, Any]) -> None:
    """Make the system users that are not there. They stay: files may be theirs."""
    for user in manifest.get("users", ()):
        try:
            pwd.getpwnam(user["name"])
        except KeyError:
            words = ["useradd", "--system", "--user-group", "--home-dir", user["home"]]
            words += ["--shell", "/usr/sbin/nologin"]
            if user["groups"]:
                words += ["--groups", ",".join(user["groups"])]
            run([*words, user["name"]])


def set_blocks(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Write our lines of /etc/hosts, of the known hosts and of root's authorized keys."""
    hosts = [f"{address}\t{' '.join(names)}" for address, names in manifest.get("hosts", ())]
    known = [f"{','.join(host['names'])} {host['key']}" for host in manifest.get("known_hosts", ())]
    set_block(layout.root / "etc/hosts", hosts)
    set_block(layout.root / "etc/ssh/ssh_known_hosts", known)
    folder = layout.root / "root/.ssh"
    keys = manifest.get("authorized_keys", ())
    if keys:
        folder.mkdir(mode=0o700, exist_ok=True)
    set_block(folder / "authorized_keys", keys, mode=0o600)


def set_parameters(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Set kernel parameters, in their order; those of earlier generations stay until a boot."""
    for key, value in manifest.get("sysctl", ()):
        path = layout.root / "proc/sys" / key.replace(".", "/")
        with contextlib.suppress(FileNotFoundError):
            if path.read_text().strip() == value:
                continue
        try:
            path.write_text(value)
        except OSError as fault:
            raise StepError(f"the kernel parameter {key}: {fault.strerror}") from None


def set_firewall(manifest: Mapping[str, Any]) -> None:
    """Replace our table in one transaction; without rules there is none."""
    ruleset = manifest.get("nftables", "")
    if not ruleset and shutil.which("nft") is None:
        return
    # Declared first, so that deleting it works where it is not there.
    text = f"table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\n{ruleset}"
    run(["nft", "-f", "-"], stdin=text.encode())


def set_links(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Have a generation's links, and none that only the one before had. Raises StepError."""
    wanted = {link["name"] for link in after.get("links", ())}
    for link in before.get("links", ()):
        if link["name"] not in wanted:
            wireguard.remove(link["name"])
    for link in after.get("links", ()):
        wireguard.apply(link)


def check(manifest: Mapping[str, Any]) -> list[str]:
    """Run a generation's health checks; return what is wrong, in words."""
    wrong = [f"{name} is not running: {units.journal([name])}" for name in units.failed(manifest)]
    for health in manifest.get("checks", ()):
        try:
            run(health["command"], limit=health["limit"])
        except StepError as fault:
            wrong.append(f"{health['name']}: {fault}")
    return wrong


def make_keys(layout: Layout, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Make the key pairs that are born here and are not there; return generator -> public half."""
    public = {}
    for key in manifest.get("keys", ()):
        public[key["generator"]] = make_key(layout, key["generator"], key["kind"])
    return public


def key_path(layout: Layout, generator: str) -> Path:
    """Return where a private key is that was born here."""
    return layout.own / "keys" / generator / "privatekey"


def make_key(layout: Layout, generator: str, kind: str, *, anew: bool = False) -> str:
    """Return the public half of a key pair, made here unless it is there. Raises StepError.

    Made anew, the new private key is kept beside the old one until the generation that uses it is
    switched to; see `take_new_keys`.
    """
    if kind != "wireguard":
        raise StepError(f"keys of kind {kind} are not known to this machine")
    path = key_path(layout, generator)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if anew or not path.exists():
        private = run(["wg", "genkey"])
        target = path.with_name("privatekey.next") if path.exists() else path
        draft = path.with_name(".draft")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "w") as file:
            file.write(private)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        path = target
    return run(["wg", "pubkey"], stdin=path.read_bytes()).strip()
