"""`quorumvault probe` against the honest vault: what it does to a record, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from honest_vault import problem
from typer.testing import CliRunner

from quorumvault.cli import app, probe_tell
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.probe_round import Line, Step, verdict


class Prober:
    def __init__(self, served, monkeypatch):
        self.served, self.vault = served, served.vault
        self.path = served.connection_file()
        monkeypatch.setenv("QUORUMVAULT_CONNECTION", str(self.path))

    def run(self, *options: str):
        return CliRunner().invoke(app, ["probe", "--timeout", "6", *options])

    def calls(self, method: str, path: str) -> list:
        return [c for c in self.vault.calls if c.method == method and c.path.startswith(path)]


@pytest.fixture
def prober(served, monkeypatch):
    return Prober(served, monkeypatch)


def test_every_node_serves_a_whole_life_of_a_key_and_nothing_is_left(prober):
    done = prober.run("-o", "json")
    assert done.exit_code == Exit.OK
    told = json.loads(done.stdout)
    assert told["well"] == 5
    assert told["account"].startswith("probe-")
    for node in told["nodes"]:
        assert list(node["ms"]) == ["look", "register", "wrong", "right", "delete"]
        assert all(0 < took < 6000 for took in node["ms"].values())
    guesses = prober.calls("POST", "/v1/attempts")
    assert {call.node for call in guesses if "/proof" not in call.path} == {1, 2, 3, 4, 5}
    assert len({attempt for attempt, _, _ in prober.vault.evaluated}) == 10
    assert prober.vault.record.active is None


def test_a_table_has_a_line_for_each_node(prober):
    prober.served.kill(2)
    done = prober.run()
    assert done.exit_code == Exit.DEGRADED
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["node", "DC", "look", "register", "wrong", "right", "delete", "ms"]
    assert len(rows) == 5
    assert rows[1].split(maxsplit=2) == ["2", "dc-2", "does not answer"]
    assert all(len(row.split()) == 7 for row in (rows[0], *rows[2:]))
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_wrong_guess_is_one_attempt_whatever_fails_after_it(prober):
    """The proof never comes through, at any node: five lines that failed, five lives, no lock."""
    prober.vault.interfere = lambda call, answer: (
        problem(503, "no-quorum") if call.path.endswith("/proof") else answer()
    )
    done = prober.run("--timeout", "1", "-o", "json")
    assert done.exit_code == Exit.NO_QUORUM
    told = json.loads(done.stdout)["nodes"]
    assert [(line["failed"], line["why"]) for line in told] == [("right", "has no quorum")] * 5
    listed = [len(life.attempts) for life in [prober.vault.record] if life.active]
    assert not listed, "the last life was deleted, too"


def test_a_delete_that_fails_is_done_in_the_end(prober):
    refused: list[int] = []

    def interfere(call, answer):
        if call.method == "DELETE" and len(refused) < 5:
            refused.append(call.node)
            return problem(409, "stale")
        return answer()

    prober.vault.interfere = interfere
    done = prober.run("-o", "json")
    assert done.exit_code == Exit.CONFLICT
    assert refused == [1, 2, 3, 4, 5]
    assert prober.vault.record.active is None
    assert done.stderr == ""


def test_what_cannot_be_deleted_is_said_with_the_command_that_does(prober):
    prober.vault.interfere = lambda call, answer: (
        problem(409, "stale") if call.method == "DELETE" else answer()
    )
    done = prober.run("--account", "probe-mine")
    assert "quorumvault record delete --yes --account probe-mine" in done.stderr


def test_a_vault_that_counts_wrongly_is_said_so_and_ends_with_1(prober):
    def interfere(call, answer):
        told = answer()
        if call.node == 3 and call.path == "/v1/attempts" and told.status == 200:
            return told.but(guesses_remaining=10)
        return told

    prober.vault.interfere = interfere
    done = prober.run()
    assert done.exit_code == Exit.UNEXPECTED
    assert "WRONG ANSWER: 10 guesses are left after the first wrong one of 10" in done.stdout


def test_two_data_centers_are_too_few_to_register(prober):
    for node in (1, 2, 3):
        prober.served.kill(node)
    done = prober.run("-o", "json")
    assert done.exit_code == Exit.NO_QUORUM
    told = json.loads(done.stdout)["nodes"]
    assert [line["failed"] for line in told] == ["look", "look", "look", "register", "register"]
    assert "2 data centers answer" in told[4]["detail"]


def test_nobody_there_ends_with_3(prober):
    for node in range(1, 6):
        prober.served.kill(node)
    assert prober.run("--timeout", "1").exit_code == Exit.CONNECTION


@pytest.mark.parametrize("name", ["alice", "Probe-1", "probe-" + "x" * 250])
def test_it_never_acts_for_an_account_that_may_be_a_persons(prober, name):
    done = prober.run("--account", name)
    assert isinstance(done.exception, Failure)
    assert done.exception.exit_code == Exit.USAGE
    assert "probe-" in str(done.exception)
    assert not prober.vault.calls


def test_a_connection_file_without_the_tenants_key_is_refused(prober, tmp_path):
    told = json.loads(prober.path.read_text())
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(told | {"tenant": None}))
    done = prober.run("--connection", str(bare))
    assert isinstance(done.exception, Failure)
    assert done.exception.exit_code == Exit.USAGE
    assert "no tenant key" in str(done.exception)


def test_forever_ends_with_ctrl_c_and_a_summary_and_leaves_nothing(prober):
    with subprocess.Popen(
        [sys.executable, "-m", "quorumvault.cli", "probe", "--forever", "--every", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        rest, talk = running.communicate(timeout=30)
    assert "5 of 5 nodes well, slowest: " in first
    assert "without a failure" in rest
    assert [row.split()[0] for row in rest.splitlines()[-5:]] == [
        "look", "register", "wrong", "right", "delete",
    ]  # fmt: skip
    assert running.returncode == Exit.OK
    assert talk == ""
    assert prober.vault.record.active is None


# ---------------------------------------------------------------- what is made of the lines


def line(code: Exit, failed: Step | None = Step.LOOK) -> Line:
    return Line(1, "dc", failed=None if code is Exit.OK else failed, code=code)


@pytest.mark.parametrize(
    ("codes", "ends"),
    [
        ([0, 0, 0], 0),
        ([0, 3, 0], 4),
        ([3, 3, 3], 3),
        ([3, 3, 5], 5),
        ([124, 124, 3], 124),
        ([6, 6, 6], 6),
        ([0, 0, 1], 1),
        ([5, 5, 1], 1),
        ([], 0),
    ],
)
def test_the_exit_code_of_all_lines(codes, ends):
    lines = [line(Exit(code)) for code in codes]
    assert verdict(lines) == ends
    tally = probe_tell.Tally()
    for one in lines:
        tally.add([one])
    assert tally.exit_code == ends


@pytest.mark.parametrize(
    ("values", "q", "is_"),
    [
        ([], 0.5, None),
        ([7.0], 0.01, 7.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.99, 4.0),
        ([float(n) for n in range(1, 101)], 0.9, 90.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
    ],
)
def test_quantiles_are_values_that_were_seen(values, q, is_):
    assert probe_tell.quantile(values, q) == is_
