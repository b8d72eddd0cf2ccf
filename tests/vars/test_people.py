"""Admins come and go: who joins reads everything, what one who leaves could read is replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.vars.family import Counter, Family, Machines, changed, made, wireguard

from clan.errors import ClanError, UsageError
from clan.model.exports import Var
from clan.model.generator import Generator, Prompt, VarFile
from clan.vars.admins import Admin, login_key, login_keys, path_of, read_admins, write_record
from clan.vars.age import new_key
from clan.vars.people import add_admin, remove_admin
from clan.vars.rotation import HOST_KEY, Rotation, leave_word, rotations, settle
from clan.vars.survey import check

if TYPE_CHECKING:
    from clan.vars.people import Removal

STAMP = "2026-02-01T00:00:00Z"
LOGIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEqr4eDgkbVuPAQAcmpnMwZSbqW+6/DGqcUqlT1zVwmc ben@desk"
TOKEN = Var(machine="nas", generator="token", file="value")


def login() -> Generator:
    return Generator(
        name="login",
        machine="nas",
        files=(VarFile(name="hash"),),
        make=lambda inputs: {"hash": inputs.prompts["password"].encode()},
        prompts=(Prompt(name="password", description="Password of nas"),),
    )


def with_ben(family: Family, *generators: Generator) -> str:
    secret, public = new_key()
    ben = Admin(name="ben", key=public, logins=(LOGIN,))
    add_admin(family.store, family.graph(*generators), ben)
    return secret


def remove(family: Family, *generators: Generator, name: str = "ben") -> Removal:
    return remove_admin(family.store, family.graph(*generators), name, ("nas", "vps"), STAMP)


def test_who_joins_reads_what_was_there_before(family: Family) -> None:
    family.generate(made("token"))
    ben = with_ben(family, made("token"))
    assert family.readable_by(ben, TOKEN)
    assert login_keys(family.store.folder) == (LOGIN,)
    assert family.generate(made("token")) == []  # the same value, only more readers


def test_who_leaves_reads_nothing_that_is_used_from_then_on(family: Family) -> None:
    token, wifi = made("token", make=Counter()), made("wifi", machine=None, make=Counter())
    follows = changed(made("id", secret=False, make=Counter()), depends=("token",))
    family.generate(token, wifi, follows)
    ben = with_ben(family, token, wifi, follows)
    done = remove(family, token, wifi, follows)
    assert sorted(map(str, done.rotated)) == ["nas/id", "nas/token", "shared/wifi"]
    assert (done.machines, done.by_hand) == ((), ())
    assert family.store.reveal(TOKEN) == "value 2"
    assert family.store.read("nas", "id", "value") == "value 2"
    assert not family.readable_by(ben, TOKEN)
    assert "ben" not in read_admins(family.store.folder)
    assert family.generate(token, wifi, follows) == []


def test_machines_that_they_could_log_in_to_replace_their_own_keys(family: Family) -> None:
    family.machine("nas")
    family.birthplace = Machines("nas")
    family.generate(wireguard(), wireguard("vps"))
    with_ben(family, wireguard(), wireguard("vps"))
    assert remove(family, wireguard(), wireguard("vps")).machines == ("nas",)
    found = [(each.what, each.replace) for each in rotations(family.store, "nas")]
    assert found == [
        ("identity", True),
        ("host-key", True),
        ("generator/wireguard-keys-vpn", True),
    ]
    # vps is not installed, so that there is nothing on it that they could have read.
    assert [each.replace for each in rotations(family.store, "vps")] == [False]


def test_who_could_log_in_nowhere_read_no_machines_own_keys(family: Family) -> None:
    family.machine("nas")
    family.admin("ben", here=False)
    assert remove(family, wireguard()).machines == ()
    assert rotations(family.store, "nas") == ()


def test_a_key_that_is_to_be_made_and_then_to_be_replaced_is_replaced(family: Family) -> None:
    for replaces in (False, True, False):
        word = Rotation(what=HOST_KEY, why="because", since=STAMP, replace=replaces)
        leave_word(family.store, "nas", [word])
    assert [each.replace for each in rotations(family.store, "nas")] == [True]
    settle(family.store, "nas", HOST_KEY)
    assert rotations(family.store, "nas") == ()
    assert list(family.store.place("nas", "x").parent.iterdir()) == []


def test_what_only_a_person_knows_is_left_to_one_and_stays_due(family: Family) -> None:
    family.ask = lambda _, __: "secret"
    for_life = changed(made("address"), for_life=True)
    own = changed(wireguard(), for_life=True)
    family.birthplace = Machines("nas")
    family.machine("nas")
    family.generate(login(), for_life, own)
    ben = with_ben(family, login(), for_life, own)
    done = remove(family, login(), for_life, own)
    assert done.rotated == ()
    assert [each.what for each in rotations(family.store, "nas")] == ["identity", "host-key"]
    assert [(str(id_), why) for id_, why in done.by_hand] == [
        ("nas/login", "only a person knows another value"),
        ("nas/address", "it is for life: others must admit the machine again"),
        ("nas/wireguard-keys-vpn", "it is for life: others must admit the machine again"),
    ]
    hash_ = Var(machine="nas", generator="login", file="hash")
    assert family.store.reveal(hash_) == "secret"
    assert not family.readable_by(ben, hash_)
    due = {str(each.id): each.why for each in family.generate(login(), for_life, own)}
    assert due == {
        "nas/login": "ben, who could read it, is no admin any more",
        "nas/address": "ben, who could read it, is no admin any more",
        "nas/wireguard-keys-vpn": "ben, who could read it, is no admin any more",
    }
    assert family.store.read("nas", "wireguard-keys-vpn", "publickey") == "key 1"
    declared = login(), for_life, own
    found = check(family.store, family.graph(*declared), ("nas",))
    assert set(due) <= {each.id for each in found if not each.wrong}
    family.regenerate(*declared, service="login")
    family.regenerate(*declared, service="wireguard-keys-vpn")
    assert [str(each.id) for each in family.generate(*declared)] == ["nas/address"]


def test_a_key_for_life_that_came_from_elsewhere_stays_due_too(family: Family) -> None:
    own = changed(wireguard(), for_life=True)
    follows = changed(made("id", secret=False, make=Counter()), depends=("wireguard-keys-vpn",))
    family.machine("nas")
    family.store.write("nas", "wireguard-keys-vpn", "publickey", "key 0")
    family.generate(own, follows)
    with_ben(family, own, follows)
    assert remove(family, own, follows).rotated == ()
    why = "ben, who could read it, is no admin any more"
    outcomes = [(str(each.id), each.why) for each in family.generate(own, follows)]
    assert outcomes == [("nas/wireguard-keys-vpn", why)]


def test_a_generator_that_fails_keeps_nothing_readable(family: Family) -> None:
    family.generate(made("token"), made("other"))
    ben = with_ben(family, made("token"), made("other"))
    broken = made("token", make=lambda _: {})
    done = remove(family, broken, made("other"))
    assert [str(each) for each in done.rotated] == ["nas/other"]
    ((id_, why),) = done.by_hand
    assert (str(id_), "did not make value" in why) == ("nas/token", True)
    assert not family.readable_by(ben, TOKEN)


def test_what_nothing_declares_any_more_is_not_left_to_them(family: Family) -> None:
    family.generate(made("token"))
    ben = with_ben(family, made("token"))
    done = remove(family)
    assert [str(id_) for id_, _ in done.by_hand] == ["nas/token"]
    assert not family.readable_by(ben, TOKEN)


def test_the_last_admin_and_oneself_stay(family: Family) -> None:
    with pytest.raises(ClanError, match="the only admin"):
        remove(family, name="anna")
    with_ben(family)
    with pytest.raises(ClanError, match="sits at this computer"):
        remove(family, name="anna")
    with pytest.raises(ClanError, match="no admin 'bem'") as caught:
        remove(family, name="bem")
    assert caught.value.hint == "did you mean 'ben'?"
    assert sorted(read_admins(family.store.folder)) == ["anna", "ben"]


def test_a_removal_that_was_cut_short_is_seen_and_goes_on(family: Family) -> None:
    token = made("token", make=Counter())
    family.generate(token)
    with_ben(family, token)
    ben = read_admins(family.store.folder)["ben"]
    path_of(family.store.folder, "ben").write_bytes(write_record(replace(ben, leaving=True)))
    assert login_keys(family.store.folder) == ()
    found = check(family.store, family.graph(token), ("nas", "vps"))
    assert [(each.id, each.wrong) for each in found] == [("ben", True), ("nas/token/value", True)]
    assert [str(each) for each in remove(family, token).rotated] == ["nas/token"]


def test_a_name_or_a_key_is_one_persons(family: Family) -> None:
    anna = read_admins(family.store.folder)["anna"]
    for other in (replace(anna, name="ben"), replace(anna, key=new_key()[1])):
        with pytest.raises(ClanError, match="anna is an admin with the same"):
            add_admin(family.store, family.graph(), other)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        'command="rm -rf /" ' + LOGIN,
        LOGIN + "\nssh-ed25519 AAAA",
        LOGIN.replace("ssh-ed25519", "ssh-rsa"),
        LOGIN + "\x1b[2J",
    ],
)
def test_what_is_no_ssh_key_logs_nobody_in(line: str) -> None:
    assert login_key(LOGIN + "\n") == LOGIN
    with pytest.raises(UsageError, match="no SSH public key"):
        login_key(line)


@pytest.mark.parametrize("text", ["", "key = 3", "logins = []", "key = 'x'\nlogins = ['x']", "["])
def test_a_faulty_record_is_named(family: Family, text: str) -> None:
    path = path_of(family.store.folder, "ben")
    path.write_text(text)
    with pytest.raises(ClanError) as caught:
        family.generate(made("token"))
    assert "ben.toml" in str(caught.value) or "no key to encrypt to" in str(caught.value)
