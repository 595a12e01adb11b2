"""`quorumvault events`: all rings merged, followed through a node's death and its next life."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from signal import SIGINT

import pytest
from five_desks import Desks, problem
from typer.testing import CliRunner

from quorumvault.cli import app
from quorumvault.cli.desk_answers import Event, Events
from quorumvault.cli.events_read import Reader, Told, line, merged
from quorumvault.cli.exits import Exit


def event(seq: int, text: str = "as usual", level="info", t: str | None = None) -> Event:
    at = t or f"2026-01-01T00:00:{seq % 60:02}.000Z"
    return Event(seq=seq, t=at, level=level, kind="leader", text=text)


def page(events: list[Event], newest: int | None = None, oldest: int = 1) -> Events:
    last = events[-1].seq if events else 0
    return Events(events, oldest=oldest, newest=last if newest is None else newest)


# ---------------------------------------------------------------- one ring


def test_a_first_page_is_all_new_and_the_rest_is_asked_for():
    reader = Reader()
    assert "after=0&" in reader.path
    taken = reader.take(page([event(1), event(2)], newest=3))
    assert [each.seq for each in taken.events] == [1, 2]
    assert taken.again
    assert "after=1&" in reader.path
    taken = reader.take(page([event(2), event(3)]))
    assert ([each.seq for each in taken.events], taken.again, taken.remark) == ([3], False, "")


def test_nothing_new_is_nothing():
    reader = Reader()
    reader.take(page([event(1)]))
    for _ in range(2):
        taken = reader.take(page([event(1)]))
        assert (taken.events, taken.remark, taken.again) == ([], "", False)


@pytest.mark.parametrize(
    "later",
    [
        page([], newest=2),  # it has made fewer than we have
        page([], newest=0, oldest=0),
        page([event(7, "another life")], newest=9),  # more, and the one that we have is another
    ],
)
def test_a_node_that_was_started_again_is_read_from_its_beginning(later):
    reader = Reader()
    reader.take(page([event(number) for number in range(1, 8)]))
    taken = reader.take(later)
    assert "started again" in taken.remark
    assert taken.again
    assert "after=0&" in reader.path
    assert reader.take(page([event(1, "new")])).events == [event(1, "new")]


def test_what_the_ring_had_no_room_for_is_said():
    reader = Reader()
    reader.take(page([event(5)]))
    taken = reader.take(page([event(11), event(12)], oldest=11))
    assert "no room for 5 events" in taken.remark
    assert [each.seq for each in taken.events] == [11, 12]


def test_rings_are_merged_by_time_and_one_nodes_events_stay_in_order():
    same = "2026-01-01T00:00:01.000Z"
    told = [
        Told(2, event(9, t=same)),
        Told(1, event(11, t=same)),
        Told(1, event(10, t=same)),
        Told(3, event(1, t="2026-01-01T00:00:00.999Z")),
    ]
    assert [(each.node, each.event.seq) for each in merged(told, "info")] == [
        (3, 1), (1, 10), (1, 11), (2, 9),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_shows_itself_and_what_is_worse(level, seen):
    told = [Told(1, event(n, level=each)) for n, each in enumerate(["info", "warning", "error"])]
    assert [each.event.level for each in merged(told, level)] == seen


def test_a_line_names_node_and_shard():
    one = Event(seq=1, t="T", level="error", kind="hash", text="differs", shard=0)
    assert line(Told(4, one), "dublin").split() == [
        "T", "node", "4", "dublin", "error", "hash", "shard", "0:", "differs",
    ]  # fmt: skip


# ---------------------------------------------------------------- five nodes


class Rings:
    """What the five nodes keep; `lose` begins a node's next life."""

    def __init__(self, desks: Desks) -> None:
        self.desks = desks
        self.kept: dict[int, list[dict]] = {node: [] for node in desks.answers}
        for node in desks.answers:
            desks.set("GET /v1/events", lambda call, _body, n=node: self._page(n, call), node)

    def tell(self, node: int, text: str, level: str = "info", t: str = "2026-01-01T00:00:00.000Z"):
        ring = self.kept[node]
        ring.append({"seq": len(ring) + 1, "t": t, "level": level, "kind": "alarm", "text": text})

    def _page(self, node: int, call: str):
        query = dict(pair.split("=") for pair in call.partition("?")[2].split("&"))
        after, limit = int(query["after"]), int(query["limit"])
        ring = self.kept[node]
        oldest = min(1, len(ring))
        return 200, {
            "events": ring[after : after + limit], "oldest": oldest, "newest": len(ring),
            "of_a_later_version": True,
        }  # fmt: skip


@pytest.fixture
def desks(tmp_path):
    made = Desks(tmp_path)
    yield made
    made.close()


@pytest.fixture
def rings(desks):
    return Rings(desks)


def run(rings: Rings, *options: str):
    connection = str(rings.desks.connection_file())
    return CliRunner().invoke(app, ["events", "--connection", connection, *options])


def test_all_nodes_events_are_shown_in_the_order_of_time(rings):
    rings.tell(1, "third", t="2026-01-01T00:00:03.000Z")
    rings.tell(5, "first", t="2026-01-01T00:00:01.000Z")
    rings.tell(2, "second", level="warning", t="2026-01-01T00:00:02.000Z")
    done = run(rings)
    assert done.exit_code == Exit.OK
    assert [row.split()[-1] for row in done.stdout.splitlines()] == ["first", "second", "third"]
    told = [
        json.loads(row)
        for row in run(rings, "--level", "warning", "-o", "json").stdout.split("\n")
        if row
    ]
    assert [(each["node"], each["dc"], each["seq"]) for each in told] == [(2, "amsterdam", 1)]
    assert run(rings, "--node", "5").stdout.count("\n") == 1
    assert run(rings, "--last", "2").stdout.split()[-1] == "third"


def test_more_than_a_page_is_read_to_its_end(rings):
    for number in range(1000):
        rings.tell(3, f"number {number}")
    assert run(rings, "--node", "3", "--last", "0").stdout.count("\n") == 1000
    assert run(rings, "--node", "3").stdout.count("\n") == 100


def test_a_node_that_is_away_or_too_old_is_named_and_the_others_are_shown(rings):
    rings.tell(1, "here")
    rings.desks.stop(2)
    rings.desks.answers[3].clear()
    done = run(rings)
    assert done.exit_code == Exit.DEGRADED
    assert "here" in done.stdout
    assert "node 2 (amsterdam) does not answer" in done.stderr
    assert "node 3 (paris) runs version 0.1.0, which does not know GET /v1/events" in done.stderr


def test_nobody_there_ends_with_3(rings):
    for node in range(1, 6):
        rings.desks.stop(node)
    assert run(rings).exit_code == Exit.CONNECTION


def test_an_event_with_control_characters_is_one_line(rings):
    rings.tell(1, "a\x1b[31mb\nnode 9 stockholm error forged")
    shown = run(rings).stdout
    assert shown.count("\n") == 1
    assert "\x1b" not in shown


def test_following_goes_on_through_a_nodes_death_and_next_life(rings):
    for number in range(3):
        rings.tell(1, f"before {number}")
    connection = str(rings.desks.connection_file())
    with subprocess.Popen(
        [sys.executable, "-m", "quorumvault.cli", "events", "--follow", "--connection", connection],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    ) as running:
        watchdog = threading.Timer(60, running.kill)
        watchdog.start()
        assert running.stdout is not None

        def until(text: str) -> None:
            for row in running.stdout or ():
                if text in row:
                    return
            raise AssertionError(f"the output ended without {text!r}")

        try:
            until("before 2")
            rings.tell(4, "meanwhile")
            until("meanwhile")
            rings.desks.stop(1)
            until("node 1 (frankfurt) does not answer")
            rings.kept[1].clear()
            rings.tell(1, "a new life")
            rings.desks.start(1)
            until("node 1 (frankfurt) answers again")
            until("was started again")
            until("a new life")
            running.send_signal(SIGINT)
            assert running.wait(timeout=30) == Exit.OK
        finally:
            watchdog.cancel()


def test_a_page_of_many_events_more_than_a_status_may_hold_is_refused_in_one_line(rings):
    many = [{"seq": n, "t": "T", "level": "info", "kind": "x", "text": "y"} for n in range(1, 600)]
    rings.desks.set("GET /v1/events", (200, {"events": many, "oldest": 1, "newest": 599}), 1)
    done = run(rings, "--node", "1")
    assert done.exit_code == Exit.UNEXPECTED
    assert "node 1 (frankfurt): it answers a list of over" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_refusal_is_in_the_nodes_words(rings):
    rings.desks.set("GET /v1/events", problem(400, "malformed", "ask for ?after=SEQ"), 1)
    assert "node 1 (frankfurt) refuses: ask for ?after=SEQ" in run(rings, "--node", "1").stderr
