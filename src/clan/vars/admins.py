"""Who may read the clan's secrets and log in to its machines: `vars/admins/NAME.toml`, public.

    key = "age1…"                             what secrets are encrypted to
    logins = ["ssh-ed25519 AAAA… anna@desk"]  what may log in as root on every machine
    leaving = true                            a removal has begun and is not done

Nothing here is secret, and nothing is signed: who can change the clan's folder can add themselves,
as they could add a module that hands secrets out. Look at what you merge.
"""

from __future__ import annotations

import base64
import binascii
import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError, UsageError
from clan.vars.names import is_plain

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "admins"
RECOVERY = "recovery"
_LOGIN_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """A person, or a recovery key on paper: `leaving` is one whose removal has begun."""

    name: str
    key: str
    logins: tuple[str, ...] = ()
    leaving: bool = False


def read_admins(folder: Path) -> dict[str, Admin]:
    """Read all records below `folder` (the store's), by name. Raises ClanError for a faulty one."""
    files = sorted((folder / FOLDER).glob("*.toml"))
    return {file.stem: _read(file) for file in files if is_plain(file.stem)}


def login_keys(folder: Path) -> tuple[str, ...]:
    """Return every line that belongs into root's `authorized_keys` on each machine, in order."""
    admins = read_admins(folder).values()
    return tuple(sorted({key for each in admins if not each.leaving for key in each.logins}))


def _read(file: Path) -> Admin:
    try:
        tree: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
        return Admin(
            name=file.stem,
            key=str(tree["key"]),
            logins=tuple(login_key(str(each)) for each in tree.get("logins", [])),
            leaving=tree.get("leaving") is True,
        )
    except KeyError:
        raise ClanError("this admin has no key", where=str(file)) from None
    except (ValueError, TypeError) as fault:
        raise ClanError(f"this is no record of an admin: {fault}", where=str(file)) from None
    except UsageError as fault:
        raise ClanError(fault.message, where=str(file), hint=fault.hint) from None


def path_of(folder: Path, name: str) -> Path:
    """Return where an admin's record is. Raises UsageError for a name that cannot be a file's."""
    if not is_plain(name):
        raise UsageError(
            f"{name!r} is no name for an admin",
            hint="1 to 100 letters, digits, '-', '_' and '.', the first a letter or digit",
        )
    return folder / FOLDER / f"{name}.toml"


def write_record(admin: Admin) -> bytes:
    """Write an admin's record as TOML: a JSON string is a TOML string, but for a bare delete."""
    lines = [f"key = {_string(admin.key)}"]
    logins = "".join(f"    {_string(each)},\n" for each in admin.logins)
    lines.append(f"logins = [\n{logins}]" if logins else "logins = []")
    if admin.leaving:
        lines.append("leaving = true")
    return ("\n".join(lines) + "\n").encode()


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def login_key(text: str) -> str:
    """Return a line for `authorized_keys`: type, key and comment; no options, for they run code.

    Raises UsageError for what is none (RFC 4253, 6.6: the key begins with its type's name).
    """
    line = text.strip()
    kind, _, rest = line.partition(" ")
    encoded = rest.split(" ", 1)[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    head = len(kind).to_bytes(4, "big") + kind.encode("utf-8", "replace")
    if kind not in _LOGIN_TYPES or not blob.startswith(head) or not line.isprintable():
        raise UsageError(
            f"{line[:60]!r} is no SSH public key",
            hint="it is the one line of a file like ~/.ssh/id_ed25519.pub",
        )
    return line
