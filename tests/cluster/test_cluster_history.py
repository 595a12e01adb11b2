"""Replacements in cluster.json: each revision is one node out and one with a greater id in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import pytest
from test_cluster_file import GOOD

from cluster.cluster_file import (
    ClusterFile,
    ClusterFileError,
    NodeEntry,
    encode,
    extends,
    load,
    next_id,
    parse,
    replaced,
    same_vault,
    save,
)

if TYPE_CHECKING:
    from pathlib import Path

FOUNDING = parse(json.dumps(GOOD).encode())


def newcomer(node_id: int, seat: int) -> NodeEntry:
    ports = [f"127.0.0.1:{1024 + 8 * node_id + offset}" for offset in range(4)]
    return NodeEntry(node_id, seat, f"dc{seat}", *ports)


def after(*replacements: tuple[int, int]) -> ClusterFile:
    """The file after (old id, new id) one by one."""
    cluster = FOUNDING
    for old, new in replacements:
        cluster = replaced(cluster, old, newcomer(new, cluster.node(old).seat))
    return cluster


def test_a_file_without_history_is_a_founding_one() -> None:
    assert (FOUNDING.revision, FOUNDING.retired) == (0, ())
    assert all(entry.joined == 0 for entry in FOUNDING.nodes)
    assert FOUNDING.founders() == (1, 2, 3, 4, 5)
    assert next_id(FOUNDING) == 6


def test_a_replacement_is_the_next_revision_with_one_node_out_and_one_in() -> None:
    cluster = after((4, 6))
    assert cluster.revision == 1
    assert [entry.id for entry in cluster.nodes] == [1, 2, 3, 6, 5]
    assert (cluster.node(6).seat, cluster.node(6).joined) == (4, 1)
    assert [(e.id, e.seat, e.joined, e.retired) for e in cluster.retired] == [(4, 4, 0, 1)]
    assert cluster.retired_ids() == {4}
    assert cluster.founders() == (1, 2, 3, 4, 5)
    assert cluster.successor(4) == 6
    assert cluster.successor(5) is None
    assert next_id(cluster) == 7


def test_a_replacement_can_be_replaced_and_only_the_first_was_a_founder() -> None:
    cluster = after((4, 6), (6, 9), (1, 10))
    assert [entry.id for entry in cluster.nodes] == [10, 2, 3, 9, 5]
    assert cluster.founders() == (1, 2, 3, 4, 5)
    assert (cluster.successor(4), cluster.successor(6), cluster.successor(1)) == (6, 9, 10)


def test_a_replaced_node_is_told_by_whom_and_what_to_do() -> None:
    with pytest.raises(
        ClusterFileError, match=r"node 4 was replaced by node 6 .*shut this one down and destroy"
    ):
        after((4, 6)).node(4)


def test_what_is_saved_is_loaded_again_with_its_history(tmp_path: Path) -> None:
    cluster = after((4, 6), (5, 7))
    save(tmp_path / "cluster.json", cluster)
    assert load(tmp_path / "cluster.json") == cluster
    assert (tmp_path / "cluster.json").read_bytes() == encode(cluster)


def test_the_replacement_may_take_over_the_addresses_of_the_lost_node() -> None:
    old = FOUNDING.node(4)
    again = msgspec.structs.replace(old, id=6)
    assert replaced(FOUNDING, 4, again).node(6).peer == old.peer


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (4, newcomer(6, 5), "takes that seat, not 5"),
        (4, newcomer(4, 4), r"retired\[0\].id: 4 stands there twice"),
        (4, newcomer(3, 4), "3 stands there twice"),
        (9, newcomer(10, 4), "node 9 is not in"),
        (4, msgspec.structs.replace(newcomer(6, 4), peer="127.0.0.1:7143"), "is already"),
        (4, msgspec.structs.replace(newcomer(6, 4), ops="nowhere"), "must be host:port"),
    ],
)
def test_a_replacement_that_cannot_be_is_refused(old: int, new: NodeEntry, message: str) -> None:
    with pytest.raises(ClusterFileError, match=message):
        replaced(FOUNDING, old, new)


def test_an_id_never_comes_back_and_never_goes_down() -> None:
    cluster = after((4, 8))
    for used in (4, 6, 7, 8):
        with pytest.raises(ClusterFileError):
            replaced(cluster, 5, newcomer(used, 5))
    with pytest.raises(ClusterFileError, match="node 4 was replaced by node 8"):
        replaced(cluster, 4, newcomer(9, 4))


def altered(cluster: ClusterFile, *path: object, to: object) -> bytes:
    data = json.loads(encode(cluster))
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(data).encode()


TWO = after((4, 6), (5, 7))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (altered(TWO, "revision", to=1), r"\$\.retired: revision 1 has one"),
        (altered(TWO, "revision", to=3), r"\$\.retired: revision 3 has one"),
        (altered(TWO, "revision", to=-1), r"\$\.revision: Expected `int` >= 0"),
        (altered(TWO, "retired", to=[]), r"\$\.retired: revision 2 has one"),
        (altered(TWO, "retired", 0, "retired", to=2), r"in that order, not \[2, 2\]"),
        (altered(TWO, "retired", 0, "joined", to=1), r"retired\[0\]\.joined: 1 is not before"),
        (altered(TWO, "retired", 0, "id", to=6), r"retired\[0\]\.id: 6 stands there twice"),
        (altered(TWO, "retired", 0, "id", to=5), r"retired\[0\]\.id: 5 stands there twice"),
        (altered(TWO, "retired", 0, "id", to=66), r"retired\[0\]: its replacement has id 6"),
        (altered(TWO, "retired", 0, "seat", to=5), r"retired\[0\]\.retired: exactly one node"),
        (altered(TWO, "nodes", 3, "joined", to=0), r"retired\[0\]\.retired: exactly one node"),
        (altered(TWO, "nodes", 3, "joined", to=2), r"retired\[0\]\.retired: exactly one node"),
        (altered(TWO, "nodes", 0, "joined", to=2), r"retired\[1\]\.retired: exactly one node"),
        (altered(TWO, "nodes", 0, "joined", to=3), r"\$\.nodes: node 1 joined after revision 2"),
        (altered(FOUNDING, "nodes", 0, "joined", to=1), "node 1 joined after revision 0"),
        (altered(TWO, "retired", 0, "extra", to=3), "unknown field `extra`"),
    ],
)
def test_a_history_that_cannot_have_been_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ClusterFileError, match=message):
        parse(data)


def test_later_revisions_extend_earlier_ones_and_nothing_else() -> None:
    line = [FOUNDING, after((4, 6)), after((4, 6), (5, 7)), after((4, 6), (5, 7), (6, 8))]
    for late, newer in enumerate(line):
        for early, older in enumerate(line):
            assert extends(newer, older) == (late >= early)


@pytest.mark.parametrize(
    "other",
    [
        after((5, 6)),
        after((4, 7)),
        after((5, 6), (4, 7)),
        after((4, 7), (7, 8)),
    ],
)
def test_two_histories_that_part_do_not_extend_each_other(other: ClusterFile) -> None:
    ours = after((4, 6))
    assert not extends(other, ours)
    assert not extends(ours, other)


def test_a_member_that_moved_on_the_way_is_not_an_extension() -> None:
    newer = json.loads(encode(after((4, 6))))
    newer["nodes"][0]["peer"] = "127.0.0.1:1"
    assert not extends(parse(json.dumps(newer).encode()), FOUNDING)


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_id": uuid4()},
        {"name": "other"},
        {"shards": 8},
        {"limit": 11},
        {"grace_s": 60},
        {"check_values": {"identity": "ff" * 8}},
        {"opaque_public_key": "B" * 42 + "A"},
    ],
)
def test_another_vault_is_no_extension(change: dict) -> None:
    other = msgspec.structs.replace(after((4, 6)), **change)
    assert not same_vault(other, FOUNDING)
    assert not extends(other, FOUNDING)
    assert same_vault(after((4, 6)), FOUNDING)
