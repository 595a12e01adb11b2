"""The console for everybody: keyboard, contrast, dark, zoom; and against hostile words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect
from spectator import probe

if TYPE_CHECKING:
    from spectator import Spectator

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]  # one of them starts the vault, too

HOSTILE = '<img src=x onerror="window.hit=1"><b>x</b>'
LEAST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, for text of usual size."""
MOST_STOPS = 60
ALL_EVENTS = """async () => {
  const { nodes } = await (await fetch("state.json")).json();
  const rows = document.querySelectorAll("#events li").length;
  return rows > 0 && rows === Math.min(500, nodes[0].view.status.events);
}"""
"""As many rows as the node has told events: none lost, none twice."""
FSYNC_MS, FSYNC_SHOWN = (0.4, 487.0), ("0.4 ms", "487 ms")
STALE_MS = 8000
DRAWN_FOR = """(width) => innerWidth === width && ["map", "traffic"].every((id) => {
  const box = document.getElementById(id);
  return Number(box.querySelector("svg").getAttribute("width")) === Math.floor(box.clientWidth);
})"""
"""The drawings fill the boxes of this window, not those of the last one."""
NARROW = (640, 360, 320)
"""Pixels: a usual window at a zoom of 200 %, a phone, the least that WCAG 2.2 asks for (1.4.10)."""


def test_the_tab_key_reaches_every_control_and_leaves_again(spectator: Spectator) -> None:
    page = spectator.page
    stops: list[dict[str, Any]] = []
    while len(stops) < MOST_STOPS:
        page.keyboard.press("Tab")
        stop = page.evaluate(probe("focus"))
        if stop is None:
            break
        stops.append(stop)
    assert len(stops) < MOST_STOPS
    assert stops[0]["tag"] == "A"  # over the head, to the verdict
    assert [stop["name"] for stop in stops if not stop["ring"]] == []
    reached = {(stop["tag"], stop["name"]) for stop in stops}
    assert reached >= {
        ("INPUT", "theme"),
        ("BUTTON", "matrix"),
        ("SELECT", "events-level"),
        ("BUTTON", "events-pause"),
    }
    assert sum(stop["tag"] == "SUMMARY" for stop in stops) == page.locator("summary").count()
    assert sum(stop["tag"] == "BUTTON" for stop in stops) == 2  # the matrix is one stop


def test_arrow_keys_walk_the_matrix_and_tell_of_each_way(spectator: Spectator) -> None:
    page = spectator.page
    page.locator("#matrix button").first.focus()
    told = page.locator("#matrix-hint")
    expect(told).to_contain_text("From node 1 (frankfurt) to node 2 (amsterdam)")
    page.keyboard.press("ArrowRight")
    expect(told).to_contain_text("From node 1 (frankfurt) to node 3 (paris)")
    page.keyboard.press("ArrowDown")
    expect(told).to_contain_text("From node 2 (amsterdam) to node 3 (paris)")
    page.keyboard.press("ArrowDown")  # over itself
    expect(told).to_contain_text("From node 4 (dublin) to node 3 (paris)")
    expect(told).to_contain_text(" ms, heard ")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")  # there is no further row
    expect(told).to_contain_text("From node 5 (stockholm) to node 3 (paris)")


def test_a_chosen_theme_is_worn_at_once_and_kept(spectator: Spectator) -> None:
    page = spectator.page
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme input:checked").focus()
    page.keyboard.press("ArrowRight")  # light
    assert page.evaluate(ground) == light
    page.keyboard.press("ArrowRight")  # dark
    dark = page.evaluate(ground)
    assert dark != light
    spectator.open()
    assert page.evaluate(ground) == dark
    assert page.locator("#theme input:checked").input_value() == "dark"


def test_in_the_worst_state_every_word_has_contrast_and_nothing_is_too_wide(
    spectator: Spectator,
) -> None:
    page = spectator.page
    spectator.hears(_worse)
    expect(page.locator("#map .tile[data-tone=bad]")).to_have_count(2)
    for summary in page.locator("summary").all():
        summary.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        contrasts = page.evaluate(probe("contrast"))
        assert len(contrasts) > 150
        assert [each for each in contrasts if each[0] < LEAST_CONTRAST] == []
    for width in NARROW:
        page.set_viewport_size({"width": width, "height": 600})
        page.wait_for_function(DRAWN_FOR, arg=width)
        assert spectator.overflow() == 0, width


def test_a_poll_moves_nothing_and_makes_no_row_anew(spectator: Spectator) -> None:
    page = spectator.page
    turns = [0]
    spectator.hears(lambda state: _well(state, turns[-1]))

    def turn(number: int) -> None:
        turns.append(number)
        spectator.next_answers(1)
        expect(page.locator("#nodes tbody tr").first).to_contain_text(FSYNC_SHOWN[number])
        spectator.drawn()

    spectator.has_own_clock()
    turn(1)
    turn(0)
    page.evaluate("""() => {
      window.rows = [...document.querySelectorAll("#nodes tr, #shards li, #map g, #matrix td")];
      window.moved = [];
      window.note = (entries) => {
        const parts = entries.flatMap((each) => each.sources);
        window.moved.push(...parts.map(({ node }) => node?.parentElement?.innerText ?? "gone"));
      };
      window.moves = new PerformanceObserver((list) => window.note(list.getEntries()));
      window.moves.observe({ type: "layout-shift" });
    }""")
    turn(1)
    turn(0)
    assert page.evaluate("window.rows.every((row) => row.isConnected)")
    assert page.evaluate("window.rows.length") > 60
    page.evaluate("window.note(window.moves.takeRecords())")
    assert page.evaluate("window.moved") == []


def test_without_answers_it_says_since_when_and_recovers(spectator: Spectator) -> None:
    page = spectator.page
    spectator.excused += ["ERR_INTERNET_DISCONNECTED", "ERR_INCOMPLETE_CHUNKED"]
    spectator.has_own_clock()
    spectator.sees("Healthy", "two more data centers may fail")
    page.wait_for_function(ALL_EVENTS)
    page.context.set_offline(True)
    spectator.after(STALE_MS)
    expect(page.locator("#word")).to_contain_text("Stale since")
    expect(page.locator("#tolerance")).to_contain_text("it was healthy then")
    assert page.locator("body").get_attribute("data-stale") == ""
    page.context.set_offline(False)
    spectator.next_answers(1)
    spectator.sees("Healthy", "two more data centers may fail")
    expect(page.locator("body")).not_to_have_attribute("data-stale", "")
    page.wait_for_function(ALL_EVENTS)


def test_a_part_that_did_not_arrive_is_asked_for_again(spectator: Spectator) -> None:
    page = spectator.page
    spectator.excused.append("ERR_FAILED")
    page.route("**/map.js", lambda route: route.abort(), times=1)
    spectator.has_own_clock()


def test_an_answer_that_cannot_be_shown_does_not_look_well(spectator: Spectator) -> None:
    page = spectator.page
    spectator.excused.append("TypeError")
    spectator.has_own_clock()
    spectator.hears(lambda state: state.pop("shards"))
    for _ in range(4):
        spectator.next_answers(1)
    expect(page.locator("#word")).to_contain_text("Stale since")
    expect(page.locator("#tolerance")).to_contain_text("this page cannot show the answer")


def test_a_foreign_word_is_text_whatever_it_says(spectator: Spectator) -> None:
    """A node in another data center may have been taken over; it must not take the page as well."""
    page = spectator.page
    spectator.hears(_hostile)
    expect(page.locator("#nodes tbody tr b").first).to_have_text(HOSTILE)
    expect(page.locator("#alarms")).to_contain_text(HOSTILE)
    expect(page.locator("#why")).to_contain_text(HOSTILE)
    page.locator("#matrix button").nth(9).focus()
    expect(page.locator("#matrix-hint")).to_contain_text(HOSTILE)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hit") is None


def test_a_foreign_word_in_an_event_is_text_too(spectator: Spectator) -> None:
    page = spectator.page
    event = {"seq": 1, "t": "2026-01-01T00:00:00.000Z", "level": "error", "kind": "alarm"}
    stream = f"id: 1\nevent: alarm\ndata: {json.dumps(event | {'text': HOSTILE})}\n\n"
    page.route(
        "**/console/events?*",
        lambda route: route.fulfill(body=stream, headers={"Content-Type": "text/event-stream"}),
    )
    spectator.open()
    expect(page.locator("#events .text").first).to_have_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hit") is None


def test_events_can_be_held_and_sifted(spectator: Spectator) -> None:
    page = spectator.page
    rows = page.locator("#events li")
    expect(rows.filter(has_text="started").first).to_be_visible()
    level = page.get_by_label("Level")
    level.select_option("errors")
    expect(rows.filter(has_text="info")).to_have_count(0)
    level.select_option("all")
    pause = page.locator("#events-pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(pause).to_contain_text("Resume")
    pause.click()
    expect(pause).to_have_text("Pause")


def _well(state: dict[str, Any], turn: int) -> None:
    """All is well, with numbers that are short and long by turns."""
    state |= {"verdict": "healthy", "failures_tolerated": 2, "why": []}
    for node in state["nodes"]:
        node["view"]["counts"]["attempts"] = 123456 * turn
        status = node["view"]["status"]
        status |= {"ready": True, "draining": False, "room": "enough", "alarms": [], "checks": {}}
        status |= {"loop_lag_ms": 1, "fsync_p99_ms": FSYNC_MS[turn]}
        status |= {"uptime_s": (3.0, 1e7)[turn], "hash_agreement": "agrees"}
        status["space"]["disk_free"] = (9 << 20, 9 << 40)[turn]
        for group in status["groups"]:
            group["applied"] = state["shards"][group["shard"]]["commit"] - 4321 * turn
        for peer in status["peers"]:
            peer |= {"connected": True, "rtt_ms": (0.2, 399.0)[turn]}
            peer |= {"last_contact_ms": (3.0, 98765.0)[turn]}
    for shard in state["shards"]:
        shard |= {"leader": 1 + 4 * turn, "agree": "agrees"}


def _hostile(state: dict[str, Any]) -> None:
    state["name"] = HOSTILE
    state["why"] = [HOSTILE]
    for node in state["nodes"]:
        node["dc"] = HOSTILE
        status = node["view"]["status"]
        status["alarms"] = [HOSTILE]
        status["version"] = HOSTILE
        status["checks"]["quorum"] = {"ok": False, "detail": HOSTILE}
        for peer in status["peers"]:
            peer |= {"connected": False, "rtt_ms": None, "last_error": HOSTILE}
    state["nodes"][2] |= {"view": None, "reason": HOSTILE}


def _worse(state: dict[str, Any]) -> None:
    """Every tone at once: an unreachable node, one cut off, one without HSM, one drained."""
    nodes = state["nodes"]
    state |= {"verdict": "degraded", "failures_tolerated": 0, "why": ["node 3 (paris) is away"] * 8}
    nodes[2] |= {"view": None, "reason": "connection refused, " + "very " * 30 + "long"}
    for peer in nodes[3]["view"]["status"]["peers"]:
        peer |= {"connected": False, "rtt_ms": None, "last_error": "no pong"}
    nodes[1]["view"]["status"]["hsm"] = {"healthy": False, "reason": "token not found"}
    nodes[4]["view"]["status"]["draining"] = True
    state["shards"][5]["leader"] = None
    state["shards"][6]["applied_min"] -= 6000
