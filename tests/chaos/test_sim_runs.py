"""The random simulator: repeatable, quiet on the real vault, and biting where a rule is broken."""

import os
import subprocess
import sys

import pytest
from msgspec.structs import replace

from chaos.driver import tag
from chaos.faults import KINDS, NOT_SIMULATED, kind
from chaos.sim.plan import WORKS, Settings, draw, from_json, to_json
from chaos.sim.run import run_plan, run_seed
from chaos.sim.shrink import shrink
from cluster import boot, giving
from cluster.api import Give
from cluster.types import Era, RegistrationId

SHORT = Settings(seconds=8)

HASHES = """
from chaos.sim.plan import Settings
from chaos.sim.run import run_seed
for seed in (3, 7, 44):
    print(run_seed(seed, Settings(seconds=8)).trace_hash)
"""


def test_the_same_seed_gives_the_same_trace_in_another_process():
    traces = [
        subprocess.run(
            [sys.executable, "-c", HASHES],
            env=os.environ | {"PYTHONHASHSEED": salt},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for salt in ("0", "4242")
    ]
    assert traces[0] == traces[1]
    assert len(set(traces[0].split())) == 3


def test_a_plan_kept_as_json_plays_the_same_run():
    verdict = run_seed(5, SHORT)
    again = run_plan(from_json(to_json(draw(5, SHORT))))
    assert again.trace_hash == verdict.trace_hash
    assert again.history.events == verdict.history.events


@pytest.mark.parametrize("seed", range(1000, 1036))
def test_a_random_run_breaks_no_rule(seed):
    verdict = run_seed(seed)
    assert not verdict.broken, verdict.broken


@pytest.mark.parametrize(
    ("seed", "_once"),
    [
        (900386, "a lock between two final reads was called a loss"),
        (1000022, "two lost asks for ledger rows cost a joiner a minute each"),
        (1000979, "the order of 222 answers was undecided"),
        (1201434, "an attempt that was counted in two eras was called impossible"),
        (1301619, "two that needed a snapshot at once waited a minute, and a joiner another one"),
        (1506277, "a command of a life that could not speak was taken for the next one's"),
        (1602033, "a late welcome ended a greeting that nobody had heard"),
        (1903921, "a proof among many silent guesses was not found"),
        (1002370, "rows ahead of a joiner that was itself behind were thrown away"),
    ],
)
def test_seeds_that_broke_a_rule_once_break_none(seed, _once):
    verdict = run_seed(seed)
    assert not verdict.broken, verdict.broken


def test_the_fixed_seeds_see_every_kind_of_fault_and_operation():
    plans = [draw(seed, Settings()) for seed in range(1000, 1036)]
    kinds = {kind(each.fault) for plan in plans for each in plan.faults}
    assert kinds == set(map(tag, KINDS)) - set(map(tag, NOT_SIMULATED))
    works = {job.work for plan in plans for job in plan.jobs}
    assert works == {"enrol", *WORKS}


def failure(seeds, settings=SHORT):
    """The first seed that breaks a rule."""
    for seed in seeds:
        verdict = run_seed(seed, settings)
        if verdict.broken:
            return verdict
    raise AssertionError("no seed noticed")


def test_a_share_before_the_own_ledger_is_durable_is_noticed_and_its_plan_is_short(monkeypatch):
    def hasty(core, rules, record, record_id, attempt_id):
        return Give(RegistrationId(record.active.registration_id), Era(record.era))

    monkeypatch.setattr(giving, "_by_ledger", hasty)
    verdict = failure(range(20))
    assert verdict.rule in {"share-before-ledger", "budget-of-seat"}
    short = shrink(verdict, cpu_seconds=60)
    assert short.rule == verdict.rule
    assert len(short.plan.faults) + len(short.plan.jobs) <= 4
    assert run_plan(short.plan).trace_hash == short.trace_hash


def test_a_vote_that_is_forgotten_is_noticed(monkeypatch):
    real = boot.decode_group

    def forgetful(data):
        row = real(data)
        return replace(row, vote=0) if row.vote else row

    monkeypatch.setattr(boot, "decode_group", forgetful)
    monkeypatch.setattr(boot, "_check_stamp", lambda *_: None)
    kinds = ("kill", "restart-loop", "reset-links")
    verdict = failure(range(8), Settings(seconds=6, accounts=1, shards=4, kinds=kinds))
    assert verdict.rule in {"second-vote", "two-leaders", "forgot"}
