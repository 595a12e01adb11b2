"""cluster.json is read strictly: every mistake is one line with the field and the next step."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest

from cluster.cluster_file import (
    ClusterFile,
    ClusterFileError,
    load,
    parse,
    save,
    split_address,
)

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict = {
    "version": 1,
    "cluster_id": "00112233-4455-6677-8899-aabbccddeeff",
    "name": "demo",
    "shards": 16,
    "limit": 10,
    "grace_s": 120,
    "threshold": 3,
    "nodes": [
        {
            "id": seat,
            "seat": seat,
            "dc": f"dc{seat}",
            "peer": f"127.0.0.1:7{seat}43",
            "client": f"127.0.0.1:8{seat}43",
            "admin": f"127.0.0.1:9{seat}43",
            "ops": f"[::1]:9{seat}90",
        }
        for seat in range(1, 6)
    ],
    "check_values": {"identity": "0011223344556677", "oprf/123": "8899aabbccddeeff"},
    "opaque_public_key": "A" * 43,
}


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    cluster = parse(json.dumps(GOOD).encode())
    path = tmp_path / "cluster.json"
    save(path, cluster)
    assert load(path) == cluster
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["cluster.json"]


def test_it_finds_nodes_peers_and_shards() -> None:
    cluster = parse(json.dumps(GOOD).encode())
    assert cluster.cluster_id == UUID(GOOD["cluster_id"])
    assert cluster.node(4).seat == 4
    assert [entry.id for entry in cluster.peers_of(2)] == [1, 3, 4, 5]
    assert cluster.shard_ids() == tuple(range(16))
    named = r"node 9 is not in .*1, 2, 3, 4, 5.*name one of them"
    with pytest.raises(ClusterFileError, match=named):
        cluster.node(9)


def changed(*path: object, to: object) -> dict:
    data = copy.deepcopy(GOOD)
    place: object = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return data


def without(*path: object) -> dict:
    data = copy.deepcopy(GOOD)
    place: object = data
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return data


MISTAKES = [
    (changed("version", to=2), r"\$\.version: this program reads version 1, not 2"),
    (changed("version", to="1"), r"\$\.version: Expected `int`"),
    (changed("cluster_id", to="nonsense"), r"\$\.cluster_id: Invalid UUID"),
    (changed("name", to="a b"), r"\$\.name: 1 to 63 letters"),
    (changed("name", to=""), r"\$\.name: 1 to 63 letters"),
    (changed("shards", to=0), r"\$\.shards: Expected `int` >= 1"),
    (changed("shards", to=257), r"\$\.shards: Expected `int` <= 256"),
    (changed("shards", to=16.5), r"\$\.shards: Expected `int`, got `float`"),
    (changed("shards", to=True), r"\$\.shards: Expected `int`, got `bool`"),
    (changed("limit", to=0), r"\$\.limit: Expected `int` >= 1"),
    (changed("limit", to=101), r"\$\.limit: Expected `int` <= 100"),
    (changed("grace_s", to=0), r"\$\.grace_s: Expected `int` >= 1"),
    (changed("threshold", to=2), r"\$\.threshold: must be 3 for 5 seats"),
    (changed("nodes", to=[]), r"\$\.nodes: 0 nodes"),
    (without("nodes", 4), r"\$\.nodes: 4 nodes"),
    (changed("nodes", 1, "id", to=1), r"\$\.nodes\[1\]\.id: 1 stands there twice"),
    (changed("nodes", 1, "id", to=0), r"\$\.nodes\[.*\]\.id: Expected `int` >= 1"),
    (changed("nodes", 1, "seat", to=1), r"seat: every seat from 1 to 5"),
    (changed("nodes", 1, "seat", to=6), r"seat: Expected `int` <= 5"),
    (changed("nodes", 1, "dc", to="\x1b[2J"), r"nodes\[1\].dc: must be printable"),
    (changed("nodes", 1, "dc", to=""), r"dc: Expected `str` of length >= 1"),
    (changed("nodes", 1, "peer", to="nohost"), r"\$\.nodes\[1\]\.peer: must be host:port"),
    (changed("nodes", 1, "peer", to="h:0"), r"\$\.nodes\[1\]\.peer: the port must be"),
    (changed("nodes", 1, "peer", to="h:٣٤"), r"\$\.nodes\[1\]\.peer: the port must be"),
    (changed("nodes", 1, "ops", to="a b:1"), r"\$\.nodes\[1\]\.ops: the host must be"),
    (changed("nodes", 1, "ops", to="[zz]:1"), r"\$\.nodes\[1\]\.ops: what stands in brackets"),
    (changed("nodes", 1, "ops", to="127.0.0.1:7143"), r"nodes\[1\]\.ops: .* is already .*\[0\]\.p"),
    (changed("nodes", 1, "extra", to=1), r"\$\.nodes\[.*\]: Object contains unknown field `extra`"),
    (changed("unknown", to=1), r"top level|\$: Object contains unknown field `unknown`"),
    (changed("check_values", to={}), r"\$\.check_values: empty"),
    (changed("check_values", to={"x": "00"}), r"\$\.check_values\['x'\]: must be 16"),
    (changed("check_values", to={"X!": "00" * 8}), r"\$\.check_values: 'X!' is not"),
    (changed("opaque_public_key", to="AA"), r"\$\.opaque_public_key: must be 32 bytes"),
    (changed("opaque_public_key", to="A" * 42 + "B"), r"\$\.opaque_public_key: must be canonical"),
    *[(without(key), rf"missing required field `{key}`") for key in GOOD],
    *[(without("nodes", 0, key), rf"missing required field `{key}`") for key in GOOD["nodes"][0]],
]


@pytest.mark.parametrize(("data", "message"), MISTAKES)
def test_every_mistake_is_one_line_with_field_and_next_step(
    tmp_path: Path, data: dict, message: str
) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ClusterFileError, match=message) as refused:
        load(path)
    text = str(refused.value)
    assert "\n" not in text
    assert str(path) in text
    assert "quorumvault cluster create" in text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"version": 1, "version": 1}', "key 'version' stands there twice"),
        (b" " * (1 << 20) + b"{}", "over 1048576 bytes"),
    ],
)
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "cluster.json"
    path.write_bytes(data)
    with pytest.raises(ClusterFileError, match=message):
        load(path)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileError, match="does not exist: run 'quorumvault cluster create'"):
        load(tmp_path / "cluster.json")


def test_an_unreadable_file_and_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileError, match="cannot be read"):
        load(tmp_path)
    cluster = parse(json.dumps(GOOD).encode())
    with pytest.raises(ClusterFileError, match="cannot be written"):
        save(tmp_path / "absent" / "cluster.json", cluster)


def test_what_would_not_load_is_not_saved(tmp_path: Path) -> None:
    cluster = parse(json.dumps(GOOD).encode())
    path = tmp_path / "cluster.json"
    with pytest.raises(ClusterFileError, match="threshold"):
        save(path, msgspec.structs.replace(cluster, threshold=1))
    assert not path.exists()


def test_three_seats_with_threshold_two_are_a_test_cluster() -> None:
    data = changed("nodes", to=GOOD["nodes"][:3])
    data["threshold"] = 2
    assert isinstance(parse(json.dumps(data).encode()), ClusterFile)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("node-1.example:65535", ("node-1.example", 65535)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_addresses_split_into_host_and_port(text: str, pair: tuple[str, int]) -> None:
    assert split_address(text) == pair
