"""The judgement of a cluster: a table of situations, what is said and what may still fail."""

from __future__ import annotations

import five_reports as f
import msgspec
import pytest

from node.foreign import MAX_ITEMS, MAX_TEXT, MAX_VALUES, Unintelligible, decode, status_of
from node.report import StatusReport
from node.verdict import judge
from node.verdict_links import Silent
from node.verdict_why import MAX_LINE


def dead(*nodes):
    def change(told):
        leader = next(node for node in f.DCS if node not in nodes)
        for node in nodes:
            told[node] = Silent("connection refused")
        for other in set(told) - set(nodes):
            told[other] = f.with_peers(
                told[other], set(nodes), connected=False, last_contact_ms=9_000.0
            )
        alive = {node: each for node, each in told.items() if node not in nodes}
        f.led_by(alive, leader)
        told.update(alive)

    return change


def one(node, make):
    def change(told):
        told[node] = make(told[node])

    return change


def hsm_away(*nodes):
    def change(told):
        for node in nodes:
            away = f.failing(told[node], "hsm", "token removed")
            told[node] = f.changed(away, hsm=f.HsmReport(healthy=False, reason="token removed"))

    return change


def dc_cut_off(*nodes):
    def change(told):
        f.cut_off(told, *nodes)
        leader = next(node for node in f.DCS if node not in nodes)
        f.led_by(told, leader)
        for node in nodes:
            told[node] = f.failing(told[node], "quorum", "no leader known for shard 0, 1, 2")

    return change


def all_parted(told):
    for sender in f.DCS:
        for receiver in f.DCS:
            if sender != receiver:
                f.cut(told, sender, receiver)
        told[sender] = f.with_groups(told[sender], role="follower", leader=0)


def dead_and_cut(told):
    dead(1)(told)
    rest = {node: each for node, each in told.items() if node != 1}
    f.cut_off(rest, 5)
    told.update(rest)


def two_leaders(told):
    """Node 5 has not heard yet that node 2 won a later term."""
    f.led_by(told, 2)
    told[5] = f.with_groups(told[5], role="leader", leader=5, term=7)


def silent_leader(told):
    """The operator does not reach node 1, but the nodes do."""
    told[1] = Silent("timed out")


def other_hash(told):
    told[4] = f.changed(f.with_groups(told[4], hash="cd" * 32), hash_agreement="differs")


def newcomer(told):
    """Node 3's ledger is not complete: it votes, and gives no shares."""
    told[3] = f.with_groups(told[3], ledger_complete=False)


def learner(told):
    for node in f.DCS:
        told[node] = f.with_groups(told[node], voters=(1, 2, 3, 4), learners=(5,))


def leaving(told):
    for node in (4, 5):
        told[node] = f.changed(
            f.failing(told[node], "serving", "draining"), draining=True, leaving=True
        )


def alone_with_a_claim(told):
    for node in (1, 2, 3, 4):
        lost = f.with_groups(told[node], role="follower", leader=0)
        told[node] = f.failing(lost, "quorum", "no leader known for shard 0, 1, 2")
    told[5] = f.with_groups(told[5], role="leader", leader=5, term=9)


def one_way(told):
    f.cut(told, 4, 5)


def from_the_leader(told):
    f.cut(told, 1, 5)


def more_alarms(told):
    told[2] = f.changed(told[2], alarms=[f"alarm {number}" for number in range(7)])


CASES = {
    "all is well": (lambda told: None, "healthy", 2, []),
    "one does not answer": (
        dead(2), "degraded", 1, ["node 2 (amsterdam) does not answer: connection refused"],
    ),
    "two do not answer": (
        dead(1, 2), "degraded", 0,
        ["node 1 (frankfurt) does not answer", "node 2 (amsterdam) does not answer"],
    ),
    "three do not answer": (
        dead(1, 2, 3), "no-quorum", 0, ["node 3 (paris) does not answer", "reaches only 1 of 4"],
    ),
    "nobody answers": (
        dead(1, 2, 3, 4), "no-quorum", 0, ["node 4 (dublin) does not answer"],
    ),
    "an HSM is away": (hsm_away(4), "degraded", 1, ["node 4 (dublin): HSM away (token removed)"]),
    "two HSMs are away": (hsm_away(3, 4), "degraded", 0, ["node 3 (paris): HSM away"]),
    "three HSMs are away": (
        hsm_away(3, 4, 5), "no-quorum", 0,
        ["too few voters with an HSM are heard by the leader of shard 0-2"],
    ),
    "a data center is cut off, and its node answers": (
        dc_cut_off(5), "degraded", 1, ["node 5 (stockholm) reaches only 0 of 4 other nodes"],
    ),
    "two are cut off together": (
        dc_cut_off(4, 5), "degraded", 0, ["node 4 (dublin) reaches only 1 of 4 other nodes"],
    ),
    "one is dead, one is cut off": (
        dead_and_cut, "degraded", 0,
        ["node 1 (frankfurt) does not answer", "node 5 (stockholm) reaches only 0 of 4"],
    ),
    "all are parted": (all_parted, "no-quorum", 0, ["no leader for shard 0-2"]),
    "a link is cut one way": (
        one_way, "degraded", 2,
        ["no link from node 4 (dublin) to node 5 (stockholm): no answer"],
    ),
    "a leader does not reach a follower": (
        from_the_leader, "degraded", 1,
        ["no link from node 1 (frankfurt) to node 5 (stockholm): no answer"],
    ),
    "a node is drained": (
        one(3, lambda r: f.changed(
            f.failing(r, "serving", "drained by an operator"), draining=True)),
        "degraded", 2, ["node 3 (paris): drained by an operator"],
    ),
    "a disk is short": (
        one(2, lambda r: f.changed(f.failing(r, "disk", "9 bytes free, too few"), room="short")),
        "degraded", 2, ["node 2 (amsterdam): its disk is short of space"],
    ),
    "a disk is full": (
        one(2, lambda r: f.changed(f.failing(r, "disk", "9 bytes free, too few"), room="full")),
        "degraded", 1, ["node 2 (amsterdam): its disk is full"],
    ),
    "a disk is slow": (
        one(2, lambda r: f.failing(r, "disk", "slow: a write takes 2500 ms")),
        "degraded", 2, ["node 2 (amsterdam): its disk is slow: a write takes 2500 ms"],
    ),
    "a node fetches a snapshot": (
        one(5, lambda r: f.failing(r, "caught-up", "fetching a snapshot for shard 1")),
        "degraded", 1, ["node 5 (stockholm) is not ready: caught-up (fetching a snapshot"],
    ),
    "a node has just started": (
        one(5, lambda r: f.failing(r, "raft", "waits for marks")),
        "degraded", 1, ["node 5 (stockholm) is not ready: raft (waits for marks)"],
    ),
    "a node has an alarm": (
        one(4, lambda r: f.changed(r, alarms=["shard 2: something is odd"])),
        "degraded", 2, ["node 4 (dublin): alarm: shard 2: something is odd"],
    ),
    "a node has many alarms": (
        more_alarms, "degraded", 2,
        ["node 2 (amsterdam): alarm: alarm 6", "node 2 (amsterdam): 3 more alarms"],
    ),
    "hashes differ": (
        other_hash, "degraded", 1,
        ["state hashes differ in shard 0-2", "node 4 (dublin): its state hash differs"],
    ),
    "a shard has no leader": (
        lambda told: told.update(
            {n: f.changed(r, groups=[*r.groups[:2], f.changed(
                r.groups[2], role="follower", leader=0)]) for n, r in told.items()}),
        "degraded", 0, ["no leader for shard 2"],
    ),
    "two claim to lead": (two_leaders, "healthy", 2, []),
    "the operator does not reach a leader": (
        silent_leader, "degraded", 1, ["node 1 (frankfurt) does not answer: timed out"],
    ),
    "a newcomer gives no shares yet": (
        newcomer, "degraded", 1,
        ["node 3 (paris) gives no shares yet in shard 0-2: its ledger is not complete"],
    ),
    "a newcomer does not vote yet": (
        learner, "degraded", 1, ["node 5 (stockholm) has no vote in shard 0-2"],
    ),
    "two nodes are on their way out": (
        leaving, "degraded", 0, ["node 4 (dublin): draining", "node 5 (stockholm): draining"],
    ),
    "one says that it leads, and nobody else knows of a leader": (
        alone_with_a_claim, "no-quorum", 0,
        ["too few voters with an HSM are heard by the leader of shard 0-2"],
    ),
    "a node has an older cluster file": (
        lambda told: told.update(
            {n: f.changed(r, revision=1) for n, r in told.items() if n != 2}),
        "degraded", 2,
        ["node 2 (amsterdam) follows revision 0 of the cluster file, others 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_counts_what_is_certain_and_says_why(case):
    change, verdict, tolerated, lines = CASES[case]
    told = f.five()
    change(told)
    found = judge(f.PLACES, told)
    said = "\n".join(found.why)
    for line in lines:
        assert line in said
    assert (found.verdict, found.failures_tolerated) == (verdict, tolerated)
    assert bool(found.why) == (found.verdict != "healthy")
    assert len(set(found.why)) == len(found.why)


def test_who_leads_is_told_by_the_higher_term():
    told = f.five()
    two_leaders(told)
    assert [line.leader for line in judge(f.PLACES, told).shards] == [2, 2, 2]


def test_a_leader_that_the_asker_does_not_reach_is_known_by_those_who_hear_it():
    told = f.five()
    silent_leader(told)
    assert [line.leader for line in judge(f.PLACES, told).shards] == [1, 2, 3]
    for node in (2, 3, 4, 5):  # it is gone in truth: nobody hears it, and nobody leads shard 0
        told[node] = f.with_peers(told[node], {1}, connected=False, last_contact_ms=2_500.0)
    assert [line.leader for line in judge(f.PLACES, told).shards] == [None, 2, 3]


def test_links_of_a_node_that_is_cut_off_are_not_told_one_by_one():
    told = f.five()
    dc_cut_off(5)(told)
    assert not [line for line in judge(f.PLACES, told).why if "no link" in line]


def test_lag_is_the_distance_to_the_leaders_commit_and_the_least_applied_is_told():
    told = f.five()
    told[4] = f.with_groups(told[4], applied=90)
    found = judge(f.PLACES, told)
    assert [line.lag for line in found.nodes] == [0, 0, 0, 30, 0]
    assert {line.applied_min for line in found.shards} == {90}


def test_hashes_at_different_indexes_are_neither_equal_nor_not():
    told = {n: f.with_groups(r, hash_index=64 + n) for n, r in f.five().items()}
    found = judge(f.PLACES, told)
    assert {line.state_hash for line in found.shards} == {"unknown"}
    assert found.verdict == "healthy"


def test_it_is_json_with_numbers_for_numbers():
    told = f.five()
    told[2] = Silent("refused")
    plain = judge(f.PLACES, told).to_dict()
    assert msgspec.json.decode(msgspec.json.encode(plain)) == plain
    assert [line["node"] for line in plain["nodes"]] == [1, 2, 3, 4, 5]
    assert plain["nodes"][1]["lag"] is None


def test_a_long_reason_is_cut():
    told = f.five()
    told[2] = Silent("x" * 5_000)
    assert max(map(len, judge(f.PLACES, told).why)) <= MAX_LINE


# ---- what crosses the border between two nodes


def wire(node=4):
    return msgspec.json.decode(msgspec.json.encode(f.report(node)))


def test_a_report_survives_the_way_there():
    assert status_of(wire()) == f.report(4)
    assert decode(msgspec.json.encode(f.report(4)), StatusReport) == f.report(4)


def test_the_largest_vault_there_may_be_is_understood():
    most = f.changed(f.report(4), groups=[f.group(4, shard, 4) for shard in range(256)])
    assert decode(msgspec.json.encode(most), StatusReport) == most


def test_a_newer_node_may_say_more():
    assert status_of(wire() | {"moon": {"phase": 3}}) == f.report(4)


@pytest.mark.parametrize(
    "change",
    [
        {"node": "4"},
        {"node": None},
        {"groups": 7},
        {"groups": [{"shard": 0}]},
        {"peers": [[]]},
        {"uptime_s": float("nan")},
        {"uptime_s": float("inf")},
        {"incarnation": 2**53 + 1},
        {"incarnation": -(2**70)},
        {"moon": 10**400},
        {"hash_agreement": "perhaps"},
        {"alarms": ["x"] * (MAX_ITEMS + 1)},
        {"checks": {str(n): {"ok": True, "detail": ""} for n in range(MAX_ITEMS + 1)}},
        {"moon": [[[[[[[[[[1]]]]]]]]]]},
        {"moon": [[0] * MAX_ITEMS] * (MAX_VALUES // MAX_ITEMS)},
    ],
)
def test_what_is_no_report_is_refused_in_one_line(change):
    with pytest.raises(Unintelligible) as refused:
        status_of(wire() | change)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"null", b"1e999", b"[" * 100_000, b'{"a":' * 100_000, b"{}"]
)
def test_bytes_that_are_no_report_are_refused(data):
    with pytest.raises(Unintelligible):
        decode(data, StatusReport)


def test_texts_are_one_printable_line_of_bounded_length():
    nasty = "a\nb\x1b[31m\u202e" + "x" * 10_000
    found = status_of(wire() | {"alarms": [nasty], "checks": {nasty: {"ok": True, "detail": ""}}})
    for text in (found.alarms[0], next(iter(found.checks))):
        assert len(text) == MAX_TEXT
        assert text.isprintable()


def no_leader(told, *nodes):
    """These nodes know no leader of shard 2, and say on their page that they are not ready."""
    for node in nodes:
        *rest, last = told[node].groups
        groups = [*rest, f.changed(last, role="follower", leader=0)]
        told[node] = f.changed(
            f.failing(told[node], "quorum", "no leader known for shard 2"), groups=groups
        )


def test_a_shard_without_a_leader_is_said_once_and_not_of_each_node_again():
    told = f.five()
    no_leader(told, *f.DCS)
    assert judge(f.PLACES, told).why == ["no leader for shard 2"]


def test_a_node_that_alone_knows_no_leader_is_named():
    told = f.five()
    no_leader(told, 5)
    assert judge(f.PLACES, told).why == [
        "node 5 (stockholm) is not ready: quorum (no leader known for shard 2)"
    ]
