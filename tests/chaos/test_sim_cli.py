"""`quorumvault chaos sim`: what it prints, where it puts a failure, and how it ends."""

import json
import signal
import subprocess
import sys

import psutil
import pytest
from typer.testing import CliRunner

from chaos.sim.plan import from_json
from cluster import giving
from cluster.api import Give
from cluster.types import Era, RegistrationId
from quorumvault.cli import app, chaos
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


def test_the_last_seed_is_the_end_even_if_there_is_time_left():
    result = run("--seeds", "1..2", *QUICK, "--cpu-minutes", "60", "-o", "json")
    assert json.loads(result.stdout)["seeds"] == 2


def test_the_time_is_the_end_even_if_there_are_seeds_left():
    result = run("--seeds", "1..9", *QUICK, "--cpu-minutes", "0.0001", "-o", "json")
    assert json.loads(result.stdout)["seeds"] == 1


def test_a_run_into_a_file_says_now_and_then_how_far_it_is(monkeypatch):
    monkeypatch.setattr(chaos, "LINE_S", 0.0)
    result = run("--seeds", "1..2", *QUICK)
    lines = [line for line in result.stderr.splitlines() if "CPU-seconds" in line]
    assert [line.split(",")[0] for line in lines] == ["seed 1: 1 seed", "seed 2: 2 seeds"]


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


@pytest.mark.parametrize(
    "args",
    [
        ("--seeds", "one"),
        ("--seeds", "6..1"),
        ("--seeds", "-1"),
        ("--faults", "meteor"),
        ("--schedule", "no-such-plan.json"),
        ("--schedule", "pyproject.toml"),
        ("--schedule", "x.json", "--seeds", "1"),
        ("--seeds", "1", "--report", "no-such-folder/report.json"),
        ("--seeds", "1", "--keep", "no-such-folder"),
        ("--seeds", "1..", "--cpu-minutes", "0"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(args):
    result = run(*args)
    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == Exit.USAGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_says_how_far_it_came_and_ends_the_processes_of_its_jobs(number):
    command = [sys.executable, "-m", "quorumvault.cli", "chaos", "sim", "--seeds", "1..", *QUICK]
    with subprocess.Popen([*command, "--jobs", "2"], text=True, stdout=-1, stderr=-1) as running:
        try:
            parent = psutil.Process(running.pid)
            while len(jobs := parent.children()) < 3:  # two, and multiprocessing's tracker
                assert running.poll() is None
            running.send_signal(number)
            totals, talk = running.communicate(timeout=60)
            assert running.returncode == 128 + number
            assert totals.startswith("no rule was broken\n")
            assert "told to stop; so far:" in talk
            assert psutil.wait_procs(jobs, 10)[1] == []
        finally:
            running.kill()
