from __future__ import annotations

import json
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.networks.memory import (
    BAD_ADDRESS_LIFE,
    MOST_MARKS,
    PROBE_BURST,
    Memories,
    Memory,
    Used,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_what_worked_clears_what_failed_there_and_only_there() -> None:
    memory = (
        Memory().failed("lan", "home", error="x", now=1).failed("lan", "cafe", error="y", now=2)
    )
    memory = memory.worked("lan", "home", rtt=0.001, address="192.168.1.5:22", now=3)
    assert memory.mark("lan", "home").failures == 0
    assert memory.mark("lan", "home").rtt == 0.001
    assert memory.mark("lan", "cafe").failures == 1


def test_a_failure_keeps_what_was_measured_before() -> None:
    memory = Memory().worked("lan", "home", rtt=0.001, address="a", now=1)
    memory = memory.failed("lan", "home", error="no answer", now=2)
    assert (memory.mark("lan", "home").rtt, memory.mark("lan", "home").failures) == (0.001, 1)


def test_a_bad_address_is_passed_over_for_a_while() -> None:
    memory = Memory().set_aside(network="lan", address="192.168.1.5:22", host_key="k", now=100)
    assert memory.bad_addresses(101, "k") == {"192.168.1.5:22"}
    assert memory.bad_addresses(100 + BAD_ADDRESS_LIFE, "k") == frozenset()
    back = memory.bad_addresses(50, "k")
    assert back == frozenset(), "a clock that went back must not lock it out"


@pytest.mark.parametrize("key", [None, "new"])
def test_with_another_key_demanded_no_address_is_bad(key: str | None) -> None:
    memory = Memory().set_aside(network="lan", address="192.168.1.5:22", host_key="old", now=100)
    assert memory.bad_addresses(101, key) == frozenset()


def test_memory_is_bounded() -> None:
    memory = Memory()
    for number in range(3 * MOST_MARKS):
        memory = memory.worked("lan", f"place {number}", rtt=1, address="a", now=number)
        memory = memory.set_aside(network="lan", address=f"a{number}", host_key="k", now=number)
        memory = memory.handed(
            Used(process=number, network="lan", address="a", by_multicast=True, at=number)
        )
    assert len(memory.marks) == len(memory.bad) == len(memory.used) == MOST_MARKS
    assert memory.mark("lan", f"place {3 * MOST_MARKS - 1}").rtt == 1


def test_probing_stays_below_what_sshd_penalises() -> None:
    """PerSourcePenalties adds a second for each connection that leaves; at fifteen it refuses."""
    memory, penalty, worst, now = Memory(), 0.0, 0.0, 1000.0
    for _ in range(2000):
        now += 0.1
        penalty = max(0.0, penalty - 0.1)
        after = memory.take_probe(now)
        if after is not None:
            memory, penalty = after, penalty + 1
        worst = max(worst, penalty)
    assert worst < 10


def test_a_burst_of_probes_is_allowed_then_refused() -> None:
    memory = Memory()
    allowed = 0
    while (after := memory.take_probe(1000.0)) is not None:
        memory, allowed = after, allowed + 1
    assert allowed == PROBE_BURST


def test_memory_survives_the_file(tmp_path: Path) -> None:
    memories = Memories(tmp_path / "reach")
    memory = Memory().worked("lan", "home", rtt=0.5, address="[fe80::1%eth0]:22", now=1)
    memory = memory.set_aside(network="lan", address="b", host_key="k", now=2)
    memory = memory.handed(Used(process=7, network="lan", address="b", by_multicast=True, at=3))
    memories.update("nas", lambda _: memory)
    assert memories.read("nas") == memory
    assert memories.read("vps") == Memory()


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["marks", "bad", "used", "probes", "probed_at", "x"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_a_broken_file_is_an_empty_memory(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    folder = tmp_path_factory.mktemp("reach")
    (folder / "nas.json").write_bytes(text)
    memory = Memories(folder).read("nas")
    assert memory == Memory() or memory.marks == ()
    memory.bad_addresses(1.0, "k")
    memory.take_probe(1.0)


def test_two_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    memories = Memories(tmp_path)

    def note(network: str) -> None:
        for _ in range(20):
            memories.update(
                "nas", partial(Memory.failed, network=network, underlay="u", error="e", now=1)
            )

    threads = [threading.Thread(target=note, args=(f"net{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [memories.read("nas").mark(f"net{n}", "u").failures for n in range(4)] == [20] * 4


def test_a_state_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memories = Memories(tmp_path / "file" / "reach")
    memory = memories.update(
        "nas", partial(Memory.failed, network="n", underlay="u", error="e", now=1)
    )
    assert memory.mark("n", "u").failures == 1
    assert memories.read("nas") == Memory()
