"""The bug bank does not rot: every patch applies to this tree, and it is really seen."""

from __future__ import annotations

import pytest

from chaos import bugbank

ALL = bugbank.bugs()


def test_the_bank_holds_every_bug_that_a_reader_would_ask_for():
    assert len(ALL) >= 26
    assert {bug.breaks for bug in ALL} >= {f"I{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 12)}


@pytest.mark.parametrize("bug", ALL, ids=[bug.name for bug in ALL])
def test_a_patch_applies_to_the_tree_as_it_is(bug):
    where = bugbank.raft_source() if bug.crate else bugbank.ROOT
    assert not bugbank.apply(bug, where, check=True)


def test_a_patch_without_its_header_is_refused(tmp_path, monkeypatch):
    (tmp_path / "01-nameless.patch").write_text("Bug: something\n\n--- a/x\n+++ b/x\n")
    monkeypatch.setattr(bugbank, "BUGS", tmp_path)
    with pytest.raises(bugbank.BugError, match="Origin"):
        bugbank.bugs()


def test_a_patch_that_rotted_is_told_and_not_taken_for_a_catch(tmp_path, monkeypatch):
    text = (
        "Bug: b\nOrigin: o\nBreaks: I1\n\n--- a/Makefile\n+++ b/Makefile\n@@ -1 +1 @@\n-gone\n+x\n"
    )
    (tmp_path / "01-rotted.patch").write_text(text)
    monkeypatch.setattr(bugbank, "BUGS", tmp_path)
    row = bugbank.tried(bugbank.bugs()[0], seeds=1)
    assert row.wrong
    assert not bugbank.good(row)


@pytest.mark.parametrize("name", ["01-", "12-", "22-"])
def test_a_bug_is_seen_by_the_first_seeds_of_the_simulator(name):
    (bug,) = bugbank.bugs([name])
    row = bugbank.tried(bug, seeds=3, simulator_only=True)
    assert row.caught.startswith("simulator: ")
    assert bugbank.good(row)


def test_the_tree_without_a_patch_is_silent():
    row = bugbank.tried(None, seeds=1, simulator_only=True)
    assert bugbank.good(row), row


def test_a_name_that_no_patch_has_is_refused_before_anything_runs(capsys):
    with pytest.raises(SystemExit) as ended:
        bugbank.main(["01", "nosuch"])
    assert ended.value.code == 2
    assert "no patch begins with 'nosuch'" in capsys.readouterr().err
