"""The console's pure parts, run where they run: in the browser, from a real node's listener."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from spectator import Spectator, probe

from node import console_files, events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Vault5
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "node" / "console"


def counted(spectator: Spectator, answers: list[tuple[float, dict[int, tuple[Any, ...]]]]) -> Any:
    return spectator.page.evaluate(
        probe("rates"), [f"{spectator.origin}/console/rates.js", answers]
    )


START = 1_000_000


@pytest.fixture(scope="module")
def spectator(console_vault: Vault5, browser: Browser) -> Iterator[Spectator]:
    """One window for all: what runs in it leaves the page alone."""
    with Spectator.looking(browser, console_vault.ops_url(1)) as looking:
        yield looking


def test_attempts_add_up_and_a_lockout_that_all_nodes_apply_is_one(spectator: Spectator) -> None:
    found = counted(
        spectator,
        [
            (START, {1: (1, 500, 7), 2: (1, 90, 7)}),
            (START + 2, {1: (1, 503, 8), 2: (1, 92, 8)}),
            (START + 4, {1: (1, 504, 9), 2: (1, 92, 9)}),
        ],
    )
    # What was counted before the page was open is not of now. Which node counts lockouts is chosen
    # with the first difference, so the first of the two is not among them.
    assert found == found | {"attempts": 6, "lockouts": 1, "unseen": 89}


def test_a_restarted_node_makes_no_spike_and_no_negative_number(spectator: Spectator) -> None:
    found = counted(
        spectator,
        [
            (START, {1: (1, 10_000, 50)}),
            (START + 2, {1: (1, 10_004, 50)}),
            (START + 4, {1: (None, 0, 0)}),
            (START + 12, {1: (2, 3, 0)}),
            (START + 14, {1: (2, 8, 0)}),
        ],
    )
    assert found == found | {"attempts": 9, "lockouts": 0, "most": 5}


def test_what_came_in_a_silence_is_spread_over_it(spectator: Spectator) -> None:
    found = counted(spectator, [(START, {1: (1, 0, 0)}), (START + 100, {1: (1, 1000, 0)})])
    assert found["attempts"] == 1000
    assert found["most"] == 100


def test_a_day_of_answers_leaves_fifteen_minutes(spectator: Spectator) -> None:
    rounds = [(START + 450 * i, {1: (1, 45 * i, 0)}) for i in range(192)]
    found = counted(spectator, rounds)
    assert found["buckets"] <= 90
    assert found["attempts"] == pytest.approx(90, abs=2)
    assert found["unseen"] == 0


def test_half_a_thousand_events_are_kept_and_a_new_life_begins_at_one(spectator: Spectator) -> None:
    found = spectator.page.evaluate(probe("events"), f"{spectator.origin}/console/events.js")
    assert found["first"]["rows"] == 500
    assert "text 700" in found["first"]["newest"]
    assert found["same"] == 1
    assert found["urls"] == ["events?after=0", "events?after=0"]
    assert found["newest"].endswith("text 1")


def test_the_page_listens_to_every_kind_of_event() -> None:
    source = (FOLDER / "events.js").read_text()
    listed = re.search(r"const KINDS = \[(.*?)\]", source, re.DOTALL)
    assert listed is not None
    assert re.findall(r'"([a-z-]+)"', listed[1]) == list(events.KINDS)


def test_every_runbook_that_the_page_names_is_there() -> None:
    named = re.findall(r'"([A-Z]+[a-z]+[A-Z]\w+)"', (FOLDER / "judge.js").read_text())
    assert len(set(named)) > 15
    for name in named:
        assert (ROOT / "docs" / "runbooks" / f"{name}.md").is_file(), name


@pytest.mark.parametrize(
    ("constant", "value", "rule"),
    [
        ("LAG_ENTRIES", "5000", "quorumvault_raft_lag_entries) > 5000"),
        ("RTT_MS", "400", "quorumvault_peer_rtt_seconds > 0.4"),
        ("FSYNC_MS", "500", "> 0.5"),
        ("TICKET_DAYS", "30", "time() < 30 * 86400"),
        ("PAGE_DAYS", "7", "time() < 7 * 86400"),
        ("LOCKOUTS", "20", "quorumvault_lockouts_total[15m])) > 20"),
    ],
)
def test_page_and_alerts_have_one_threshold(constant: str, value: str, rule: str) -> None:
    assert f"const {constant} = {value};" in (FOLDER / "judge.js").read_text()
    assert rule in (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()


def test_every_file_of_the_console_is_served_and_small() -> None:
    served = console_files.load()
    assert set(served) == {path.name for path in FOLDER.iterdir()}
    assert sum(len(file.body) for file in served.values()) < 120_000
