"""What the console is told by five real nodes: while all is well, when one dies, and after."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
import requests
from harness import Vault5, wait_until

pytestmark = pytest.mark.system

DRAIN_S = 10
"""What a node allows requests under way at its end; a stream is none."""


@pytest.fixture
def vault(stormy_vault: Vault5) -> Vault5:
    stormy_vault.until_ready()
    return stormy_vault


def get(vault: Vault5, node: int, path: str, **options: Any) -> requests.Response:
    return requests.get(vault.ops_url(node) + path, timeout=10, allow_redirects=False, **options)


def state(vault: Vault5, node: int) -> dict[str, Any]:
    return get(vault, node, "/console/state.json").json()


class Reader:
    """A browser's EventSource, as far as it matters here."""

    def __init__(self, vault: Vault5, node: int, **headers: str) -> None:
        self.connection = HTTPConnection(vault.cluster.nodes[node].entry.ops, timeout=30)
        self.connection.request("GET", "/console/events", headers=headers)
        self.socket = self.connection.sock  # the answer takes it over
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        self.seen: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for raw in self.answer:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    event = json.loads(fields["data"])
                    assert (int(fields["id"]), fields["event"]) == (event["seq"], event["kind"])
                    self.seen.append(event)
                    fields = {}
        except (OSError, HTTPException):
            pass  # it was closed, here or there
        finally:
            self.ended.set()

    def until(self, kind: str, begin: int = 0, **facts: Any) -> dict[str, Any]:
        """The first event of this kind from the `begin`th that was read."""
        wanted = (facts | {"kind": kind}).items()
        return wait_until(
            lambda: next((each for each in self.seen[begin:] if wanted <= each.items()), None),
            f"{kind} {facts}",
        )

    def close(self) -> None:
        with suppress(OSError):  # the node has ended the stream
            self.socket.shutdown(socket.SHUT_RDWR)
        assert self.ended.wait(10)
        self.answer.close()
        self.connection.close()


def test_a_death_and_a_return_are_seen_by_whoever_watches(vault: Vault5):
    well = wait_until(
        lambda: (s := state(vault, 1))["verdict"] == "healthy" and s, "all five are well"
    )
    assert (well["failures_tolerated"], well["threshold"], well["asked_by"]) == (2, 3, 1)
    assert well["name"] == vault.cluster.name
    assert [node["node"] for node in well["nodes"]] == [1, 2, 3, 4, 5]
    for node in well["nodes"]:
        assert node["reachable"]
        assert node["view"]["status"]["node"] == node["node"]
        assert set(node["view"]["counts"]) == {"attempts", "lockouts", "requests", "errors"}
    shards = {line["shard"]: line for line in well["shards"]}
    assert sorted(shards) == list(range(len(shards)))

    victim = shards[0]["leader"]
    asked = next(node for node in vault.ids if node != victim)
    reader = Reader(vault, asked)
    reader.until("ready")
    assert reader.seen[0]["seq"] == 1
    before = len(reader.seen)
    vault.kill(victim)
    down = reader.until("peer-down", before, peer=victim)
    assert (down["level"], str(victim) in down["text"]) == ("warning", True)
    reader.until("leader", before, shard=0)
    ill = wait_until(
        lambda: (s := state(vault, asked))["failures_tolerated"] == 1 and s, "one loss is counted"
    )
    assert ill["verdict"] == "degraded"
    assert any(line.startswith(f"node {victim} ") and "answer" in line for line in ill["why"])
    (dead,) = [node for node in ill["nodes"] if node["node"] == victim]
    assert (dead["reachable"], dead["view"]) == (False, None)
    assert "refused" in dead["reason"]
    assert {line["leader"] for line in ill["shards"]} <= set(vault.ids) - {victim}
    reader.close()

    newest = get(vault, asked, "/console/node.json").json()["status"]["events"]
    vault.restart(victim)
    resumed = Reader(vault, asked, **{"Last-Event-ID": str(newest)})
    resumed.until("peer-up", peer=victim)
    numbers = [event["seq"] for event in resumed.seen]
    assert numbers == list(range(newest + 1, newest + 1 + len(numbers)))
    resumed.close()
    again = Reader(vault, victim, **{"Last-Event-ID": "100000"})
    again.until("started")
    assert again.seen[0]["seq"] == 1  # numbers of its earlier life mean nothing
    again.close()
    wait_until(lambda: state(vault, victim)["failures_tolerated"] == 2, "all five are counted")


def test_an_open_stream_does_not_hold_up_a_node_that_is_told_to_stop(vault: Vault5):
    reader = Reader(vault, 4)
    reader.until("started")
    begin = time.monotonic()
    vault.terminate(4)
    took = time.monotonic() - begin
    assert reader.ended.wait(10)
    reader.close()
    assert took < DRAIN_S
