"""A map: signed only if it can be so, read only if it was signed, one way to write it."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import (
    ALICE,
    BOB,
    CAROL,
    DAY,
    NOW,
    ROOT,
    admins,
    chain,
    content,
    key,
    machine,
    names,
    record,
    signed,
)

from clan.mesh import identity
from clan.mesh.chart import chart as charts
from clan.mesh.chart import links, mandate
from clan.mesh.chart import signed as envelopes
from clan.mesh.chart.canonical import base64_of, encode
from clan.mesh.chart.content import (
    EVERYTHING,
    Content,
    KnownAddress,
    Machine,
    Ports,
    Rule,
    Secret,
    allowed,
)
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.mandate import Chain
    from clan.mesh.identity import Key

RANGE = IPv4Network("10.77.0.0/24")
CLAN = identity.prefix(ROOT.public)
SSH = Ports(protocol="tcp", first=22, last=22)
NAS = machine(
    "nas",
    tags=frozenset({"home", "backup"}),
    addresses=(KnownAddress(host="nas.example.com", port=4000), KnownAddress(host="2001:db8::1")),
    alias=RANGE[7],
    subnets=frozenset({3, 1}),
    links=record("nas"),
)
FULL = Content(
    machines=(NAS, machine("tv", alias=RANGE[8])),
    rules=(Rule(sources=("#home", "tv"), targets=("all",), ports=(SSH,)),),
    aliases=RANGE,
)


def again(chart: Chart) -> Chart:
    return charts.read(chart.raw, ROOT.public)


def forged(change: dict[str, Any], by: Key = ALICE, of: Chart | None = None) -> bytes:
    """Sign a map as no tool of ours would."""
    of = of or signed(FULL)
    body = json.loads(of.raw[len(charts.MAGIC) + len(of.chain.raw) + envelopes.HEAD :]) | change
    proof = envelopes.sign(charts.PURPOSE, encode(body), by)
    return charts.MAGIC + of.chain.raw + proof.raw


def test_what_is_signed_is_read() -> None:
    made = signed(FULL)
    assert again(made) == made
    assert (made.epoch, made.serial, made.parents, made.made) == (1, 1, (), NOW)
    assert made.content.machines == FULL.machines
    assert made.content.rules == FULL.rules
    assert len(made.content.secrets) == 1
    assert str(made) == "map 1.1 of alice"


NAMES = st.from_regex(r"\A[a-z][a-z0-9]{0,8}\Z")


@given(
    st.lists(
        st.tuples(
            NAMES,
            st.frozensets(st.from_regex(r"\A[a-z.:+]?[a-z0-9]{1,5}\Z").filter(str.isalnum)),
            st.none() | st.integers(1, 254),
            st.frozensets(st.integers(0, 32767), max_size=3),
        ),
        max_size=5,
        unique_by=(lambda each: each[0], lambda each: each[2] or each[0]),
    )
)
def test_any_clan_is_read_as_it_was_signed(rows: list[tuple[str, Any, Any, Any]]) -> None:
    taken: set[int] = set()
    machines = []
    for name, tags, alias, subnets in rows:
        own = machine(name, tags=tags, alias=alias and RANGE[alias], subnets=subnets - taken)
        machines.append(own)
        taken |= subnets
    said = Content(machines=tuple(machines), aliases=RANGE)
    made = signed(said)
    assert again(made) == made
    assert set(made.content.machines) == set(machines)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ((machine("nas"), replace(machine("tv"), name="NAS")), "NAS, nas: have the same name"),
        ((machine("a_b"), machine("a-b")), "a-b, a_b: have the same name"),
        ((NAS, replace(NAS, name="tv", alias=None)), "nas, tv: have the same address"),
        ((NAS, machine("tv", alias=NAS.alias)), "nas, tv: have the same IPv4 alias"),
        ((NAS, machine("tv", subnets={1})), "nas, tv: have the same network fd"),
        ((machine("nas", alias=IPv4Address("10.78.0.1")),), "is not in the clan's range"),
        ((machine("nas", alias=RANGE[0]),), "is not in the clan's range"),
        ((machine("nas", subnets={32768}),), "a network that there cannot be"),
        ((machine("-nas"),), "no machine name"),
        ((machine("nas", tags={"a b"}),), "is no tag"),
        ((machine("nas", identity=b"short"),), "identity"),
    ],
)
def test_what_cannot_be_is_not_signed(said: tuple[Machine, ...], fault: str) -> None:
    ordered = tuple(sorted(said, key=lambda each: each.name))
    with pytest.raises(MeshError, match=fault):
        signed(Content(machines=ordered, aliases=RANGE))


@pytest.mark.parametrize(
    "host",
    [
        str(identity.address(CLAN, NAS.identity)),
        "10.77.0.9",
        "::1",
        "0.0.0.0",
        "ff02::1",
        "fe80::1%eth0",
        "2001:DB8::1",
        "a b",
        "",
        "x" * 254,
    ],
)
def test_an_address_that_leads_nowhere_or_back_is_not_signed(host: str) -> None:
    said = machine("nas", addresses=(KnownAddress(host=host),))
    with pytest.raises(MeshError):
        signed(Content(machines=(said,), aliases=RANGE))


@pytest.mark.parametrize(
    "rule",
    [
        Rule(sources=(), targets=("all",)),
        Rule(sources=("all",), targets=("a b",)),
        Rule(sources=("##home",), targets=("all",)),
        Rule(sources=("all",), targets=("all",), ports=()),
        Rule(sources=("all",), targets=("all",), ports=(Ports(protocol="tcp", first=2, last=1),)),
        Rule(sources=("all",), targets=("all",), ports=(Ports(protocol="icmp", first=1),)),
        Rule(sources=("all",), targets=("all",), ports=(Ports(protocol="gre"),)),
    ],
)
def test_a_rule_that_cannot_be_is_not_signed(rule: Rule) -> None:
    with pytest.raises(MeshError, match="rule 1"):
        signed(Content(machines=(NAS,), rules=(rule,), aliases=RANGE))


def test_rules_open_what_they_name_and_no_rules_open_all() -> None:
    nas, tv = FULL.machines
    assert allowed(FULL.rules, tv, nas) == allowed(FULL.rules, nas, tv) == (SSH,)
    assert allowed((Rule(sources=("tv",), targets=("#home",)),), nas, tv) == ()
    assert allowed((Rule(sources=("tv",), targets=("#home",)),), tv, nas) == (EVERYTHING,)
    assert allowed((), nas, tv) == (EVERYTHING,)


def test_another_machine_s_record_is_not_signed_and_not_read() -> None:
    stolen = machine("nas", links=record("tv"))
    with pytest.raises(MeshError, match="nas: the record of interfaces is signed by somebody"):
        signed(Content(machines=(stolen,)))
    made = signed(Content(machines=(machine("nas", links=record("nas")),)))
    raw = made.raw[len(charts.MAGIC) + len(made.chain.raw) + envelopes.HEAD :]
    entry = json.loads(raw)["machines"][0]
    entry["links"] = base64_of(record("tv"))
    with pytest.raises(MeshError, match="nas: the record of interfaces"):
        charts.read(forged({"machines": [entry]}, of=made), ROOT.public)


def test_only_who_is_listed_signs() -> None:
    for by in (BOB, key("stranger")):
        with pytest.raises(MeshError, match="may not sign"):
            signed(FULL, by, under=chain("alice"))
    assert signed(FULL, ROOT, under=chain("alice")).signer == ROOT.public
    removed = mandate.list_admins(chain("alice", "bob"), admins("alice"), ALICE)
    with pytest.raises(MeshError, match="may not sign"):
        signed(FULL, BOB, under=removed)


def test_mandates_of_another_map_do_not_go_with_it() -> None:
    """A map of alice's under a list that somebody made later, or that she is on by mistake."""
    made = signed(FULL, under=chain("alice"))
    other = mandate.list_admins(made.chain, admins("alice", "bob"), ALICE)
    body = made.raw[len(charts.MAGIC) + len(made.chain.raw) :]
    with pytest.raises(MeshError, match="under another mandate"):
        charts.read(charts.MAGIC + other.raw + body, ROOT.public)


@given(st.integers(0, 10000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    raw = bytearray(signed(FULL).raw)
    raw[at % len(raw)] ^= change
    with pytest.raises(MeshError):
        charts.read(bytes(raw), ROOT.public)


@given(st.binary(max_size=400), st.booleans())
def test_noise_is_refused(data: bytes, like_a_map: bool) -> None:
    with pytest.raises(MeshError):
        charts.read(charts.MAGIC + data if like_a_map else data, ROOT.public)


def test_nothing_comes_after_a_map() -> None:
    with pytest.raises(MeshError, match="after its end"):
        charts.read(signed(FULL).raw + b"x", ROOT.public)


@given(st.integers(0, 10000))
def test_a_part_of_a_map_is_refused(length: int) -> None:
    raw = signed(FULL).raw
    with pytest.raises(MeshError):
        charts.read(raw[: length % len(raw)], ROOT.public)


def test_nothing_of_a_body_is_parsed_before_its_signature_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed = []
    monkeypatch.setattr(charts, "decode", lambda body, what: parsed.append((body, what)))
    with pytest.raises(MeshError):
        charts.read(forged_by_a_stranger(), ROOT.public)
    assert not parsed


def forged_by_a_stranger() -> bytes:
    return charts.MAGIC + chain().raw + envelopes.sign(charts.PURPOSE, b"{", key("x")).raw


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(
        [
            *("machines", "removed", "rules", "aliases", "secrets", "more"),
            *("mandate", "signer", "serial", "parents", "ancestors", "made"),
        ]
    ),
    JUNK | st.lists(JUNK, max_size=2),
)
def test_what_a_listed_admin_signs_is_still_checked(field: str, value: Any) -> None:
    """A key that was stolen signs anything: it may be refused, it may not crash a machine."""
    try:
        read = charts.read(forged({field: value}), ROOT.public)
    except MeshError:
        return
    assert again(read) == read


@pytest.mark.parametrize(
    "change",
    [
        {"serial": 0},
        {"serial": charts.HIGHEST},
        {"serial": 1001},
        {"serial": True},
        {"parents": [[1, "A" * 43 + "="]]},
        {"parents": [[0, "A" * 43 + "="]], "serial": 2},
        {"ancestors": [[1, "A" * 43 + "="]], "serial": 2},
        {"parents": [[1, "A" * 43 + "="]] * 2, "serial": 2},
        {"parents": [[1, "A" * 43 + "="]], "ancestors": [[1, "A" * 43 + "="]], "serial": 2},
        {"parents": [[1, "A" * 43 + "="]], "serial": 1002},
        {"machines": [{}]},
        {"aliases": "8.8.8.0/24"},
        {"aliases": "10.0.0.1/8"},
        {"secrets": [[1, "A" * 43 + "="], [2, "A" * 43 + "="]]},
        {"removed": ["B" * 43 + "="]},
        {"removed": [base64_of(NAS.identity)]},
    ],
)
def test_a_listed_admin_cannot_sign_what_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(MeshError):
        charts.read(forged(change), ROOT.public)


def test_a_map_follows_what_it_replaces() -> None:
    first = signed(content("nas", "tv"))
    second = signed(content("nas", "tv", "vps"), after=[first])
    third = signed(content("nas", "tv", "vps"), BOB, after=[second])
    assert (third.serial, third.parents, third.ancestors) == (3, (second.place,), (first.place,))
    assert third.succeeds(second)
    assert third.succeeds(first)
    assert not first.succeeds(third)
    assert not first.succeeds(first)


def test_whoever_is_left_out_is_remembered_as_removed() -> None:
    first = signed(content("nas", "phone", "tv"))
    second = signed(content("nas", "tv"), after=[first], made=NOW + DAY)
    assert second.content.removed == {key("phone").public}
    third = signed(content("nas", "tv"), after=[second])
    assert third.content.removed == {key("phone").public}
    back = signed(content("nas", "phone", "tv"), after=[third])
    assert back.content.removed == frozenset()


def test_a_removal_changes_the_discovery_secret_and_nothing_else_does() -> None:
    first = signed(content("nas", "phone"))
    same = signed(content("nas", "phone", "tv"), after=[first], made=NOW + DAY)
    assert same.content.secrets == first.content.secrets
    less = signed(content("nas", "tv"), after=[same], made=NOW + 2 * DAY)
    assert less.content.secrets[1:] == first.content.secrets
    assert less.content.secrets[0].made == NOW + 2 * DAY
    again_ = signed(content("nas", "tv"), after=[less], made=NOW + 3 * DAY)
    assert again_.content.secrets == less.content.secrets


def test_an_admin_who_goes_takes_no_secret_along() -> None:
    first = signed(content("nas"))
    less = mandate.list_admins(first.chain, admins("alice"), ALICE)
    second = signed(content("nas"), under=less, after=[first], made=NOW + 1)
    assert second.content.secrets[0] != first.content.secrets[0]


def test_an_earlier_secret_is_forgotten_after_some_days() -> None:
    chart = signed(content("a", "b", "c", "d"))
    for day, left in ((1, "abc"), (2, "ab"), (20, "a")):
        chart = signed(content(*left), after=[chart], made=NOW + day * DAY)
    assert [each.made - NOW for each in chart.content.secrets] == [20 * DAY, 2 * DAY]
    assert charts.current(chart.content.secrets, NOW + 60 * DAY) == chart.content.secrets[:1]
    assert charts.current(chart.content.secrets, 0) == chart.content.secrets


def test_a_clock_that_went_back_does_not_make_an_old_secret_the_newest() -> None:
    first = signed(content("nas", "phone"))
    second = signed(content("nas"), after=[first], made=5)
    assert second.content.secrets[0].made == NOW + 1
    assert isinstance(second.content.secrets[0], Secret)


def test_a_machine_s_latest_word_is_kept_whichever_the_admin_had() -> None:
    first = signed(Content(machines=(machine("nas", links=record("nas", 5)),)))
    second = signed(Content(machines=(machine("nas", links=record("nas", 4)),)), after=[first])
    third = signed(content("nas"), after=[second])
    fourth = signed(Content(machines=(machine("nas", links=record("nas", 6)),)), after=[third])
    serials = [
        links.serial(each.content.machines[0].links) for each in (first, second, third, fourth)
    ]
    assert serials == [5, 5, 5, 6]


def test_the_line_is_bounded_and_one_who_was_away_for_long_still_follows() -> None:
    first = chart = signed(content("nas"))
    line = [chart]
    for _ in range(charts.MOST_ANCESTORS + 5):
        chart = signed(content("nas"), after=[chart])
        line.append(chart)
    assert len(chart.ancestors) == charts.MOST_ANCESTORS
    assert first.place not in chart.line
    assert all(chart.succeeds(each) for each in line[:-1])
    other = signed(content("nas", "tv"))  # a branch of the same age
    assert not chart.succeeds(other)


def test_a_map_of_another_version_says_so() -> None:
    with pytest.raises(MeshError, match="another version"):
        charts.read(b"clan map 2\n" + signed(FULL).raw[11:], ROOT.public)
    with pytest.raises(MeshError, match="does not know"):
        charts.read(forged({"weather": 1}), ROOT.public)


def under_a_new_epoch(old: Chain) -> Chain:
    return mandate.begin_epoch(old, ROOT, admins("bob", "carol"))


def test_an_epoch_begins_from_one_again() -> None:
    first = signed(content("nas", "tv"))
    second = signed(content("nas"), CAROL, under=under_a_new_epoch(first.chain), after=[first])
    assert (second.epoch, second.serial, second.parents) == (2, 1, ())
    assert second.order > first.order
    assert names(second.content) == ["nas"]
    assert second.content.removed == {key("tv").public}
