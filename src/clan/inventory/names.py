r"""What machines, instances, tags and domains may be called, and why a name may not.

machine    1-63 of `A-Z a-z 0-9 - _`, first and last a letter or digit; not what programs read
           as an address (`10`, `0x7f`), not `localhost`. `_` is `-` in host names.
instance   1-63 of `A-Z a-z 0-9 - _`, first a letter, last a letter or digit: it is part of
           host names, file names and of generators' names.
tag        1-63 of `A-Z a-z 0-9 - _ . : +`, first a letter or digit. `all` is every machine.
domain     labels of 1-63 of `A-Z a-z 0-9 -` joined by dots, at most 253 in all.
"""

from __future__ import annotations

import re

MACHINE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
ADDRESS_LIKE = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
INSTANCE = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,62}")
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*")
ALL = "all"


def machine_fault(name: str) -> str | None:
    """Return what is wrong with a machine's name, or None."""
    if ADDRESS_LIKE.fullmatch(name):
        return f"{name!r} is no machine name: programs would read it as an address"
    if name.casefold() == "localhost":
        return "'localhost' is no machine name: every machine calls itself so"
    if MACHINE.fullmatch(name):
        return None
    return (
        f"{name!r} is no machine name: 1 to 63 letters, digits, '-' and '_', "
        "the first and last a letter or digit"
    )


def instance_fault(name: str) -> str | None:
    """Return what is wrong with an instance's name, or None."""
    if INSTANCE.fullmatch(name):
        return None
    return (
        f"{name!r} is no instance name: 1 to 63 letters, digits, '-' and '_', "
        "the first a letter, the last a letter or digit"
    )


def tag_fault(tag: str) -> str | None:
    """Return what is wrong with a tag, or None."""
    if TAG.fullmatch(tag):
        return None
    return (
        f"{tag!r} is no tag: 1 to 63 letters, digits, '-', '_', '.', ':' and '+', "
        "the first a letter or digit"
    )


def is_domain(name: str) -> bool:
    """Say whether the name can follow the dot in `nas.family`."""
    return DOMAIN.fullmatch(name) is not None


def host_name(machine: str) -> str:
    """Return a machine's name as hosts, mDNS and the lab know it: `_` is no letter of theirs."""
    return machine.replace("_", "-")
