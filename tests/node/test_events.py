"""The ring of events and what goes into it: transitions as a table, storms, pages, the log."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest

from cluster.api import Counters, GroupReport, HostStatus
from cluster.links import LinkReport
from cluster.room import Room
from node.events import (
    DEFAULT_PAGE,
    KINDS,
    MAX_TEXT,
    PER_SECOND,
    RING,
    BadQuery,
    Event,
    Events,
    Query,
    query_of,
)
from node.health import Check
from node.listener import ListenerReport
from node.transitions import Sight, transitions

EVERYTHING = Query(0, RING)


class Log:
    def __init__(self):
        self.lines = []

    def log(self, level, event, **facts):
        self.lines.append((level, event, facts))


class Clock:
    def __init__(self):
        self.now = 1_000.25

    def __call__(self):
        return self.now


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def events(log, clock):
    return Events(log, wall=lambda: 1_790_000_000.0625, monotonic=clock)


# ---- the ring


async def test_an_event_is_numbered_dated_and_logged_once(events, log):
    events.tell("leader", "node 2 leads", level="warning", shard=3, term=7)
    assert events.page(EVERYTHING).events == [
        Event(1, "2026-09-21T14:13:20.062Z", "warning", "leader", "node 2 leads", shard=3)
    ]
    assert log.lines == [(30, "leader", {"text": "node 2 leads", "shard": 3, "term": 7})]


async def test_only_what_is_known_is_sent(events):
    events.tell("ready", "ready")
    events.tell("peer-up", "up", peer=4)
    first, second = (
        msgspec.json.decode(msgspec.json.encode(e)) for e in events.page(Query()).events
    )
    assert set(first) == {"seq", "t", "level", "kind", "text"}
    assert second["peer"] == 4


async def test_what_the_cluster_logs_itself_is_not_logged_again(events, log):
    events.tell("peer-down", "down", peer=4)
    events.tell("room", "short")
    assert log.lines == []
    assert events.newest == 2


async def test_an_empty_ring_says_so(events):
    assert events.page(Query()) == msgspec.convert(
        {"events": [], "oldest": 0, "newest": 0}, type(events.page(Query()))
    )


async def test_the_oldest_go_and_a_reader_who_fell_behind_sees_it(events, clock):
    for number in range(RING + 50):
        clock.now += 1
        events.tell("ready", f"number {number}")
    page = events.page(Query(after=10, limit=5))
    assert (page.oldest, page.newest) == (51, RING + 50)
    assert [event.seq for event in page.events] == [51, 52, 53, 54, 55]
    assert page.oldest > 10 + 1


@pytest.mark.parametrize(
    ("after", "limit", "found"),
    [(0, 3, [1, 2, 3]), (4, 100, [5, 6]), (5, 1, [6]), (6, 10, []), (600, 10, [])],
)
async def test_a_page_begins_after_a_number_and_has_so_many(events, after, limit, found):
    for _ in range(6):
        events.tell("ready", "ready")
    assert [event.seq for event in events.page(Query(after, limit)).events] == found


async def test_a_storm_is_cut_and_its_rest_counted(events, clock, log):
    for _ in range(PER_SECOND + 68):
        events.tell("leader", "another one", shard=1)
    events.tell("ready", "another kind is heard")
    assert len(events.page(EVERYTHING).events) == PER_SECOND + 1
    events.settle()  # the second is not over
    assert events.newest == PER_SECOND + 1
    clock.now += 1
    events.settle()
    last = events.page(EVERYTHING).events[-1]
    assert (last.kind, last.level) == ("leader", "warning")
    assert last.text == "68 more of this kind in one second"
    assert len(log.lines) == events.newest
    events.settle()
    events.tell("leader", "again")
    assert events.newest == PER_SECOND + 3


async def test_a_storm_that_goes_on_is_counted_each_second_without_a_watch(events, clock):
    for _ in range(3):
        for _ in range(PER_SECOND + 1):
            events.tell("leader", "another one")
        clock.now += 1
    texts = [event.text for event in events.page(EVERYTHING).events]
    assert texts.count("1 more of this kind in one second") == 2


async def test_a_text_is_one_printable_line_of_bounded_length(events):
    events.tell("peer-down", "a\nb\x00" + "x" * 10_000, peer=2)
    (event,) = events.page(Query()).events
    assert len(event.text) == MAX_TEXT
    assert event.text.isprintable()


async def test_whoever_waits_is_woken_by_the_next_event_and_by_no_old_one(events):
    import asyncio

    events.tell("ready", "old")
    waiting = asyncio.ensure_future(events.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    events.tell("ready", "new")
    await asyncio.wait_for(waiting, 5)


# ---- the question


@pytest.mark.parametrize(
    ("pairs", "query"),
    [
        ([], Query(0, DEFAULT_PAGE)),
        ([("after", "7")], Query(7, DEFAULT_PAGE)),
        ([("limit", "1000"), ("after", "0")], Query(0, 1000)),
    ],
)
def test_a_query_is_understood(pairs, query):
    assert query_of(pairs) == query


@pytest.mark.parametrize(
    "pairs",
    [
        [("limit", "0")],
        [("limit", "1001")],
        [("after", "-1")],
        [("after", "")],
        [("after", "1.5")],
        [("after", "٣")],
        [("after", "9" * 16)],
        [("after", "1"), ("after", "2")],
        [("since", "1")],
        [("after", "1"), ("account", "ada")],
    ],
)
def test_a_bad_query_is_refused_in_one_line(pairs):
    with pytest.raises(BadQuery, match="limit=N"):
        query_of(pairs)


# ---- transitions


def group(shard=0, leader=2, **changes):
    fields = {
        "shard": shard, "role": "follower", "leader": leader, "term": 5, "commit": 1,
        "applied": 1, "first_index": 1, "last_index": 1, "records": 0, "hash_index": 0,
        "hash": "", "stamped": True, "lags": {}, "catching_up": False, "voters": (1, 2, 3),
        "learners": (), "revision": 0, "ledger_complete": True, "leader_changes": 1,
    }  # fmt: skip
    return GroupReport(**(fields | changes))


def link(peer=2, **changes):
    fields = {
        "peer": peer, "connected": True, "backlog_bytes": 0, "connects": 1, "drops": 0,
        "frames": 0, "bytes": 0, "failures": 0, "received_bytes": 0, "last_error": "",
    }  # fmt: skip
    return LinkReport(**(fields | changes))


def crowded(listener="client", *, now=True):
    return ListenerReport(listener, 64, 64, {}, now)


def sight(*, groups=None, links=None, failing=(), alarms=(), counters=None, **changes):
    status = HostStatus(
        node_id=1, revision=0, incarnation=1, stepping=True, waiting_for="", hsm=True,
        draining=False, groups=(group(),) if groups is None else groups, peers=(),
        hash_agreement=True, alarms=alarms, counters=Counters(**(counters or {})),
        batch_in_flight_ms=0.0, proposals=0,
    )  # fmt: skip
    checks = tuple(
        Check(name, ok=name not in failing, detail="reason" if name in failing else "ok")
        for name in ("hsm", "disk")
    )
    status = msgspec.structs.replace(status, **changes)
    return Sight(status, checks, (link(),) if links is None else links, alarms)


WELL = sight()
CASES = {
    "nothing": (WELL, WELL, []),
    "the first look at a node that is well": (
        None, WELL,
        [("ready", "info"), ("peer-up", "info"), ("leader", "info")],
    ),
    "the first look at a node that is not": (
        None, sight(failing=["hsm"], groups=(group(leader=0, leader_changes=0),),
                    links=(link(connected=False, connects=0),)),
        [("not-ready", "warning")],
    ),
    "not ready": (WELL, sight(failing=["hsm"]), [("not-ready", "warning")]),
    "ready again": (sight(failing=["hsm", "disk"]), WELL, [("ready", "info")]),
    "not ready for another reason": (sight(failing=["hsm"]), sight(failing=["disk"]), []),
    "another leader": (
        WELL, sight(groups=(group(leader=3, term=6, leader_changes=2),)), [("leader", "info")],
    ),
    "no leader": (WELL, sight(groups=(group(leader=0),)), [("leader", "warning")]),
    "the same leader again, after a term between the looks": (
        WELL, sight(groups=(group(term=7, leader_changes=3),)), [("leader", "info")],
    ),
    "a link is lost": (
        WELL, sight(links=(link(connected=False, failures=1, last_error="no answer"),)),
        [("peer-down", "warning")],
    ),
    "it stays lost": (
        sight(links=(link(connected=False, failures=1),)),
        sight(links=(link(connected=False, failures=9),)), [],
    ),
    "it is back": (
        sight(links=(link(connected=False, failures=9),)), sight(links=(link(connects=2),)),
        [("peer-up", "info")],
    ),
    "a link flapped between the looks": (
        WELL, sight(links=(link(connects=2, failures=1),)), [("peer-up", "warning")],
    ),
    "a link came and went between the looks": (
        sight(links=(link(connected=False, failures=1),)),
        sight(links=(link(connected=False, connects=2, failures=2),)),
        [("peer-down", "warning")],
    ),
    "a peer that never answered": (
        sight(links=(link(connected=False, connects=0),)),
        sight(links=(link(connected=False, connects=0, failures=1),)),
        [("peer-down", "warning")],
    ),
    "a member left and another came": (
        WELL, sight(links=(link(peer=6),)), [("peer-up", "info"), ("peer-down", "info")],
    ),
    "the disk is short": (WELL, sight(room=Room.SHORT), [("room", "warning")]),
    "the disk is full": (sight(room=Room.SHORT), sight(room=Room.FULL), [("room", "warning")]),
    "the disk has room": (sight(room=Room.SHORT), WELL, [("room", "info")]),
    "the disk is slow": (WELL, sight(slow_disk=True), [("slow-disk", "warning")]),
    "the disk is fast": (sight(slow_disk=True), WELL, [("slow-disk", "info")]),
    "an alarm": (WELL, sight(alarms=("odd",)), [("alarm", "error")]),
    "an alarm stays": (sight(alarms=("odd",)), sight(alarms=("odd",)), []),
    "an alarm is over": (
        sight(alarms=("odd", "even")), sight(alarms=("even",)), [("alarm-cleared", "info")],
    ),
    "lockouts": (WELL, sight(counters={"lockouts": 3}), [("lockouts", "warning")]),
    "snapshots": (
        WELL, sight(counters={"snapshots_built": 1, "snapshots_failed": 2}),
        [("snapshot", "info"), ("snapshot", "warning")],
    ),
    "a listener is full": (
        WELL._replace(listeners=(crowded(now=False), crowded("ops", now=False))),
        WELL._replace(listeners=(crowded(), crowded("ops", now=False))),
        [("connections", "warning")],
    ),
    "it is full still": (
        WELL._replace(listeners=(crowded(),)), WELL._replace(listeners=(crowded(),)), [],
    ),
    "it has had room": (
        WELL._replace(listeners=(crowded(),)),
        WELL._replace(listeners=(crowded(now=False),)),
        [("connections", "info")],
    ),
    "hashes differ": (WELL, sight(hash_agreement=False), [("hash", "error")]),
    "hashes agree again": (sight(hash_agreement=False), WELL, [("hash", "info")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_changed_between_two_looks_is_told(case):
    before, now, told = CASES[case]
    found = list(transitions(before, now))
    assert [(each.kind, each.level) for each in found] == told
    assert all(each.text and each.kind in KINDS for each in found)


@pytest.mark.parametrize(
    ("locked", "text"), [(1, "1 account was locked"), (3, "3 accounts were locked")]
)
def test_lockouts_are_a_count_and_nothing_else(locked, text):
    (told,) = transitions(WELL, sight(counters={"lockouts": locked}))
    assert (told.text, told.shard, told.peer) == (text, None, None)


def test_the_cause_comes_before_the_effect_and_names_itself():
    now = sight(
        links=(link(connected=False, failures=1, last_error="reset by peer"),),
        groups=(group(leader=1, role="leader", term=6, leader_changes=2),),
    )
    down, leader = transitions(WELL, now)
    assert (down.peer, down.text) == (2, "the link to node 2 is down: reset by peer")
    assert (leader.shard, leader.text) == (0, "this node leads, after node 2, term 6")


async def test_every_kind_can_be_told_and_no_text_of_ours_holds_an_id(events):
    for kind in KINDS:
        events.tell(kind, "text")
    assert [event.kind for event in events.page(EVERYTHING).events] == list(KINDS)
    texts = [told.text for before, now, _ in CASES.values() for told in transitions(before, now)]
    assert not [text for text in texts if re.search(r"[0-9a-f]{16}", text)]


async def test_who_has_begun_to_wait_hears_what_is_told_in_the_same_turn_of_the_loop(events):
    waiting = asyncio.ensure_future(events.changed())
    events.tell("ready", "serves")
    async with asyncio.timeout(1):
        await waiting
