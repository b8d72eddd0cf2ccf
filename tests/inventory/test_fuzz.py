"""Whatever a file holds: a clan comes of it, or a ClanError. Never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clan.errors import ClanError, Fault, InventoryError
from clan.inventory.open import open_source
from clan.inventory.registry import Registry
from clan.model.inventory import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clan.model.clan import Clan

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = Path(__file__).parent
REGISTRY = Registry(FOLDER)


def attempt(language: str, text: bytes) -> Clan | None:
    source = Source(path=FOLDER / f"clan.{language}", language=language, text=text)
    try:
        return open_source(source, REGISTRY)
    except InventoryError as error:
        check_faults(error.faults, text)
    except ClanError as error:
        check_faults([Fault(message=error.message, file=str(source.path))], text)
    return None


def check_faults(faults: Sequence[Fault], text: bytes) -> None:
    assert faults
    for fault in faults:
        assert fault.message
        assert fault.file
        assert "crashed" not in fault.message
        assert fault.line is None or 1 <= fault.line <= text.count(b"\n") + 1


@pytest.mark.parametrize("language", ["toml", "json"])
@given(text=st.binary() | st.text().map(str.encode))
@example(text=b"\xff\xfe")
@example(text=b"\xef\xbb\xbf\xef\xbb\xbf{}")
@example(text=b"a = " + b"[" * 5000)
@example(text=b'{"a": NaN, "b": Infinity, "c": 1e999}')
@example(text=b"a = nan\nb = inf\nc = 1e999")
@example(text=b'machines.a.tags = ["\\U0010ffff"]')
@example(text=b"\x00")
def test_any_bytes(language: str, text: bytes) -> None:
    attempt(language, text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_any_json(value: Any) -> None:
    attempt("json", json.dumps(value).encode())


# Trees that look like a clan nearly everywhere: what is wrong is wrong deep inside.
names = st.sampled_from(["nas", "vps", "my_nas", "my-nas", "nsa", "", "x" * 70, "é", "all"])
words = st.sampled_from(
    ["internet", "lan", "tor", "wireguard", "torr", "clan-core", "self", "root@nas:22", "nas"]
)


def odd(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give what is usual nine times, and anything the tenth."""
    return st.integers(0, 9).flatmap(lambda roll: values if roll == 0 else usual)


def table(keys: list[str], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return odd(st.dictionaries(odd(st.sampled_from(keys)).map(str), inner, max_size=4))


setting = odd(words | st.integers(0, 70000) | st.lists(words, max_size=3))
some_settings = table(
    ["host", "port", "user", "jumpHosts", "jump_hosts", "priority", "endpoint", "controller",
     "domain", "mtu", "hostname"],
    setting,
)  # fmt: skip
member = odd(st.just({}) | st.fixed_dictionaries({"settings": some_settings}))
members = odd(st.dictionaries(names, member, max_size=4) | st.lists(names, max_size=3))
role = st.fixed_dictionaries(
    {}, optional={"settings": some_settings, "tags": members, "machines": members}
)
roles = table(["default", "server", "client", "controller", "peer", "serve"], role)
instance = st.fixed_dictionaries(
    {},
    optional={
        "module": table(["name", "input"], words),
        "settings": some_settings,
        "roles": roles,
        "role": roles,
    },
)
machine = st.fixed_dictionaries(
    {},
    optional={
        "tags": odd(st.lists(odd(names), max_size=3)),
        "deploy": table(["targetHost", "target_host"], words),
        "description": odd(st.text()),
    },
)
instances = odd(st.dictionaries(names | words, odd(instance), max_size=4))
services = odd(st.dictionaries(words, instances, max_size=2))
sections = {
    "meta": table(["name", "domain", "description"], words),
    "machines": odd(st.dictionaries(names, odd(machine), max_size=4)),
    "instances": instances,
    "services": services,
}
clans = st.fixed_dictionaries(
    {}, optional={**sections, "inventory": odd(st.fixed_dictionaries({}, optional=sections))}
)


@given(clans)
def test_anything_like_a_clan(tree: Any) -> None:
    attempt("json", json.dumps(tree, indent=1).encode())


def originals() -> list[tuple[str, bytes]]:
    found = [("toml", path.read_bytes()) for path in sorted(EXAMPLES.glob("*/toml/clan.toml"))]
    full = {
        "meta": {"name": "home", "domain": "home.example"},
        "machines": {
            "nas": {"tags": ["a"], "deploy": {"targetHost": "me@[2001:db8::1]:22"}},
            "vps": {"tags": ["a", "b"]},
        },
        "instances": {
            "internet": {
                "settings": {"priority": 3},
                "roles": {"default": {"machines": {"vps": {"settings": {"host": ["x", "y"]}}}}},
            },
            "lan": {"roles": {"default": {"tags": ["all"]}}},
        },
        "services": {"tor": {"onion": {"roles": {"server": {"tags": ["b"]}}}}},
    }
    return [*found, ("json", json.dumps(full, indent=1).encode())]


changes: dict[str, Callable[[bytes, int, int, bytes], bytes]] = {
    "cut": lambda text, start, end, _: text[:start] + text[end:],
    "twice": lambda text, start, end, _: text[:end] + text[start:],
    "moved": lambda text, start, end, _: text[end:] + text[start:end] + text[:start],
    "put in": lambda text, start, _, new: text[:start] + new + text[start:],
    "put over": lambda text, start, _, new: text[:start] + new + text[start + len(new) :],
}
tokens = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b"'", b".", b"=", b",", b"\n", b"\x00", b"\xff", b"null", b"1"]
)


@given(
    st.sampled_from(originals()),
    st.lists(
        st.tuples(
            st.sampled_from(sorted(changes)),
            st.integers(0, 900),
            st.integers(0, 40),
            tokens | st.binary(max_size=3),
        ),
        max_size=4,
    ),
)
def test_a_valid_file_with_damage(
    original: tuple[str, bytes], damage: list[tuple[str, int, int, bytes]]
) -> None:
    language, text = original
    for kind, start, length, new in damage:
        text = changes[kind](text, start, start + length, new)
    clan = attempt(language, text)
    assert clan is not None or damage
