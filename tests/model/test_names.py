"""Names and addresses that are taken, and those that are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.model.inventory import Target
from clan.model.names import instance_fault, is_domain, machine_fault, tag_fault
from clan.model.target import host_fault, is_user, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("nas", Target(host="nas")),
        ("root@nas.example.com:2222", Target(host="nas.example.com", port=2222, user="root")),
        ("192.0.2.1", Target(host="192.0.2.1")),
        ("192.0.2.1:22", Target(host="192.0.2.1", port=22)),
        ("2001:db8::1", Target(host="2001:db8::1")),
        ("[2001:db8::1]", Target(host="2001:db8::1")),
        ("me@[fe80::1%eth0]:65535", Target(host="fe80::1%eth0", port=65535, user="me")),
        ("me@corp@host", Target(host="host", user="me@corp")),
        ("my_machine.local.", Target(host="my_machine.local.")),
    ],
)
def test_a_target_is_read_and_written_the_same(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "@nas", "nas:", "nas:x", "nas:0", "nas:65536", "nas:٣", "-nas", "root@-nas",
        "-root@nas", "[nas]", "[::1", "[::1]22", "[::1]:", "::1:x", "a b", "a\nb", "a;b", "$(a)",
        "a/b", "fe80::1%", "fe80::1%a b", "1" * 254, "nas:22:22", ".", "..", ".nas", "a..b"[:0],
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (host|port|user|IPv6)"):
        parse_target(text)


@given(st.text())
def test_what_is_taken_is_one_word_and_no_option(text: str) -> None:
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert parse_target(str(target)) == target
    for part in (target.host, target.user or "x"):
        assert part.isascii()
        assert part.isprintable()
        assert part[0] != "-"
        assert not set(part) & set(" \t\n'\"\\$`;&|<>(){}*?!#~,/=")


MACHINES = ["a", "A1", "my_cool_machine", "2nd", "a-b", "a" * 63, "1a2", "0xg"]
NO_MACHINES = [
    "", "-a", "a-", "_a", "a_", "a.b", "a b", "é", "a" * 64, "10", "0", "0x", "0XfF", "localhost",
    "LocalHost", "a\n",
]  # fmt: skip


def test_names_of_machines() -> None:
    assert [name for name in MACHINES if machine_fault(name)] == []
    assert [name for name in NO_MACHINES if not machine_fault(name)] == []


def test_names_of_instances_tags_domains_and_users() -> None:
    assert [name for name in ("a", "wg-1", "a_b", "A" * 63) if instance_fault(name)] == []
    assert [
        n for n in ("", "1a", "-a", "a-", "a.b", "a" * 64, "a\n") if not instance_fault(n)
    ] == []
    assert [tag for tag in ("a", "1", "a.b:c+d_e-", "a" * 63) if tag_fault(tag)] == []
    assert [tag for tag in ("", "-a", ".a", "a b", "a" * 64, "a\n") if not tag_fault(tag)] == []
    assert all(map(is_domain, ("a", "a.b", "x-1.example", "1.2")))
    assert not any(map(is_domain, ("", ".", "a.", ".a", "a..b", "a_b", "-a", "a" * 64, "a\n")))
    assert not is_domain(".".join(["a" * 50] * 6))
    assert all(map(is_user, ("root", "_x", "me.you", "me@corp")))
    assert not any(map(is_user, ("", "-l", "a b", "1", "a" * 65, "é")))
    assert host_fault("a" * 253) is None
