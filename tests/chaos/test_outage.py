"""Outages are measured per shard, and told to the faults that they touched."""

from __future__ import annotations

from chaos.history import Event
from chaos.outage import MS, Outages

SHARDS = {"a": 0, "b": 1}


def history(**successes: list[int]) -> list[Event]:
    """Looks that were answered at these milliseconds, per account, with refusals between."""
    events = [
        Event(at * MS, 1, 1, "observe", "ok", account)
        for account, times in successes.items()
        for at in times
    ]
    events += [Event(at * MS, 2, 1, "observe", "fail", "a") for at in range(0, 1000, 10)]
    return sorted(events, key=lambda each: each.t_ns)


def test_an_outage_is_the_time_between_two_successes_of_one_shard():
    found = Outages(history(a=[0, 100, 400, 500], b=[0, 50, 90, 500]), SHARDS, 500 * MS)
    assert found.longest_ms(0, 500 * MS) == 410  # of b, although a was served in between
    assert found.longest_ms(0, 40 * MS) == 100  # a's first, which goes on beyond
    assert found.longest_ms(450 * MS, 500 * MS) == 410  # it had begun before


def test_a_shard_that_is_never_served_again_is_out_until_the_end():
    found = Outages(history(a=[0, 100], b=[0, 900]), SHARDS, 1000 * MS)
    assert found.longest_ms(850 * MS, 1000 * MS) == 900


def test_each_fault_is_told_the_longest_outage_up_to_the_next_one():
    found = Outages(history(a=[0, 10, 300, 310, 800], b=[0, 800]), {"a": 0}, 800 * MS)
    assert found.spans_ms([5 * MS, 305 * MS], 800 * MS) == [290, 490]
