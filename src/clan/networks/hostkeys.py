"""One identity: a machine's host key is demanded under its name, whichever network led there.

What to do with a key that a server shows is decided here, purely; asking and recording are the
caller's.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from dataclasses import dataclass

from clan.system.ssh import KEY_TYPE

ELSEWHERE = "the next try goes elsewhere"
"""How `clan known-hosts` ends its words on an address that is set aside from then on."""


class FirstContact(enum.StrEnum):
    """What to do with the key of a machine whose key is not known yet."""

    ASK = "ask"
    """Ask the person at the terminal, naming network and address."""
    ACCEPT_NEW = "accept-new"
    """Take it, unless anyone on a LAN could have answered for the name."""
    STRICT = "strict"
    """Refuse it."""


class Verdict(enum.Enum):
    """What is to be done with a key that was shown."""

    EXPECTED = enum.auto()
    WRONG = enum.auto()
    ASK = enum.auto()
    ACCEPT = enum.auto()
    REFUSE_MULTICAST = enum.auto()
    REFUSE = enum.auto()
    DECLINED = enum.auto()
    """A person was asked and said no."""


def judge(
    shown: str, expected: str | None, *, policy: FirstContact, by_multicast: bool, terminal: bool
) -> Verdict:
    """Say what to do with the key `shown` (`type base64`), `expected` being None at first contact.

    `expected` has a line for each key that will do: two while the machine goes to a new one.
    A route found by multicast proves nothing about who answered, so a first key from there is only
    ever taken by a person who compares its fingerprint.
    """
    if expected is not None:
        return Verdict.EXPECTED if shown in expected.splitlines() else Verdict.WRONG
    if not well_formed(shown):
        return Verdict.REFUSE
    if policy is FirstContact.ACCEPT_NEW:
        return Verdict.REFUSE_MULTICAST if by_multicast else Verdict.ACCEPT
    if policy is FirstContact.ASK and terminal:
        return Verdict.ASK
    return Verdict.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where a key was shown: for messages, and for setting the address aside."""

    machine: str
    network: str
    address: str
    by_multicast: bool


def mismatch(meeting: Meeting, key: str) -> str:
    """Say that something else answered for a machine."""
    return (
        f"{meeting.address} on network {meeting.network} is not {meeting.machine}: it showed "
        f"the host key {fingerprint(key)}; set aside"
    )


def unproven(meeting: Meeting, words: str) -> str:
    """Say that what answered showed no host key that a machine of a clan can have."""
    return (
        f"{meeting.address} on network {meeting.network} did not prove to be {meeting.machine}: "
        f"{words}"
    )


def question(meeting: Meeting, key: str) -> str:
    """Ask whether a first key is the machine's."""
    return (
        f"First contact with {meeting.machine}: {meeting.address} on network {meeting.network}\n"
        f"shows the host key {fingerprint(key)}.\n"
        f"On {meeting.machine}, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows its own."
    )


def refusal(meeting: Meeting, verdict: Verdict, key: str) -> tuple[str, str]:
    """Return message and hint for a first key that is not taken."""
    message = (
        f"the host key of {meeting.machine} is not known yet; "
        f"{meeting.address} on network {meeting.network} showed {fingerprint(key)}"
    )
    if verdict is Verdict.REFUSE_MULTICAST:
        return (
            f"{message}, and was found by mDNS, where anyone on the LAN can answer",
            "connect once at a terminal and compare the fingerprint, or from another network",
        )
    if verdict is Verdict.DECLINED:
        return f"{message}, which was not confirmed", "nothing was recorded; try again any time"
    asks = f"`clan ssh {meeting.machine}` at a terminal shows it and asks"
    # Of an address that anyone can answer for, accept-new takes no key.
    return message, asks if meeting.by_multicast else f"{asks}; or pass --host-key accept-new"


def fingerprint(key: str) -> str:
    """Return the fingerprint of `type base64` as OpenSSH shows it: `SHA256:…`, RFC 4648 unpadded.

    What is not an Ed25519 key has none, and is called that.
    """
    if not well_formed(key):
        return "(not an Ed25519 key)"
    blob = base64.b64decode(key.split()[1], validate=True)
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def well_formed(key: str) -> bool:
    """Whether `type base64` is an Ed25519 public key (RFC 8709: the type's name, then 32 bytes)."""
    words = key.split()
    if len(words) != 2 or words[0] != KEY_TYPE:  # noqa: PLR2004 (type and key)
        return False
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        return False
    name = KEY_TYPE.encode()
    head = len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big")
    return blob.startswith(head) and len(blob) == len(head) + 32
