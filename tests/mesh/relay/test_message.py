"""Nothing is read of a message that is not a member's, for this machine, and as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import NOW, key

from clan.mesh import seal
from clan.mesh.chart import signed
from clan.mesh.chart.canonical import encode
from clan.mesh.chart.content import Secret
from clan.mesh.relay.message import (
    PURPOSE,
    Answer,
    Ask,
    Call,
    Heard,
    Message,
    Outcome,
    Tried,
    Try,
    read,
    write,
)
from clan.mesh.relay.ports import MAGIC

ONE, RELAY = key("one"), key("relay")
SECRET, FORMER = Secret(made=NOW, key=b"s" * 32), Secret(made=NOW - 86400, key=b"f" * 32)
ENDS = {"to": RELAY.public, "peer": b"p" * 32, "own": "0000000a", "their": "0000000b"}
MESSAGES: list[Message] = [
    Ask(**ENDS, seat=63, serial=7, token=b"t" * 24, leaves=True),  # type: ignore[arg-type]
    Answer(**ENDS, seat=0, serial=1, outcome=Outcome.READY),  # type: ignore[arg-type]
    Call(**ENDS),  # type: ignore[arg-type]
    Try(to=RELAY.public, host="2001:db8::1", port=23600, nonce=b"n" * 16),
    Tried(to=RELAY.public, nonce=b"n" * 16),
]
WORST = Ask(**ENDS, seat=63, serial=(1 << 63) - 1, token=b"t" * 24)  # type: ignore[arg-type]


def opened(data: bytes, to: bytes = RELAY.public) -> Heard | None:
    members = {ONE.public, RELAY.public}
    return read(data, to=to, members=members, secrets=[SECRET, FORMER], now=NOW)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("secret", [SECRET, FORMER], ids=["current", "former"])
def test_what_a_member_writes_is_read(message: Message, secret: Secret) -> None:
    assert opened(write(message, ONE, secret.key)) == Heard(sender=ONE.public, message=message)


def test_it_goes_through_any_network_in_one_piece() -> None:
    assert len(write(WORST, ONE, SECRET.key)) <= 1200


def test_others_are_not_heard() -> None:
    good = write(MESSAGES[0], ONE, SECRET.key)
    assert opened(good, to=ONE.public) is None
    assert opened(write(MESSAGES[0], key("stranger"), SECRET.key)) is None
    assert opened(write(MESSAGES[0], ONE, b"x" * 32)) is None
    assert opened(good[len(MAGIC) :]) is None
    assert opened(b"\1\0\0\0" + good[4:]) is None


@pytest.mark.parametrize(
    "change", [{"kind": "more"}, {"seat": 64}, {"own": 5}, {"outcome": "x"}, {"x": 1}, {"to": ""}]
)
def test_what_is_signed_and_odd_is_refused(change: dict[str, object]) -> None:
    good = write(MESSAGES[0], ONE, SECRET.key)
    body = seal.recognise([SECRET], good[len(MAGIC) :], NOW)
    assert body is not None
    said = signed.only(body.payload, PURPOSE, 2000, "it").body
    for text in (said.replace(b'"seat":63', b'"seat": 63'), encode({**_value(said), **change})):
        made = signed.sign(PURPOSE, text, ONE)
        assert opened(MAGIC + seal.announce(SECRET.key, made.raw)) is None


def _value(body: bytes) -> dict[str, object]:
    import json

    found: dict[str, object] = json.loads(body)
    return found


@given(st.binary(max_size=600))
def test_noise_is_no_message(data: bytes) -> None:
    assert opened(data) is None
    assert opened(MAGIC + data) is None
    assert opened(MAGIC + seal.announce(SECRET.key, data)) is None
