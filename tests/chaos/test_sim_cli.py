"""`quorumvault chaos sim`: what it prints, where it puts a failure, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from chaos.sim.plan import from_json
from cluster import giving
from cluster.api import Give
from cluster.types import Era, RegistrationId
from quorumvault.cli import app
from quorumvault.cli.exits import Exit, Failure

QUICK = ["--seconds", "4"]


def run(*args):
    return CliRunner().invoke(app, ["chaos", "sim", *args])


def test_seeds_without_a_failure_end_with_totals(tmp_path):
    report = tmp_path / "report.json"
    result = run("--seeds", "1..2", *QUICK, "-o", "json", "--report", str(report))
    assert result.exit_code == Exit.OK
    told = json.loads(result.stdout)
    assert told == json.loads(report.read_bytes())
    assert (told["seeds"], told["failures"]) == (2, [])
    assert told["attempts"] > 0
    assert told["cluster_seconds_per_cpu_second"] > 0
    assert told["faults"]["heal"] == 2


def test_only_the_kinds_that_were_asked_for_are_done():
    result = run("--seeds", "1..3", *QUICK, "--faults", "kill,pause", "-o", "json")
    assert set(json.loads(result.stdout)["faults"]) <= {"kill", "start", "pause", "resume", "heal"}


def test_a_broken_rule_ends_with_1_a_short_plan_and_its_trace(tmp_path, monkeypatch):
    def hasty(core, rules, record, record_id, attempt_id):
        return Give(RegistrationId(record.active.registration_id), Era(record.era))

    monkeypatch.setattr(giving, "_by_ledger", hasty)
    failed = run("--seeds", "1..9", *QUICK, "--keep", str(tmp_path))
    assert failed.exit_code == Exit.UNEXPECTED
    assert "share-before-ledger" in failed.stderr
    (kept,) = tmp_path.glob("chaos-sim-*.json")
    plan = from_json(kept.read_bytes())
    assert len(plan.faults) + len(plan.jobs) <= 10

    again = run("--schedule", str(kept))
    assert again.exit_code == Exit.UNEXPECTED
    assert "share-before-ledger" in again.stderr
    monkeypatch.undo()
    assert run("--schedule", str(kept)).exit_code == Exit.OK


@pytest.mark.parametrize("args", [("--seeds", "one"), ("--faults", "meteor")])
def test_what_is_not_understood_is_refused_in_one_line(args):
    result = run(*args)
    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == Exit.USAGE
