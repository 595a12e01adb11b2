"""When a node is short of space, when it is full, and when it is neither any more (ADR 0011)."""

from __future__ import annotations

import pytest

from cluster.room import FULL_BYTES, SHORT_BYTES, Room, Space, judge, start_bytes

MIB = 1 << 20
GIB = 1 << 30
ENOUGH, SHORT, FULL = Room


def disk(free: int, total: int) -> Space:
    return Space(0, 64 * GIB, free, total)


def store(used: int, total: int) -> Space:
    return Space(used, total, 100 * GIB, 200 * GIB)


@pytest.mark.parametrize(
    ("space", "room"),
    [
        (disk(100 * GIB, 200 * GIB), ENOUGH),
        (disk(GIB, 1000 * GIB), ENOUGH),  # a thousandth, but a gibibyte
        (disk(GIB - 1, 1000 * GIB), SHORT),
        (disk(256 * MIB, 1000 * GIB), SHORT),
        (disk(256 * MIB - 1, 1000 * GIB), FULL),
        (disk(7 * MIB, 64 * MIB), ENOUGH),
        (disk(6 * MIB, 64 * MIB), SHORT),
        (disk(2 * MIB, 64 * MIB), FULL),
        (disk(0, 64 * MIB), FULL),
        (store(57 * GIB, 64 * GIB), ENOUGH),
        (store(58 * GIB, 64 * GIB), SHORT),
        (store(62 * GIB, 64 * GIB), FULL),
    ],
)
def test_the_smaller_of_a_share_and_a_fixed_amount_decides_for_disk_and_map(
    space: Space, room: Room
) -> None:
    assert judge(ENOUGH, space) is room


@pytest.mark.parametrize(
    ("before", "free", "after"),
    [
        (SHORT, SHORT_BYTES, SHORT),
        (SHORT, SHORT_BYTES * 5 // 4 - 1, SHORT),
        (SHORT, SHORT_BYTES * 5 // 4, ENOUGH),
        (FULL, FULL_BYTES, FULL),
        (FULL, FULL_BYTES * 5 // 4, SHORT),
        (FULL, SHORT_BYTES, SHORT),
        (FULL, SHORT_BYTES * 5 // 4, ENOUGH),
    ],
)
def test_coming_back_asks_for_a_quarter_more_than_leaving(
    before: Room, free: int, after: Room
) -> None:
    assert judge(before, disk(free, 1000 * GIB)) is after


@pytest.mark.parametrize("total", [16 * MIB, 64 * MIB, GIB, 10 * GIB, 1000 * GIB])
def test_a_node_that_waited_for_room_starts_with_just_what_it_was_told(total: int) -> None:
    enough = start_bytes(disk(0, total))
    assert judge(FULL, disk(enough - 2, total)) is FULL
    assert judge(FULL, disk(enough, total)) is not FULL
