"""What doctor makes of facts that no machine of ours has: each mark, and both its sides."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec.structs import replace

from cluster.room import Space
from quorumvault.cli import doctor_judge as judge
from quorumvault.cli.doctor import line
from quorumvault.cli.doctor_facts import (
    ClockFacts,
    DirectoryFacts,
    DiskFacts,
    FileFacts,
    Finding,
    HsmFacts,
    Level,
    MachineFacts,
    PortFacts,
    SyncFacts,
    TlsFacts,
    UserFacts,
)

NOW = dt.datetime(2026, 11, 28, 10, 30, tzinfo=dt.UTC)
ME = "node 1 of cluster c"
DAY = dt.timedelta(days=1)
ENDS = NOW + 3650 * DAY
GIB = 1 << 30
TLS = TlsFacts(
    chained=True,
    key_fits=True,
    holder="node 1",
    hosts=frozenset({"10.0.0.1"}),
    purposes=frozenset({"server", "client"}),
    not_before=NOW - dt.timedelta(days=1),
    not_after=NOW + dt.timedelta(days=300),
    authority_not_after=NOW + dt.timedelta(days=3000),
)
HERE = DirectoryFacts("/d", exists=True, identity=ME, format=1)
HSM = HsmFacts(keys=9, sign_ms=0.1, stamp_holder=ME, stamped=4, stored=4)


def levels(findings: list[Finding]) -> dict[str, str]:
    """Only what is not ok, and that it has a next step."""
    wrong = {each.check: str(each.level) for each in findings if each.level is not Level.OK}
    assert all(each.next_step for each in findings if each.check in wrong)
    return wrong


@pytest.mark.parametrize(
    ("secret", "mode", "owner", "level"),
    [
        (True, 0o600, 1000, "ok"),
        (True, 0o400, 0, "ok"),
        (True, 0o640, 1000, "warn"),
        (True, 0o604, 1000, "fail"),
        (True, 0o601, 1000, "fail"),
        (True, 0o600, 33, "warn"),
        (False, 0o644, 0, "ok"),
        (False, 0o666, 0, "fail"),
    ],
)
def test_who_may_use_a_file(secret, mode, owner, level):
    facts = FileFacts("tls.key_file", "/k", secret, "", mode, owner)
    assert judge.file(facts, 1000).level == level


def test_another_user_and_a_folder_that_cannot_be_written_are_warnings():
    assert levels(judge.user(UserFacts(0, 0, "/c", cluster_folder_writable=True))) == {}
    found = levels(judge.user(UserFacts(0, 1000, "/c", cluster_folder_writable=False)))
    assert found == {"user": "warn", "folder of cluster_file": "warn"}


@pytest.mark.parametrize(
    ("facts", "level", "said"),
    [
        (DirectoryFacts("/d", exists=False), "ok", "first start"),
        (HERE, "ok", "no node runs"),
        (replace(HERE, holder=7), "ok", "process 7"),
        (replace(HERE, identity="node 2 of cluster c"), "fail", "belongs to node 2"),
        (replace(HERE, format=2), "fail", "format 2"),
        (replace(HERE, identity="", others="cat.jpg"), "fail", "cat.jpg"),
        (replace(HERE, error="Permission denied"), "fail", "Permission denied"),
    ],
)
def test_whose_directory_it_is(facts, level, said):
    found = judge.directory(facts, ME)
    assert found.level == level
    assert said in line(found)


@pytest.mark.parametrize(
    ("free", "used", "kind", "read_only", "wrong"),
    [
        (50 * GIB, 0, "ext4", False, {}),
        (GIB // 2, 0, "ext4", False, {"disk space": "warn"}),
        (GIB // 8, 0, "xfs", False, {"disk space": "fail"}),
        (50 * GIB, 61 * GIB, "xfs", False, {"disk space": "warn"}),
        (50 * GIB, 0, "tmpfs", False, {"file system": "warn"}),
        (50 * GIB, 0, "nfs4", False, {"file system": "warn"}),
        (50 * GIB, 0, "ext4", True, {"file system": "fail"}),
    ],
)
def test_the_marks_of_a_disk(free, used, kind, read_only, wrong):
    facts = DiskFacts("/d", kind, read_only, Space(used, 64 * GIB, free, 100 * GIB))
    assert levels(judge.disk(facts)) == wrong


@pytest.mark.parametrize(
    ("p50", "p99", "error", "level"),
    [
        (1, 10, "", "ok"),
        (20, 200, "", "ok"),
        (21, 30, "", "warn"),
        (1, 201, "", "warn"),
        (251, 260, "", "fail"),
        (0, 0, "No space left on device", "fail"),
    ],
)
def test_the_marks_of_a_sync(p50, p99, error, level):
    assert judge.sync(SyncFacts(200, p50, p99, error)).level == level


@pytest.mark.parametrize(
    ("now", "newest", "made", "wrong"),
    [
        (NOW, NOW, NOW, {}),
        (NOW, NOW + dt.timedelta(minutes=4), NOW, {}),
        (NOW, NOW + dt.timedelta(minutes=6), NOW, {"clock": "fail"}),
        (NOW, NOW, NOW + dt.timedelta(minutes=1), {"clock": "fail"}),
        (NOW.replace(year=1970), NOW, None, {"clock": "fail"}),
        (NOW + 3651 * DAY, NOW, NOW, {"clock": "fail"}),
        (ENDS - dt.timedelta(seconds=1), NOW, NOW, {}),
        (ENDS, NOW, NOW, {"clock": "fail"}),
    ],
)
def test_a_clock_beside_what_cannot_be_later(now, newest, made, wrong):
    assert levels(judge.clock(ClockFacts(now, newest, "/f", None), made, ENDS)) == wrong
    unkept = judge.clock(ClockFacts(now, newest, "/f", synchronised=False), made, ENDS)
    assert levels(unkept) == wrong | {"time synchronisation": "warn"}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, {}),
        ({"error": "no"}, {"certificate": "fail"}),
        ({"chained": False}, {"certificate": "fail"}),
        ({"holder": "node 2"}, {"certificate": "fail"}),
        ({"holder": "an operator"}, {"certificate": "fail"}),
        ({"purposes": frozenset({"server"})}, {"certificate": "fail"}),
        ({"key_fits": False}, {"certificate key": "fail"}),
        ({"hosts": frozenset({"10.0.0.2"})}, {"certificate names": "fail"}),
        ({"not_after": NOW}, {"certificate dates": "fail"}),
        ({"not_after": NOW + dt.timedelta(days=29)}, {"certificate dates": "warn"}),
        ({"not_before": NOW + dt.timedelta(hours=1)}, {"certificate dates": "fail"}),
        ({"authority_not_after": NOW + dt.timedelta(days=9)}, {"authority dates": "warn"}),
    ],
)
def test_a_certificate(changed, wrong):
    assert levels(judge.tls(replace(TLS, **changed), 1, ["10.0.0.1"], NOW)) == wrong


@pytest.mark.parametrize(
    ("taken", "error", "holder", "level"),
    [
        (False, "", 0, "ok"),
        (True, "in use", 0, "fail"),
        (True, "in use", 7, "ok"),
        (False, "Cannot assign requested address", 7, "fail"),
    ],
)
def test_a_port(taken, error, holder, level):
    assert judge.port(PortFacts("ops", "h:1", taken, error), holder).level == level


@pytest.mark.parametrize(
    ("changed", "holder", "wrong"),
    [
        ({}, 0, {}),
        ({"stored": 5}, 0, {}),
        ({"stored": 3}, 0, {"HSM stamp": "fail"}),
        ({"stored": 6}, 0, {"HSM stamp": "fail"}),
        ({"stored": None}, 0, {"HSM stamp": "fail"}),
        ({"stored": None}, 7, {}),
        ({"stored": None, "stamped": 0}, 0, {}),
        ({"stored": None, "stored_error": "no"}, 0, {"HSM stamp": "fail"}),
        ({"stamp_holder": "node 2 of cluster c"}, 7, {"HSM stamp": "fail"}),
        ({"stamp_error": "none"}, 0, {"HSM stamp": "fail"}),
        ({"sign_ms": 51.0}, 0, {"HSM": "warn"}),
        ({"error": "away", "next_step": "look"}, 0, {"HSM": "fail"}),
    ],
)
def test_a_token_and_its_stamp(changed, holder, wrong):
    assert levels(judge.hsm(replace(HSM, **changed), ME, replace(HERE, holder=holder))) == wrong


def test_a_machine_with_too_little():
    good = MachineFacts(4096, 0, 4 * GIB, "quorumvault 1", "3.11")
    assert levels(judge.machine(good, 3776)) == {}
    poor = replace(good, open_files=1024, memory_available=GIB // 4)
    assert levels(judge.machine(poor, 3776)) == {"open files": "warn", "memory": "warn"}


def test_whatever_was_found_is_one_line():
    assert line(judge.fail("HSM", "two\nlines", "a\x0bstep")) == "[FAIL] HSM: two lines; a step"
