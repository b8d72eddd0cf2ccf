"""Both ends of a stream know each other before anything else is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import fresh, key
from tests.mesh.tls.side import Side

from clan.mesh.errors import MeshError
from clan.mesh.tls import greeting
from clan.mesh.tls.frames import Port

RELAY, OTHER, LAPTOP, THIEF = key("vps"), key("shop"), key("laptop"), key("thief")
BOUND = fresh("certificate")
ID = "0a0b0c0d"


def sides(**other: Any) -> tuple[Side, Side]:
    given: dict[str, Any] = {
        "relay": RELAY,
        "machine": LAPTOP,
        "meant": RELAY.public,
        "of_relay": BOUND,
        "of_machine": BOUND,
        "members": {LAPTOP.public},
    }
    given |= other
    is_member = given["members"].__contains__
    return (
        Side(lambda b: greeting.of_relay(b, given["relay"], given["of_relay"], is_member)),
        Side(
            lambda b: greeting.of_machine(
                b, given["machine"], ID, given["meant"], given["of_machine"]
            )
        ),
    )


def meet(relay: Side, machine: Side, size: int = 1000) -> None:
    """Carry bytes to and fro, so many at once."""
    to_machine, to_relay = relay.hear(b""), machine.hear(b"")
    while to_machine or to_relay:
        part, to_machine = to_machine[:size], to_machine[size:]
        to_relay += machine.hear(part) if part else b""
        part, to_relay = to_relay[:size], to_relay[size:]
        to_machine += relay.hear(part) if part else b""


@given(st.integers(1, 200))
def test_two_that_know_each_other_meet_however_the_bytes_are_cut(size: int) -> None:
    relay, machine = sides()
    meet(relay, machine, size)
    assert relay.result == Port(LAPTOP.public, ID)
    assert machine.result == Port(RELAY.public, "")


def test_what_comes_after_the_greeting_stays() -> None:
    relay, machine = sides()
    answer = machine.hear(relay.hear(b""))
    said = relay.hear(answer + b"frames")
    assert relay.buffer == b"frames"
    machine.hear(said + b"others")
    assert machine.buffer == b"others"


def test_a_stranger_is_told_nothing() -> None:
    relay, machine = sides(machine=THIEF)
    answer = machine.hear(relay.hear(b""))
    with pytest.raises(MeshError, match="does not list"):
        relay.hear(answer)


@pytest.mark.parametrize(
    ("other", "who"),
    [
        # A member that is a relay too passes on what another says to it.
        ({"meant": OTHER.public}, "relay"),
        # Somebody opens TLS between them with a certificate of his own.
        ({"of_machine": fresh("another")}, "relay"),
        ({"relay": OTHER, "meant": RELAY.public}, "relay"),
    ],
)
def test_what_was_signed_for_another_stream_is_no_use(other: dict[str, Any], who: str) -> None:
    del who
    relay, machine = sides(**other)
    answer = machine.hear(relay.hear(b""))
    with pytest.raises(MeshError, match="not who it says"):
        relay.hear(answer)


def test_an_answer_cannot_be_used_again() -> None:
    relay, machine = sides()
    answer = machine.hear(relay.hear(b""))
    again, _ = sides()
    again.hear(b"")
    with pytest.raises(MeshError, match="not who it says"):
        again.hear(answer)


def test_another_who_answers_as_the_relay_is_found_out() -> None:
    relay, machine = sides()
    relay.hear(machine.hear(relay.hear(b"")))
    with pytest.raises(MeshError, match="is not the relay"):
        machine.hear(THIEF.sign(b"whatever"))


@given(st.binary(min_size=132, max_size=300))
def test_noise_is_a_stranger(data: bytes) -> None:
    relay, _ = sides()
    relay.hear(b"")
    with pytest.raises(MeshError):
        relay.hear(data)


@given(st.binary(max_size=131))
def test_half_a_greeting_is_waited_for(data: bytes) -> None:
    relay, _ = sides()
    relay.hear(b"")
    assert relay.hear(data) == b""
    assert relay.result is None
