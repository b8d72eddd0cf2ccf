"""Who may sign: from the clan's first root on, each step is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import ALICE, BOB, CAROL, ROOT, admins, chain, key

from clan.mesh.chart import mandate, signed
from clan.mesh.chart.canonical import base64_of, encode
from clan.mesh.chart.mandate import Admin, begin_epoch, list_admins
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from clan.mesh.chart.mandate import Chain
    from clan.mesh.identity import Key

NEW_ROOT = key("new root")


def again(made: Chain) -> Chain:
    read, rest = mandate.read(made.raw + b"rest", ROOT.public)
    assert rest == b"rest"
    return read


def long_chain() -> Chain:
    made = list_admins(chain("alice"), admins("alice", "bob"), ALICE)
    made = begin_epoch(made, ROOT, admins("alice", "bob"), NEW_ROOT)
    made = begin_epoch(made, NEW_ROOT, admins("bob"))
    return list_admins(made, admins("bob", "carol"), BOB)


def test_it_is_proven_to_whoever_knows_the_first_root_alone() -> None:
    made = long_chain()
    assert again(made) == made
    assert (made.epoch, made.last.number, made.first_root) == (3, 1, ROOT.public)
    assert made.last.signers == {NEW_ROOT.public, BOB.public, CAROL.public}
    with pytest.raises(MeshError, match="may not sign"):
        mandate.read(made.raw, key("stranger").public)


def test_what_was_verified_is_not_verified_again_unless_it_differs() -> None:
    made = long_chain()
    longer = list_admins(made, admins("bob"), CAROL)
    read, _ = mandate.read(longer.raw, ROOT.public, made)
    assert read == longer
    assert all(a is b for a, b in zip(read.mandates, made.mandates, strict=False))
    raw = bytearray(longer.raw)
    raw[50] ^= 1
    with pytest.raises(MeshError, match="changed or damaged"):
        mandate.read(bytes(raw), ROOT.public, made)


def test_only_those_listed_list_others() -> None:
    made = list_admins(chain("alice", "bob"), admins("alice"), BOB)
    assert made.removed == {BOB.public}
    for wrong in (BOB, CAROL):
        with pytest.raises(MeshError, match="may not sign"):
            list_admins(made, admins("alice", "carol"), wrong)
    assert list_admins(made, admins("bob"), ROOT).last.signers == {ROOT.public, BOB.public}


def test_only_the_root_begins_an_epoch() -> None:
    with pytest.raises(MeshError):
        begin_epoch(chain("alice"), ALICE, admins("alice"))
    made = begin_epoch(chain("alice"), ROOT, admins("bob"))
    assert (made.epoch, made.last.number, made.removed) == (2, 0, frozenset())


def forged(after: Chain, by: Key, **change: object) -> bytes:
    """Return a chain whose last mandate is signed as no tool of ours would."""
    last = after.last
    said = {
        "epoch": last.epoch + 1,
        "number": 0,
        "root": base64_of(last.root),
        "admins": [["alice", base64_of(ALICE.public)]],
        "before": base64_of(last.hash),
        "consent": "",
    } | change
    proof = signed.sign(mandate.PURPOSE, encode(said), by)
    count = len(after.mandates) + 1
    return count.to_bytes(2, "big") + after.raw[2:] + proof.raw


def test_an_admin_begins_no_epoch_and_a_mandate_says_what_it_follows() -> None:
    made = chain("alice")
    assert mandate.read(forged(made, ROOT), ROOT.public)[0].epoch == 2
    elsewhere = base64_of(begin_epoch(made, ROOT, admins("bob")).last.hash)
    for by, change in (
        (ALICE, {}),
        (ROOT, {"before": elsewhere}),
        (ROOT, {"epoch": 1}),
        (ALICE, {"epoch": 1, "number": 1, "before": elsewhere}),
        (ALICE, {"epoch": 1, "number": 2}),
        (ALICE, {"epoch": 2, "number": 1}),
        (ALICE, {"epoch": 1, "number": 1, "root": base64_of(BOB.public)}),
    ):
        with pytest.raises(MeshError):
            mandate.read(forged(made, by, **change), ROOT.public)


def test_there_is_one_way_to_write_a_mandate() -> None:
    made = chain("alice")
    body = made.last.proof.body
    for other in (body.replace(b":", b": ", 1), body + b" ", body.replace(b"}", b',"x":1}')):
        proof = signed.sign(mandate.PURPOSE, other, ROOT)
        with pytest.raises(MeshError):
            mandate.read(b"\0\1" + proof.raw, ROOT.public)


def test_a_root_that_was_replaced_begins_nothing_and_a_new_one_must_have_its_key() -> None:
    made = begin_epoch(chain("alice"), ROOT, admins("alice"), NEW_ROOT)
    with pytest.raises(MeshError, match="may not sign"):
        begin_epoch(made, ROOT, admins("alice"))
    assert begin_epoch(made, NEW_ROOT, admins("alice")).first_root == ROOT.public
    draft = mandate._draft(
        epoch=2,
        number=0,
        root=NEW_ROOT.public,
        admins=admins("alice"),
        before=chain("alice").last.hash,
        consent=bytes(64),
    )
    with pytest.raises(MeshError, match="has not signed"):
        mandate._after(chain("alice"), draft, ROOT)


def test_an_epoch_forgets_the_lists_before() -> None:
    made = chain("alice")
    for number in range(5):
        made = list_admins(made, admins("alice", *(["bob"] if number % 2 else [])), ALICE)
    assert len(made.mandates) == 6
    assert len(begin_epoch(made, ROOT, admins("alice")).mandates) == 2


def test_a_mandate_taken_out_or_put_elsewhere_is_noticed() -> None:
    made = long_chain()
    for mandates in (
        made.mandates[1:],
        made.mandates[:1] + made.mandates[2:],
        made.mandates[::-1],
        (*made.mandates, made.mandates[-1]),
        (*made.mandates, made.mandates[0]),
    ):
        with pytest.raises(MeshError):
            mandate.read(type(made)(mandates).raw, ROOT.public)
    with pytest.raises(MeshError, match="none, or too many"):
        mandate.read(b"\0\0", ROOT.public)


@given(st.integers(0, 5000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    raw = bytearray(long_chain().raw)
    raw[at % len(raw)] ^= change
    with pytest.raises(MeshError):
        mandate.read(bytes(raw), ROOT.public)


@pytest.mark.parametrize(
    "listed",
    [
        [Admin(name="alice", key=ALICE.public), Admin(name="alice", key=BOB.public)],
        [Admin(name="alice", key=ALICE.public), Admin(name="bob", key=ALICE.public)],
        [Admin(name="root", key=ROOT.public)],
        [Admin(name="two words", key=ALICE.public)],
        [Admin(name="", key=ALICE.public)],
        [Admin(name="alice", key=b"short")],
        admins(*(f"a{number}" for number in range(33))),
    ],
)
def test_faulty_admins_are_refused(listed: list[Admin]) -> None:
    with pytest.raises(MeshError):
        mandate.found(ROOT, listed)


def test_people_are_called_by_their_names() -> None:
    made = list_admins(chain("alice", "bob"), admins("alice"), ALICE)
    assert made.name(BOB.public) == "bob"
    assert made.name(ROOT.public) == "the root"
    assert made.name(CAROL.public).startswith("the key ")
