"""What is sent where anybody listens: noise to strangers, and no map for who is not listed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import BOB, DAY, NOW, ROOT, content, fresh, key, signed

from clan.mesh import seal
from clan.mesh.chart import chart as charts
from clan.mesh.chart import signed as envelopes
from clan.mesh.chart.canonical import encode
from clan.mesh.chart.content import Secret
from clan.mesh.errors import MeshError

OLD = signed(content("nas", "phone", "tv"))
NEW = signed(content("nas", "tv"), BOB, after=[OLD], made=NOW + DAY)
SECRET = NEW.content.secrets[0].key
NAS, PHONE = key("nas"), key("phone")


@given(st.binary(max_size=600))
def test_members_read_it_and_nobody_else(payload: bytes) -> None:
    data = seal.announce(SECRET, payload)
    heard = seal.recognise(NEW.content.secrets, data, NOW + DAY)
    assert heard == seal.Heard(payload=payload, request=b"", is_current=True)
    other = (Secret(made=0, key=fresh("other")),)
    assert seal.recognise(other, data, NOW) is None
    assert seal.recognise((), data, NOW) is None


def test_it_is_never_twice_the_same_and_its_length_says_little() -> None:
    sent = [seal.announce(SECRET, b"n" * length) for length in (0, 1, 50, 126)]
    assert len({len(each) for each in sent}) == 1
    assert len(seal.announce(SECRET, b"n" * 127)) == len(sent[0]) + seal.BLOCK
    assert len({each[:16] for each in sent}) == len({each[-16:] for each in sent}) == 4
    assert seal.announce(SECRET, b"n") != seal.announce(SECRET, b"n")
    with pytest.raises(ValueError, match="too long"):
        seal.announce(SECRET, bytes(seal.LONGEST))


@given(st.integers(0, 1000), st.integers(1, 255))
def test_a_changed_byte_makes_it_noise(at: int, change: int) -> None:
    data = bytearray(seal.announce(SECRET, b"nas"))
    data[at % len(data)] ^= change
    assert seal.recognise(NEW.content.secrets, bytes(data), NOW) is None


@given(st.binary(max_size=400))
def test_noise_is_nothing(data: bytes) -> None:
    assert seal.recognise(NEW.content.secrets, data, NOW) is None
    with pytest.raises(MeshError):
        seal.read_request(data)


def test_an_earlier_secret_is_recognised_for_some_days_and_told_apart() -> None:
    data = seal.announce(OLD.content.secrets[0].key, b"late")
    heard = seal.recognise(NEW.content.secrets, data, NOW + 5 * DAY)
    assert heard == seal.Heard(payload=b"late", request=b"", is_current=False)
    assert seal.recognise(NEW.content.secrets, data, NOW + 30 * DAY) is None


def members(chart: charts.Chart) -> frozenset[bytes]:
    return chart.content.identities


def test_a_machine_with_an_old_map_gets_the_new_one_from_any_member() -> None:
    question, sent = seal.ask(NAS, OLD.content.secrets[0].key, OLD)
    heard = seal.recognise(NEW.content.secrets, sent, NOW + 2 * DAY)
    assert heard
    assert (heard.payload, heard.is_current) == (b"", False)
    request = seal.read_request(heard.request)
    assert (request.identity, request.has) == (NAS.public, OLD.order)
    answered = seal.answer(request, members(NEW), NEW.raw)
    assert answered
    assert charts.read(seal.open_answer(question, answered), ROOT.public, OLD) == NEW


def test_a_machine_without_a_map_asks_too() -> None:
    _, sent = seal.ask(NAS, SECRET, None)
    heard = seal.recognise(NEW.content.secrets, sent, NOW + DAY)
    assert heard
    assert seal.read_request(heard.request).has == (0, 0, b"")


def test_who_was_removed_and_who_never_was_a_member_get_nothing() -> None:
    for identity in (PHONE, key("stranger")):
        _, sent = seal.ask(identity, OLD.content.secrets[0].key, OLD)
        heard = seal.recognise(NEW.content.secrets, sent, NOW + DAY)
        assert heard
        request = seal.read_request(heard.request)
        assert seal.answer(request, members(NEW), NEW.raw) is None
    assert seal.answer(request, {key("stranger").public}, b"map") is not None


def test_nobody_asks_in_another_s_name() -> None:
    _, sent = seal.ask(NAS, SECRET, NEW)
    heard = seal.recognise(NEW.content.secrets, sent, NOW + DAY)
    assert heard
    body = heard.request[envelopes.HEAD :]
    with pytest.raises(MeshError, match="another identity"):
        seal.read_request(envelopes.sign(seal.PURPOSE, body, PHONE).raw)
    with pytest.raises(MeshError, match="changed or damaged"):
        seal.read_request(heard.request[:-1] + b" ")
    with pytest.raises(MeshError, match="not signed by whom"):
        seal.read_request(envelopes.sign("links", body, NAS).raw)
    for wrong in (b"{}", b"[]", body.replace(b":", b": ", 1), encode({"epoch": 1})):
        with pytest.raises(MeshError):
            seal.read_request(envelopes.sign(seal.PURPOSE, wrong, NAS).raw)


def test_an_answer_is_for_its_question_alone() -> None:
    question, sent = seal.ask(NAS, SECRET, OLD)
    heard = seal.recognise(NEW.content.secrets, sent, NOW + DAY)
    assert heard
    request = seal.read_request(heard.request)
    answered = seal.answer(request, members(NEW), NEW.raw)
    assert answered
    assert seal.answer(request, members(NEW), NEW.raw) != answered
    other, _ = seal.ask(NAS, SECRET, OLD)
    damaged = answered[:-1] + bytes([answered[-1] ^ 1])
    for asked, data in [
        (other, answered),
        (question, damaged),
        (question, answered[:40]),
        (question, b""),
        (question, bytes(32) + answered[32:]),
        (replace(question, hash=fresh("another")), answered),
    ]:
        with pytest.raises(MeshError, match="no answer to what was asked"):
            seal.open_answer(asked, data)


def test_a_key_that_gives_everybody_the_same_is_not_answered() -> None:
    """Low-order points of X25519 (RFC 7748, section 6.1)."""
    request = seal.Request(identity=NAS.public, key=bytes(32), has=(0, 0, b""), hash=fresh("q"))
    assert seal.answer(request, members(NEW), NEW.raw) is None


def test_secrets_do_not_show_when_printed() -> None:
    question, _ = seal.ask(NAS, SECRET, OLD)
    assert "private" not in repr(question)
