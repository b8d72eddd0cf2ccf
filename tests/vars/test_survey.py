"""What is wrong with the vars is said, and what nothing declares is found and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.vars.family import Family, Machines, changed, made, wireguard
from tests.vars.test_people import login

from clan.errors import ClanError
from clan.vars.admins import Admin
from clan.vars.age import new_key
from clan.vars.change import set_answer, set_value, settable
from clan.vars.names import find
from clan.vars.need import Request
from clan.vars.people import add_admin
from clan.vars.rotation import generators_due
from clan.vars.survey import State, check, prune, states

if TYPE_CHECKING:
    from clan.model.generator import Generator

BOTH = ("nas", "vps")
STAMP = "2026-02-01T00:00:00Z"


def findings(family: Family, *generators: Generator) -> list[tuple[str, str, bool]]:
    found = check(family.store, family.graph(*generators), BOTH)
    return [(each.id, each.message, each.wrong) for each in found if each.id != "anna"]


def test_each_var_has_a_state(family: Family) -> None:
    token = made("token")
    family.generate(token)
    family.machine("nas")
    declared = changed(token, version=2), wireguard(), made("id", secret=False)
    found = states(family.store, family.graph(*declared), BOTH)
    assert [(each.var.generator, each.var.file, each.state, each.why) for each in found] == [
        ("id", "value", State.MISSING, ""),
        ("identity", "age.pub", State.PRESENT, ""),
        ("token", "value", State.DUE, "version 1 became 2"),
        ("wireguard-keys-vpn", "privatekey", State.ON_MACHINE, ""),
        ("wireguard-keys-vpn", "publickey", State.MISSING, ""),
    ]


def test_a_machine_without_its_secrets_and_a_damaged_one_are_wrong(family: Family) -> None:
    declared = made("token"), made("other")
    family.generate(*declared)
    assert findings(family, *declared) == []
    sealed = family.store.place("nas", "other") / "value/secret"
    sealed.write_bytes(sealed.read_bytes()[:-80])
    assert [(id_, wrong) for id_, _, wrong in findings(family, *declared)] == [
        ("nas/other/value", True)
    ]
    family.generate(*declared, request=Request(services=frozenset({"other"}), regenerate=True))
    family.machine("nas")
    assert {(id_, wrong) for id_, _, wrong in findings(family, *declared)} == {
        ("nas/token/value", True),
        ("nas/other/value", True),
    }


def test_a_key_that_its_machine_will_make_is_not_wrong(family: Family) -> None:
    family.generate(wireguard())
    assert [wrong for _, _, wrong in findings(family, wireguard())] == [False, False]


def test_a_due_key_that_nothing_declares_any_more_is_listed_no_longer(family: Family) -> None:
    machines = family.birthplace = Machines("nas")
    family.generate(wireguard())
    machines.answering.clear()
    family.regenerate(wireguard(), service="wireguard-keys-vpn")
    said = "the key of wireguard-keys-vpn is due: asked for"
    assert findings(family, wireguard()) == [("nas", said, False)]
    assert prune(family.store, family.graph(), BOTH)
    assert findings(family) == []
    # Declared again, it is to be replaced still: the machine may have kept the old one.
    machines.answering.add("nas")
    due = generators_due(family.store, "nas", family.graph(wireguard()))
    assert [str(each) for each in due] == ["nas/wireguard-keys-vpn"]
    family.generate(wireguard(), request=Request(due=frozenset(due)))
    assert machines.asked[-1] == ("nas", "wireguard-keys-vpn", True)
    assert findings(family, wireguard()) == []


def test_what_nothing_declares_is_removed_and_nothing_else(family: Family) -> None:
    two = made("two", "kept", "dropped")
    family.generate(made("token"), two, made("gone"), made("wifi", machine=None))
    family.store.write("nas", "openssh", "ssh.id_ed25519.pub", "ssh-ed25519 AAAA")
    family.store.write("old", "openssh", "ssh.id_ed25519.pub", "ssh-ed25519 AAAA")
    draft = family.store.place("nas", ".token.new")
    draft.mkdir()
    declared = made("token"), made("two", "kept")
    gone = prune(family.store, family.graph(*declared), BOTH)
    assert [str(path.relative_to(family.store.folder)) for path in gone] == [
        "per-machine/nas/.token.new",
        "per-machine/nas/gone",
        "per-machine/nas/two/dropped",
        "per-machine/old",
        "shared/wifi",
    ]
    left = {str(p.relative_to(family.store.folder)) for p in family.store.folder.glob("*/*/*")}
    assert left == {f"per-machine/nas/{name}" for name in ("openssh", "token", "two")}
    assert findings(family, *declared) == []
    assert prune(family.store, family.graph(*declared), BOTH) == []


def test_a_value_given_by_hand_is_kept_and_not_made_again(family: Family) -> None:
    pair = made("pair", "private", "public")
    graph = family.graph(pair)
    var, _, prompt = settable(graph, "nas/pair/private")
    assert prompt is None
    set_value(family.store, graph, var, b"by hand", STAMP)
    assert [each.why for each in family.generate(pair)] == ["public missing"]
    assert family.store.reveal(var) == "by hand"
    set_value(family.store, graph, find("nas/pair/public", graph.vars()), b"too", STAMP)
    assert family.generate(pair) == []
    assert family.store.reveal(var) == "by hand"


def test_a_value_given_by_hand_settles_what_was_due(family: Family) -> None:
    family.generate(made("token"))
    newer = changed(made("token"), version=2)
    assert [each.made for each in family.generate(newer)] == [False]
    graph = family.graph(newer)
    set_value(family.store, graph, find("nas/token/value", graph.vars()), b"new", STAMP)
    assert family.generate(newer) == []


def test_an_answer_given_beforehand_is_used_once_and_never_kept_in_the_clear(
    family: Family,
) -> None:
    graph = family.graph(login())
    var, _, prompt = settable(graph, "nas/login/password")
    assert prompt is not None
    assert set_answer(family.store, graph, var, b"sesame", STAMP) == []
    for path in family.folder.rglob("*"):
        assert not path.is_file() or b"sesame" not in path.read_bytes()
    assert [each.made for each in family.generate(login())] == [True]
    assert family.store.reveal(find("nas/login/hash", graph.vars())) == "sesame"
    assert not list(family.store.folder.rglob("answer"))


def test_an_answer_is_read_by_an_admin_who_joins_before_it_is_used(family: Family) -> None:
    graph = family.graph(login())
    var, _, _ = settable(graph, "nas/login/password")
    set_answer(family.store, graph, var, b"sesame", STAMP)
    secret, public = new_key()
    add_admin(family.store, graph, Admin(name="ben", key=public))
    family.sits_here(secret)
    assert [each.made for each in family.generate(login())] == [True]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("nas", "'nas' is no id", "ids are MACHINE/GENERATOR/FILE, or shared/GENERATOR/FILE"),
        ("nas/../etc", "is no id", "ids are MACHINE/GENERATOR/FILE, or shared/GENERATOR/FILE"),
        ("nsa/token/value", "no machine 'nsa'", "did you mean 'nas'?"),
        ("nas/tokn/value", "nas has no generator 'tokn'", "did you mean 'token'?"),
        ("nas/token/valve", "nas/token has no file 'valve'", "did you mean 'value'?"),
        ("nas/token/x", "nas/token has no file 'x'", "files: value"),
    ],
)
def test_an_id_that_names_nothing_names_the_nearest(
    family: Family, text: str, said: str, hint: str
) -> None:
    with pytest.raises(ClanError, match=said) as caught:
        settable(family.graph(made("token")), text)
    assert caught.value.hint == hint


def test_a_key_that_is_born_on_its_machine_cannot_be_given(family: Family) -> None:
    with pytest.raises(ClanError, match="born on its machine") as caught:
        settable(family.graph(wireguard()), "nas/wireguard-keys-vpn/privatekey")
    assert "--service wireguard-keys-vpn --regenerate --machine nas" in str(caught.value.hint)
