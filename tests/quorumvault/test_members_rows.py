"""`cluster members`: the file held against what the nodes say."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from five_desks import Desks
from five_reports import DCS, changed, five, with_groups
from typer.testing import CliRunner

from cluster.cluster_file import ClusterFile, NodeEntry, encode, next_id, replaced
from node.verdict_links import Silent
from quorumvault.cli import app, members_rows
from quorumvault.cli.exits import Exit, Failure

LACKING = (
    "node 6 (dublin) has a complete ledger in 0 of 3 shards only: it gives no shares in the others"
    " yet"
)


def book() -> ClusterFile:
    entries = tuple(
        NodeEntry(
            id=node, seat=node, dc=dc,
            **{kind: f"10.0.0.{node}:{port}" for kind, port in
               (("peer", 1), ("client", 2), ("admin", 3), ("ops", 4))},
        )
        for node, dc in DCS.items()
    )  # fmt: skip
    return ClusterFile(
        version=1,
        cluster_id=UUID("00000000-0000-0000-0000-000000000007"),
        name="test",
        shards=3,
        limit=10,
        grace_s=120,
        threshold=3,
        nodes=entries,
        check_values={"identity": "0011223344556677"},
        opaque_public_key="A" * 43,
    )


def after_replacement() -> ClusterFile:
    before = book()
    entry = before.node(4)
    return replaced(before, 4, msgspec.structs.replace(entry, id=next_id(before)))


def test_all_as_it_should_be_has_no_remarks():
    found = members_rows.judge(book(), set(DCS), five())
    assert found.remarks == []
    assert [(m.seat, m.node, m.voter, m.ledger, m.revision) for m in found.members] == [
        (n, n, [0, 1, 2], 3, 0) for n in DCS
    ]
    assert max(map(len, members_rows.text(found))) <= 80


def test_a_newcomer_on_its_way_in_is_followed_shard_by_shard():
    cluster, told = after_replacement(), five()
    told[6] = changed(
        with_groups(told.pop(4), role="follower", ledger_complete=False), node=6, revision=1
    )
    for node, report in told.items():
        told[node] = changed(
            report,
            revision=1,
            groups=[
                changed(g, voters=(1, 2, 3, 5, 6) if g.shard == 0 else (1, 2, 3, 5),
                        learners=() if g.shard == 0 else (6,))
                for g in report.groups
            ],
        )  # fmt: skip
    found = members_rows.judge(cluster, {1, 2, 3, 6, 5}, told)
    new = next(m for m in found.members if m.node == 6)
    assert (new.seat, new.joined, new.voter, new.learner, new.ledger) == (4, 1, [0], [1, 2], 0)
    assert [(g.node, g.seat, g.revision, g.successor) for g in found.gone] == [(4, 4, 1, 6)]
    assert found.remarks == [
        "node 6 (dublin) has no vote in 2 of 3 shards, a learner in 2",
        LACKING,
    ]


def test_who_is_behind_silent_or_missing_from_the_connection_file_is_named_with_the_step():
    cluster, told = after_replacement(), five()
    told[6] = changed(told.pop(4), node=6, revision=1)
    for node in (1, 3, 5):
        told[node] = changed(told[node], revision=1)
    told[5] = Silent("Connection refused")
    remarks = "\n".join(members_rows.judge(cluster, set(DCS), told).remarks)
    assert "node 2 (amsterdam) follows revision 0 of the file, others 1" in remarks
    assert "quorumvault member sync --cluster DIR" in remarks
    assert "node 5 (stockholm) does not answer: Connection refused" in remarks
    assert "the connection file names node 4, which is no member any more" in remarks
    assert "node 1" not in remarks


@pytest.fixture
def desks(tmp_path):
    made = Desks(tmp_path)
    yield made
    made.close()


def run(desks: Desks, *options: str):
    connection = str(desks.connection_file())
    return CliRunner().invoke(app, ["cluster", "members", "--connection", connection, *options])


def test_the_newest_file_of_all_nodes_counts(desks):
    desks.set("GET /v1/cluster", (200, encode(book())))
    desks.set("GET /v1/cluster", (200, encode(after_replacement())), 3)
    desks.set("GET /v1/cluster", (200, b"{}"), 1)
    done = run(desks)
    assert done.exit_code == Exit.DEGRADED
    assert "revision 1" in done.stdout.splitlines()[0]
    assert "node 4 had seat 4 until revision 1; node 6 has it now" in done.stdout


def test_without_any_file_there_is_nothing_to_show(desks):
    done = run(desks)
    assert isinstance(done.exception, Failure)
    assert done.exception.exit_code == Exit.CONNECTION


def test_what_a_node_says_cannot_move_the_cursor_of_a_terminal(desks):
    shouts = "\x1b]0;all well\x07"
    named = msgspec.json.decode(encode(after_replacement()))
    named["nodes"][0]["dc"] = shouts
    desks.set("GET /v1/cluster", (200, encode(book())))
    desks.set("GET /v1/cluster", (200, named), 2)
    desks.set("GET /v1/status", (200, {"node": shouts}), 3)
    done = run(desks)
    assert done.exit_code == Exit.DEGRADED
    assert "node 3 (paris) does not answer" in done.output
    assert all(letter.isprintable() or letter == "\n" for letter in done.output)
