r"""What machines, instances, tags and domains may be called, and why a name may not.

machine    1-63 of `A-Z a-z 0-9 - _`, first and last a letter or digit; not what programs read
           as an address (`10`, `0x7f`), not `localhost`. `_` is `-` in host names.
instance   1-63 of `A-Z a-z 0-9 - _`, first a letter, last a letter or digit: it is part of
           host names, file names and of generators' names.
tag        1-63 of `A-Z a-z 0-9 - _ . : +`, first a letter or digit. `all` is every machine.
domain     labels of 1-63 of `A-Z a-z 0-9 -` joined by dots, at most 253 in all.
"""

from __future__ import annotations

import string

# Sets instead of patterns: compiling those takes longer than a clan's names do.
ALNUM = frozenset(string.ascii_letters + string.digits)
WORD = ALNUM | set("-_")
TAG = WORD | set(".:+")
DOMAIN = ALNUM | set("-.")
LONGEST = 63
LONGEST_DOMAIN = 253
ALL = "all"


def is_word(name: str) -> bool:
    """Say whether a name is 1 to 63 of `A-Z a-z 0-9 - _`, first and last a letter or digit."""
    return (
        0 < len(name) <= LONGEST
        and name[0] in ALNUM
        and name[-1] in ALNUM
        and WORD.issuperset(name)
    )


def is_address_like(name: str) -> bool:
    """Say whether programs read a name as an IPv4 address: `10` is 0.0.0.10, so is `0xa`."""
    digits = string.hexdigits if name[:2] in {"0x", "0X"} else string.digits
    return all(char in digits for char in name.removeprefix("0x").removeprefix("0X"))


def machine_fault(name: str) -> str | None:
    """Return what is wrong with a machine's name, or None."""
    if name and is_address_like(name):
        return f"{name!r} is no machine name: programs would read it as an address"
    if name.casefold() == "localhost":
        return "'localhost' is no machine name: every machine calls itself so"
    if is_word(name):
        return None
    return (
        f"{name!r} is no machine name: 1 to 63 letters, digits, '-' and '_', "
        "the first and last a letter or digit"
    )


def instance_fault(name: str) -> str | None:
    """Return what is wrong with an instance's name, or None."""
    if is_word(name) and name[0] in string.ascii_letters:
        return None
    return (
        f"{name!r} is no instance name: 1 to 63 letters, digits, '-' and '_', "
        "the first a letter, the last a letter or digit"
    )


def tag_fault(tag: str) -> str | None:
    """Return what is wrong with a tag, or None."""
    if 0 < len(tag) <= LONGEST and tag[0] in ALNUM and TAG.issuperset(tag):
        return None
    return (
        f"{tag!r} is no tag: 1 to 63 letters, digits, '-', '_', '.', ':' and '+', "
        "the first a letter or digit"
    )


def is_domain(name: str) -> bool:
    """Say whether the name can follow the dot in `nas.family`."""
    labels = name.split(".")
    return len(name) <= LONGEST_DOMAIN and all(
        is_word(label) and DOMAIN.issuperset(label) for label in labels
    )


def host_name(machine: str) -> str:
    """Return a machine's name as hosts, mDNS and the lab know it: `_` is no letter of theirs."""
    return machine.replace("_", "-")
