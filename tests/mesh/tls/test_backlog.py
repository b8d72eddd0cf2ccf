"""What waits for a stream: never long, never much, and the oldest goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.tls.backlog import INTERVAL, LONGEST, MOST, TARGET, Backlog
from clan.mesh.tls.frames import HEAD, ROOM, Batch

SEGMENT = 1300


def batch(at: float, count: int = 1, number: int = 1) -> Batch:
    size = count * SEGMENT
    return Batch(bytearray(HEAD + size), HEAD, HEAD + size, SEGMENT, number=number, at=at)


def run(offered: float, served: float, seconds: float) -> tuple[list[float], Backlog]:
    """Offer and serve so many datagrams a second; return how long each that was sent has waited."""
    backlog = Backlog()
    waits = []
    now = due = 0.0
    came = 0
    while now < seconds:
        while came / offered <= now:
            backlog.put(batch(came / offered))
            came += 1
        if now >= due:
            before = [each.at for each in list(backlog._batches)]
            dropped = backlog.dropped
            if backlog.take(now, ROOM) is not None:
                waits.append(now - before[(backlog.dropped - dropped) // SEGMENT])
                due = max(due, now - 1 / served) + 1 / served
        now += 0.0005
    return waits, backlog


def test_what_is_taken_fast_enough_is_never_dropped() -> None:
    waits, backlog = run(900, 1000, 5)
    assert backlog.dropped == 0
    assert max(waits) < TARGET


def test_a_burst_passes_whole() -> None:
    backlog = Backlog()
    for number in range(50):
        backlog.put(batch(0.0, number=number))
    taken = [backlog.take(number / 1000, ROOM) for number in range(50)]
    assert None not in taken
    assert backlog.dropped == 0


def test_datagrams_that_come_together_go_in_one_frame() -> None:
    backlog = Backlog()
    for _ in range(5):
        backlog.put(batch(0.0))
    sizes = [len(backlog.take(0.001, ROOM) or b"") for _ in range(3)]
    assert sizes == [HEAD + 3 * SEGMENT, HEAD + 2 * SEGMENT, 0]
    assert backlog.dropped == 0


def test_what_does_not_slow_down_waits_for_a_tenth_of_a_second_at_most() -> None:
    waits, backlog = run(2000, 1000, 5)
    assert max(waits) <= LONGEST
    assert backlog.dropped > 3000 * SEGMENT
    assert len(backlog) <= LONGEST * 2000 * SEGMENT


def test_datagrams_are_dropped_singly_when_the_wait_stays_above_the_target() -> None:
    """A sender that is a little too fast is told so long before anything has waited for long."""
    waits, backlog = run(1010, 1000, 20)
    assert backlog.dropped > 0
    assert sorted(waits)[len(waits) * 95 // 100] < 4 * TARGET


def test_a_stream_that_hangs_holds_what_is_younger_than_a_tenth_of_a_second_alone() -> None:
    backlog = Backlog()
    for number in range(10000):
        backlog.put(batch(number / 1000))
        assert len(backlog) <= (LONGEST * 1000 + 2) * SEGMENT
    assert backlog.take(9.999 + LONGEST + 0.001, ROOM) is None
    assert len(backlog) == 0


def test_nobody_fills_the_memory() -> None:
    backlog = Backlog()
    for _ in range(2000):
        backlog.put(batch(0.0, 12))
        assert len(backlog) <= MOST


def test_from_a_batch_one_datagram_goes_and_it_is_the_oldest() -> None:
    backlog = Backlog()
    step, frame = 0, memoryview(b"")
    while not backlog.dropped:
        now = step / 100
        backlog.put(batch(now, 11, step))
        frame = backlog.take(now + 2 * TARGET, ROOM) or frame
        assert int.from_bytes(frame[:4], "big") == step
        step += 1
    assert step / 100 >= INTERVAL
    assert backlog.dropped == SEGMENT
    assert len(frame) == HEAD + 10 * SEGMENT


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "take"]), st.integers(1, 60), st.floats(0, 0.05)),
        max_size=200,
    )
)
def test_it_counts_right_and_keeps_the_order(steps: list[tuple[str, int, float]]) -> None:
    backlog = Backlog()
    now, came, went, last = 0.0, 0, 0, -1
    for number, (step, count, later) in enumerate(steps):
        now += later
        if step == "put":
            backlog.put(batch(now, count, number))
            came += count * SEGMENT
        else:
            frame = backlog.take(now, ROOM)
            if frame is not None:
                went += len(frame) - HEAD
                number_of = int.from_bytes(frame[:4], "big")
                assert number_of >= last
                last = number_of
        assert came == went + len(backlog) + backlog.dropped
    backlog.clear()
    assert came == went + backlog.dropped
