from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.networks.hostkeys import (
    FirstContact,
    Meeting,
    Verdict,
    fingerprint,
    judge,
    refusal,
    well_formed,
)

# RFC 8709's format around 32 bytes; ssh-keygen -lf gives the fingerprint.
BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))
KEY = f"ssh-ed25519 {base64.b64encode(BLOB).decode()}"
OTHER = f"ssh-ed25519 {base64.b64encode(BLOB[:-1] + b'x').decode()}"
ASK, NEW, STRICT = FirstContact.ASK, FirstContact.ACCEPT_NEW, FirstContact.STRICT


@pytest.mark.parametrize(
    ("shown", "expected", "policy", "multicast", "terminal", "verdict"),
    [
        (KEY, KEY, STRICT, True, False, Verdict.EXPECTED),
        (OTHER, KEY, NEW, False, True, Verdict.WRONG),
        (OTHER, KEY, ASK, True, True, Verdict.WRONG),
        (KEY, None, NEW, False, False, Verdict.ACCEPT),
        (KEY, None, NEW, True, True, Verdict.REFUSE_MULTICAST),
        (KEY, None, ASK, True, True, Verdict.ASK),
        (KEY, None, ASK, False, False, Verdict.REFUSE),
        (KEY, None, STRICT, False, True, Verdict.REFUSE),
        ("ssh-rsa AAAA", None, NEW, False, True, Verdict.REFUSE),
    ],
)
def test_verdicts(
    shown: str,
    expected: str | None,
    policy: FirstContact,
    multicast: bool,
    terminal: bool,
    verdict: Verdict,
) -> None:
    found = judge(shown, expected, policy=policy, by_multicast=multicast, terminal=terminal)
    assert found is verdict


@pytest.mark.parametrize("multicast", [True, False])
def test_nobody_is_told_to_accept_what_would_not_be_accepted(multicast: bool) -> None:
    meeting = Meeting(machine="nas", network="lan", address="10.0.0.2:22", by_multicast=multicast)
    _, hint = refusal(
        meeting, judge(KEY, None, policy=ASK, by_multicast=multicast, terminal=False), KEY
    )
    works = judge(KEY, None, policy=NEW, by_multicast=multicast, terminal=False) is Verdict.ACCEPT
    assert ("accept-new" in hint) is works


@given(st.text())
def test_only_the_recorded_key_is_ever_expected(shown: str) -> None:
    for policy in FirstContact:
        verdict = judge(shown, KEY, policy=policy, by_multicast=False, terminal=True)
        assert verdict is (Verdict.EXPECTED if shown == KEY else Verdict.WRONG)


@given(st.text() | st.binary().map(lambda b: "ssh-ed25519 " + base64.b64encode(b).decode()))
def test_what_is_no_key_has_no_fingerprint(text: str) -> None:
    assert fingerprint(text) == "(not an Ed25519 key)" or well_formed(text)


def test_the_fingerprint_is_openssh_s() -> None:
    assert fingerprint(KEY) == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"
