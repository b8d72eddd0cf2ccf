"""What the doctor says of what it saw: one story for each row of the troubleshooting page."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.modules.test_wireguard_plan import CLAN, Known, key

from clan.model.finding import lasting
from clan.modules.wireguard.doctor import Case, cases, diagnose, question
from clan.modules.wireguard.plan import peer_subnet, subnet_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.desk import Desk

NOW = 1_700_000_000


def case_of(desk: Desk, machine: str, values: Known | None = None) -> Case:
    (case,) = cases(machine, desk.open(CLAN), values or Known())
    return case


def healthy(case: Case) -> dict[str, Any]:
    """Return what is seen of an interface that is as it should be, ten seconds after handshakes."""
    shown = {
        "flags": ["POINTOPOINT", "NOARP", "UP"],
        "mtu": case.link.mtu,
        "addr_info": [
            {"local": address.partition("/")[0], "prefixlen": 128}
            for address in case.link.addresses
        ],
    }
    peers = [
        f"{peer.public_key}\t(none)\t192.0.2.1:51820\t{','.join(peer.allowed_ips)}\t{NOW - 10}"
        f"\t100\t100\t{peer.keepalive or 'off'}"
        for peer in case.link.peers
    ]
    return {
        "time": NOW,
        "wg": True,
        "interface": shown,
        "routes": list(case.link.routes),
        "device": [key(case.machine), str(case.link.port or 40000), "off"],
        "peers": peers,
        "received_before": {peer.public_key: 40 for peer in case.link.peers},
        "listening": [["wireguard-go", "7"]],
        "ports": {},
        "forwarding": "1",
        "endpoints": {peer.endpoint: ["192.0.2.1"] for peer in case.link.peers if peer.endpoint},
        "pings": dict.fromkeys(case.addresses, 1.5),
        "carriers": None,
        "journal": [],
    }


@pytest.mark.parametrize("machine", ["laptop1", "server1"])
def test_nothing_is_said_of_what_is_well(desk: Desk, machine: str) -> None:
    case = case_of(desk, machine)
    assert diagnose(case, healthy(case), clock=1.0) == []


def age(saw: dict[str, Any], name: str, handshake: int) -> None:
    """Let the last handshake with a machine have been then, and nothing come from it since."""
    saw["received_before"][key(name)] = 100
    for number, line in enumerate(saw["peers"]):
        fields = line.split("\t")
        if fields[0] == key(name):
            saw["peers"][number] = "\t".join([*fields[:4], str(handshake), *fields[5:]])
    saw["pings"][name] = None


def no_interface(saw: dict[str, Any]) -> None:
    saw.update(interface=None, device=None, peers=[], journal=["it ended"])


def taken(saw: dict[str, Any]) -> None:
    no_interface(saw)
    saw.update(listening=[["dnsmasq", "12"]], ports={"two": 51820})


def other_port(saw: dict[str, Any]) -> None:
    saw["device"][1] = "0"
    saw["listening"] = [["dnsmasq", "12"]]


def all_silent(saw: dict[str, Any]) -> None:
    age(saw, "server1", 0)
    age(saw, "server2", NOW - 7200)
    saw["pings"] = dict.fromkeys(saw["pings"])


def no_name(saw: dict[str, Any]) -> None:
    age(saw, "server1", 0)
    saw["endpoints"]["vpn1.example.com:51820"] = "Name or service not known"


def moved(saw: dict[str, Any]) -> None:
    age(saw, "server1", NOW - 400)
    saw["endpoints"]["vpn1.example.com:51820"] = ["192.0.2.9"]


def unrouted(saw: dict[str, Any]) -> None:
    saw["interface"].update(flags=[], mtu=1500, addr_info=[])
    saw["routes"] = []


STORIES: list[tuple[str, Callable[[dict[str, Any]], object], list[str]]] = [
    ("laptop1", lambda saw: saw.update(wg=False), ["wireguard-tools are not installed on laptop1"]),
    ("laptop1", no_interface, ["there is no interface vpn on laptop1; last heard: it ended"]),
    (
        "server1",
        taken,
        [
            ("UDP port 51820 of vpn is in use by the WireGuard interface two, dnsmasq (process 12) "
            "(Could not bring up interface: Address already in use)"),
            "there is no interface vpn on server1; last heard: it ended",
        ],
    ),
    (
        "server1",
        other_port,
        [
            ("UDP port 51820 of vpn is in use by dnsmasq (process 12) "
            "(Could not bring up interface: Address already in use)"),
        ],
    ),
    ("server1", lambda saw: saw["device"].__setitem__(1, "7"),
     ["vpn listens on UDP port 7, not 51820"]),
    ("laptop1", lambda saw: saw.update(device=None), ["`wg show vpn` fails on laptop1"]),
    ("laptop1", lambda saw: saw["device"].__setitem__(0, "another"),
     ["vpn on laptop1 has another key than the clan knows"]),
    ("server1", lambda saw: saw.update(forwarding="0"),
     ["server1 does not forward IPv6: peers do not reach each other by it"]),
    ("laptop1", lambda saw: saw["peers"].pop(),
     ["laptop1 does not know server2, or an older key of it"]),
    ("laptop1", lambda saw: saw["peers"].append("x\t(none)\t(none)\t(none)\t0\t0\t0\toff"),
     ["laptop1 lets 1 key(s) in that the clan does not know"]),
    (
        "laptop1",
        all_silent,
        [
            "no handshake with server1 ever: nothing comes back from 192.0.2.1:51820",
            "no handshake with server2 for 2 hours: nothing comes back from 192.0.2.1:51820",
            "no controller answers laptop1: UDP may be blocked where it is",
        ],
    ),
    (
        "laptop1",
        no_name,
        [
            ("no handshake with server1 ever: the name of vpn1.example.com:51820 is not found "
            "(Name or service not known)")
        ],
    ),
    (
        "laptop1",
        moved,
        [
            ("no handshake with server1 for 6 minutes: it was last at 192.0.2.1:51820, and "
            "vpn1.example.com:51820 is at 192.0.2.9")
        ],
    ),
    ("laptop1", lambda saw: saw["pings"].update(server1=None),
     ["packets come from server1, but no answer to pings at ADDRESS of server1"]),
    ("laptop1", lambda saw: age(saw, "server1", NOW - 40),
     [
         ("server1 does not answer any more; its handshake was 40 seconds ago: "
         "nothing comes back from 192.0.2.1:51820")
     ]),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "spoil", "said"), STORIES)
def test_what_is_wrong_is_said(
    desk: Desk, machine: str, spoil: Callable[[dict[str, Any]], object], said: list[str]
) -> None:
    case = case_of(desk, machine)
    saw = healthy(case)
    spoil(saw)
    found = diagnose(case, saw, clock=0.0)
    written = [
        said.replace("ADDRESS of server1", case.addresses.get("server1", "")) for said in said
    ]
    assert [each.message for each in found] == written
    assert all(each.wrong for each in found)


def test_each_thing_that_an_interface_lacks_is_said(desk: Desk) -> None:
    case = case_of(desk, "laptop1")
    saw = healthy(case)
    unrouted(saw)
    own = case.link.addresses
    assert [each.message for each in diagnose(case, saw, clock=0.0)] == [
        "the interface vpn is down",
        f"vpn lacks its address {own[0]}",
        f"vpn lacks its address {own[1]}",
        f"there is no route to {subnet_of('vpn', 'server1')} by vpn",
        f"there is no route to {subnet_of('vpn', 'server2')} by vpn",
        "vpn has an mtu of 1500, not 1420",
    ]


def test_a_peer_that_is_off_is_nothing_wrong(desk: Desk) -> None:
    for machine, message in (
        ("server1", "no handshake with laptop1 for 1 day: it is off, or away"),
        ("old_phone", "laptop1 does not answer at ADDRESS: it is off, or away"),
    ):
        case = case_of(desk, machine)
        saw = healthy(case)
        age(saw, "laptop1", NOW - 90_000)
        (found,) = diagnose(case, saw, clock=0.0)
        assert found.message == message.replace("ADDRESS", case.addresses["laptop1"])
        assert not found.wrong


def test_other_addresses_of_a_peer_are_said(desk: Desk) -> None:
    case = case_of(desk, "server1")
    saw = healthy(case)
    wide = peer_subnet("vpn", "server2", "laptop1")
    saw["peers"] = [line.replace(f",{wide}", "") for line in saw["peers"]]
    (found,) = diagnose(case, saw, clock=0.0)
    assert found.message == "server1 has other addresses for laptop1 than the clan"


def test_clocks_apart_and_keys_that_are_due_are_said_first(desk: Desk) -> None:
    case = case_of(desk, "laptop1", Known(due=("server2",)))
    found = diagnose(case, healthy(case), clock=-364 * 86400.0)
    assert [each.message for each in found] == [
        "the clock of laptop1 is 364 days behind this computer's",
        "the key of server2 is not there yet",
    ]


def test_the_program_that_looks_runs_by_itself(desk: Desk) -> None:
    """In a Python that has nothing installed, on a computer without the interface."""
    program = question(case_of(desk, "server1")).replace("PATIENCE = 20", "PATIENCE = 1")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"],
        input=program.replace(".example.com", ".invalid"),
        capture_output=True,
        text=True,
        check=True,
    )
    saw = json.loads(done.stdout)
    assert saw["interface"] is None
    assert set(saw["pings"]) == {"server2", "laptop1", "old_phone"}
    assert set(saw) == set(healthy(case_of(desk, "server1")))


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.2, "0 seconds"), (60, "1 minute"), (7300, "2 hours")]
)
def test_times_are_in_words(seconds: float, written: str) -> None:
    assert lasting(seconds) == written


def carried(saw: dict[str, Any], **known: Any) -> None:
    saw["carriers"] = {"lost": [], "told": {}, "since": {"server1": NOW - 180.0}, **known}


def test_what_is_carried_by_another_is_told_and_nothing_wrong(desk: Desk) -> None:
    case = case_of(desk, "laptop1")
    saw = healthy(case)
    one, two = (line.split("\t") for line in saw["peers"])
    two[3] = f"{one[3]},{two[3]}"
    one[3] = one[3].replace("/56", "1/128")
    saw["peers"] = ["\t".join(one), "\t".join(two)]
    carried(saw, lost=["server1"])
    (own,) = diagnose(case, saw, clock=0)
    assert own.message == (
        "for 3 minutes server2 has carried what goes by server1, as laptop1 lost it"
    )
    assert not own.wrong
    carried(saw, told={"server2": ["server1"]})
    (heard,) = diagnose(case, saw, clock=0)
    assert heard.message.endswith(", as server2 told so")
    # What the agent does not know of is somebody else's doing.
    saw["carriers"] = None
    assert [each.message for each in diagnose(case, saw, clock=0)] == [
        "laptop1 has other addresses for server1 than the clan",
        "laptop1 has other addresses for server2 than the clan",
    ]


def test_a_controller_tells_for_whom_another_is_dead(desk: Desk) -> None:
    case = case_of(desk, "server2")
    saw = healthy(case)
    carried(saw, told={"laptop1": ["server1"], "old_phone": ["server1"]})
    (found,) = diagnose(case, saw, clock=0)
    assert found.message == (
        "for 3 minutes server1 has been dead for all, as laptop1, old_phone lost it"
    )
