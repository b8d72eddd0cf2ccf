"""A key is made once; what follows from it is the same for ever."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machine.kill import killed_at_each_step

from clan.mesh import identity
from clan.mesh.errors import MeshError
from clan.mesh.hops import labels
from clan.mesh.identity import Key

KEYS = st.binary(min_size=32, max_size=32)
PAGE = Path(__file__).parents[2] / "docs/reference/mesh.md"


def vectors() -> list[list[str]]:
    """Return the rows of the page's tables of test vectors, without their backticks."""
    part = PAGE.read_text("utf-8").partition("### Test vectors")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def test_the_page_s_test_vectors_are_right() -> None:
    rows = vectors()
    assert len(rows) >= 5
    root = Key.of_seed(bytes(range(32)))
    clan = identity.prefix(root.public)
    for what, expected in rows:
        kind, _, given_ = what.partition(" ")
        found: object
        if kind == "seed":
            found = root.public.hex()
        elif kind == "prefix":
            found = clan
        elif kind == "address":
            found = identity.address(clan, Key.of_seed(bytes([int(given_, 16)] * 32)).public)
        elif kind == "network":
            found = identity.subnet(clan, int(given_))
        elif kind == "range":
            found = identity.alias_range(clan)
        elif kind == "ways":
            found = labels.prefix(clan)
        elif kind == "label":
            public = Key.of_seed(bytes([int(given_, 16)] * 32)).public
            found = labels.labels([public])[public]
        else:
            assert kind == "alias"
            public = Key.of_seed(bytes([int(given_, 16)] * 32)).public
            found = identity.alias(identity.alias_range(clan), public, ())
        assert str(found) == expected, what


@given(KEYS, KEYS, st.integers(0, identity.SUBNETS - 1))
def test_addresses_and_networks_share_the_prefix_and_never_meet(
    root: bytes, own: bytes, number: int
) -> None:
    clan = identity.prefix(root)
    address, network = identity.address(clan, own), identity.subnet(clan, number)
    assert (clan.prefixlen, network.prefixlen) == (48, 64)
    assert clan.subnet_of(IPv6Network("fd00::/8"))
    assert address in clan
    assert network.subnet_of(clan)
    assert address in IPv6Network((clan.network_address, 49))
    assert not network.overlaps(IPv6Network((clan.network_address, 49)))


@given(st.lists(KEYS, max_size=6, unique=True))
def test_aliases_and_networks_are_given_once(keys: list[bytes]) -> None:
    within = IPv4Network("10.1.0.0/29")
    aliases: list[IPv4Address] = []
    numbers: list[int] = []
    for each in keys:
        aliases.append(identity.alias(within, each, aliases))
        numbers.append(identity.free_subnet(each, numbers))
    assert len(set(aliases)) == len(set(numbers)) == len(keys)
    assert not {within[0], within[-1]} & set(aliases)
    assert all(alias in within for alias in aliases)


def test_two_admins_give_one_machine_the_same_alias() -> None:
    within = IPv4Network("10.64.0.0/20")
    taken = {within[number] for number in range(1, 100)}
    assert identity.alias(within, b"a" * 32, taken) == identity.alias(within, b"a" * 32, taken)


def test_a_full_range_says_so() -> None:
    within = IPv4Network("10.1.0.0/29")
    with pytest.raises(MeshError, match=r"all 6 aliases in 10\.1\.0\.0/29 are taken"):
        identity.alias(within, b"a" * 32, set(within.hosts()))
    with pytest.raises(MeshError, match="too small"):
        identity.alias(IPv4Network("10.1.0.0/30"), b"a" * 32, ())


@given(KEYS)
def test_the_default_range_is_private_and_not_where_home_routers_are(root: bytes) -> None:
    within = identity.alias_range(identity.prefix(root))
    assert within.prefixlen == 20
    assert within.subnet_of(IPv4Network("10.0.0.0/8"))
    assert not within.overlaps(IPv4Network("10.0.0.0/10"))


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "mesh/identity"
    made = identity.born(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert identity.born(path) == identity.read(path) == made
    assert [each.name for each in path.parent.iterdir()] == ["identity"]
    assert identity.of_text(path.read_text()) == made.seed
    assert identity.is_signed(made.public, identity.read(path).sign(b"x"), b"x")
    assert repr(made.seed) not in repr(made)


def test_two_who_make_it_at_once_get_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity"
    make = Key.new

    def late() -> Key:
        monkeypatch.setattr(Key, "new", make)
        others.append(identity.born(path))  # another process, while this one makes its own
        return make()

    others: list[Key] = []
    monkeypatch.setattr(Key, "new", late)
    assert [identity.born(path)] == others == [identity.read(path)]
    assert [each.name for each in tmp_path.iterdir()] == ["identity"]


def test_a_power_cut_leaves_a_whole_key_or_none(tmp_path: Path) -> None:
    number = iter(range(1000))
    paths = []

    def begin() -> object:
        paths.append(tmp_path / f"{next(number)}/identity")
        return lambda: identity.born(paths[-1])

    steps = list(killed_at_each_step(begin))  # type: ignore[arg-type]
    assert len(steps) > 3
    for path in paths:
        had = identity.read(path) if path.exists() else None
        assert identity.born(path) == (had or identity.read(path))


@pytest.mark.parametrize("held", [b"", b"short\n", b"\xff" * 44, b"AAAA" * 20])
def test_a_damaged_key_is_not_replaced_and_not_shown(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "identity"
    path.write_bytes(held)
    path.chmod(0o600)
    with pytest.raises(MeshError, match="no private key; put back the file") as raised:
        identity.born(path)
    assert path.read_bytes() == held
    assert "AAAA" not in str(raised.value)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    identity.born(path)
    path.chmod(0o640)
    with pytest.raises(MeshError, match=f"chmod 600 {path}"):
        identity.born(path)


@given(st.text(max_size=60))
def test_what_is_read_as_a_key_is_written_the_same(written: str) -> None:
    try:
        key = identity.of_text(written)
    except MeshError:
        return
    assert identity.text(key) == written.strip()


def test_another_key_or_text_does_not_verify() -> None:
    own, other = Key.new(), Key.new()
    made = own.sign(b"said")
    assert identity.is_signed(own.public, made, b"said")
    for public, signature, data in [
        (other.public, made, b"said"),
        (own.public, made, b"sais"),
        (own.public, made[:-1], b"said"),
        (own.public, bytes(64), b"said"),
        (b"", made, b"said"),
    ]:
        assert not identity.is_signed(public, signature, data)


def test_an_address_hangs_on_the_clan_too() -> None:
    clans = [identity.prefix(Key.of_seed(bytes([each] * 32)).public) for each in (1, 2)]
    hosts = {int(identity.address(clan, b"k" * 32)) & ((1 << 79) - 1) for clan in clans}
    assert len(hosts) == 2
    assert isinstance(identity.address(clans[0], b"k" * 32), IPv6Address)
