"""`cluster status` as a person reads it: fits the terminal, names what is wrong, hides no node."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from dataclasses import replace
from signal import SIGINT

import pytest
from five_desks import Desks
from five_reports import PLACES, changed, cut_off, failing, five, led_by, with_peers
from typer.testing import CliRunner

from node.certificates_left import CertificateLine
from node.verdict import judge
from node.verdict_links import Silent
from quorumvault.cli import app, status_table
from quorumvault.cli.status_rows import rows

CERTIFICATES = [
    CertificateLine("node", "CN=node", "2027-01-01T00:00:00Z", 397),
    CertificateLine("authority", "CN=test", "2036-01-01T00:00:00Z", 3650),
]


def seen(told):
    return rows(judge(PLACES, told), told)


def shown(told, width: int = 80) -> list[list[str]]:
    head, *lines = status_table.table(seen(told), width)
    return [head.split(), *(line.split() for line in lines)]


# ---------------------------------------------------------------- rows


def test_a_row_has_numbers_for_what_an_operator_watches():
    told = five()
    told[1] = changed(told[1], certificates=CERTIFICATES, alarms=["odd"])
    told[1] = with_peers(told[1], {4}, rtt_ms=40.5)
    told[3] = with_peers(told[3], {1}, last_contact_ms=50.0)
    row = seen(told)[0]
    assert (row.leads, row.voter_in, row.lag) == (1, 3, 0)
    assert (row.heard_ms, row.fsync_p99_ms) == (50.0, 1.5)
    assert (row.rtt_min_ms, row.rtt_max_ms) == (12.5, 40.5)
    assert (row.certificate_days, row.alarms, row.hsm) == (397, ["odd"], "working")


def test_of_a_node_that_does_not_answer_the_others_word_is_shown():
    told = five() | {2: Silent("Connection refused")}
    told[5] = with_peers(told[5], {2}, last_contact_ms=7_000.0)
    for node in (1, 3, 4):
        told[node] = with_peers(told[node], {2}, last_contact_ms=9_000.0)
    row = seen(told)[1]
    assert (row.state, row.heard_ms, row.problem) == ("no answer", 7_000.0, "Connection refused")
    assert (row.lag, row.fsync_p99_ms, row.rtt_max_ms, row.certificate_days) == (None,) * 4


def drained(told):
    return changed(failing(told, "serving", "drained by an operator"), draining=True)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda report: report, "ready"),
        (drained, "drained"),
        (lambda report: failing(report, "disk", "slow"), "not ready"),
    ],
)
def test_the_state_is_one_word(change, state):
    told = five()
    told[3] = change(told[3])
    assert seen(told)[2].state == state


def test_a_data_center_that_is_cut_off_is_cut_off_though_it_answers():
    told = five()
    cut_off(told, 5)
    assert [row.state for row in seen(told)] == ["ready"] * 4 + ["cut off"]


# ---------------------------------------------------------------- the table


def test_at_80_columns_everything_that_decides_is_there():
    told = five()
    for node in told:
        told[node] = changed(told[node], certificates=CERTIFICATES)
    head, first, *_ = (" ".join(words) for words in shown(told))
    assert head == "node DC state leads lag heard fsync RTT ms HSM cert alarm"
    assert first == "1 frankfurt ready 1 0 200ms 2ms 12 ok 397d 0"


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_every_node_has_one(width):
    told = five() | {2: Silent("x" * 200)}
    told[4] = drained(told[4])
    for node in (1, 3, 4, 5):
        told[node] = with_peers(told[node], set(told) - {node}, rtt_ms=291.4)
    lines = status_table.table(seen(told), width)
    assert len(lines) == 6
    assert max(map(len, lines)) <= max(width, 28)  # number, place and state always stay
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    assert "no answer" in lines[2]


def test_a_wider_terminal_shows_more():
    few, many = (len(shown(five(), width)[0]) for width in (60, 160))
    assert few < many
    assert {"version", "seat", "hash"} <= set(shown(five(), 160)[0])


def test_reasons_are_wrapped_to_the_terminal():
    told = five() | {2: Silent("nothing was heard of it for a long time " * 4)}
    lines = status_table.why(judge(PLACES, told), 60)
    assert len(lines) > 2
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"), (0.2, "0ms"), (999, "999ms"), (1500, "1.5s"), (42_000, "42s"),
        (150_000, "2m"), (7_200_000, "2h"), (180_000_000, "2d"),
    ],
)  # fmt: skip
def test_a_duration_has_two_figures(ms, text):
    assert status_table._duration(ms) == text


@pytest.mark.parametrize(
    ("compared", "text"),
    [
        (3, "state hashes agree"),
        (1, "state hashes agree, 1 of 3 shards compared yet"),
        (0, "state hashes not compared yet"),
    ],
)
def test_hashes_agree_only_where_they_were_compared(compared, text):
    found = judge(PLACES, five())
    shards = [
        line if line.shard < compared else replace(line, state_hash="unknown")
        for line in found.shards
    ]
    told = status_table.shards_line(replace(found, shards=shards))
    assert told == f"shards: 3 of 3 led; {text}"


def test_shards_are_one_line_unless_wanted():
    told = five()
    assert status_table.shards_line(judge(PLACES, told)) == (
        "shards: 3 of 3 led; state hashes agree"
    )
    del told[1]
    for node in told:
        told[node] = changed(
            told[node], groups=[changed(g, leader=0, role="follower") for g in told[node].groups]
        )
    overview = judge(PLACES, told | {1: Silent("gone")})
    assert status_table.shards_line(overview).startswith("shards: 0 of 3 led")
    assert [row.split()[1] for row in status_table.shard_table(overview.shards)[1:]] == ["none"] * 3


# ---------------------------------------------------------------- the command


@pytest.fixture
def desks(tmp_path):
    made = Desks(tmp_path)
    yield made
    made.close()


def run(desks: Desks, *options: str, **environment: str):
    connection = str(desks.connection_file())
    command = ["cluster", "status", "--connection", connection, *options]
    return CliRunner().invoke(app, command, env=environment)


def test_json_has_numbers_and_every_field_of_the_overview(desks):
    told = json.loads(run(desks, "-o", "json").stdout)
    assert (told["verdict"], told["failures_tolerated"], told["why"]) == ("healthy", 2, [])
    assert [node["node"] for node in told["nodes"]] == [1, 2, 3, 4, 5]
    assert told["nodes"][0]["ready"] is True
    assert told["nodes"][0]["rtt_max_ms"] == 12.5
    assert [shard["leader"] for shard in told["shards"]] == [1, 2, 3]


def test_a_report_of_a_later_version_is_read_and_of_nonsense_is_a_reason(desks):
    import msgspec

    later = msgspec.to_builtins(desks.reports[2], str_keys=True) | {"colour": "blue"}
    desks.set("GET /v1/status", (200, later), 2)
    desks.set("GET /v1/status", (200, {"node": 3}), 3)
    done = run(desks)
    assert done.exit_code == 4
    assert "degraded: 1 more node may fail" in done.stdout
    assert "node 3 (paris) does not answer: it answers what is no status" in done.stdout
    assert "node 2" not in done.stdout


def test_the_words_of_a_node_are_no_markup(desks):
    desks.reports[2] = changed(desks.reports[2], alarms=["[red]odd[/red] \x1b[2J"])
    assert "[red]odd[/red]" in run(desks, COLUMNS="200").stdout


def test_off_a_terminal_a_watch_is_a_line_per_change(desks):
    led_by(desks.reports, 3)
    with _watching(desks, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        desks.stop(2)
        second = running.stdout.readline()
        running.send_signal(SIGINT)
        rest, talk = running.communicate(timeout=30)
    assert "healthy: 2 more nodes may fail" in first
    assert "degraded: 1 more node may fail; node 2 (amsterdam) does not answer" in second
    assert (rest, talk, running.returncode) == ("", "", 4)


def test_on_a_terminal_a_watch_redraws_and_ends_with_the_code_of_the_last_look(desks):
    ours, theirs = pty.openpty()
    with _watching(desks, stdout=theirs) as running:
        os.close(theirs)
        drawn = ""
        while "Ctrl-C ends" not in drawn:
            drawn += os.read(ours, 65_536).decode()
        assert "healthy: 2 more nodes may fail" in drawn
        desks.stop(4)
        while "degraded: 1 more node may fail" not in drawn:
            drawn += os.read(ours, 65_536).decode()
        running.send_signal(SIGINT)
        assert running.wait(timeout=30) == 4
    os.close(ours)
    assert "\x1b[" in drawn


class _watching:  # noqa: N801 - reads as a verb
    """`cluster status --watch`, killed if the test forgets it."""

    def __init__(self, desks: Desks, **streams) -> None:
        connection = str(desks.connection_file())
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "quorumvault.cli", "cluster", "status", "--watch"),
                *("--every", "0.5", "--connection", connection),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TERM": "xterm"},
            **streams,
        )
        self.watchdog = threading.Timer(60, self.process.kill)

    def __enter__(self):
        self.watchdog.start()
        return self.process

    def __exit__(self, *_) -> None:
        self.watchdog.cancel()
        self.process.kill()
        self.process.communicate()
