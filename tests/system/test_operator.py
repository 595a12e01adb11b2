"""The admin listener's calls at five real nodes: who leads, who steps aside, and who may say so."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from harness import Vault5, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

POSTS = ["drain", "undrain", "leader/transfer", "leader/balance", "reload"]


class Desk:
    """Somebody with a certificate; an operator unless another one is given."""

    def __init__(self, vault: Vault5, holder: str = "operator") -> None:
        folder = vault.root / "cluster"
        self.vault = vault
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = vault.ca_file
        held = folder / holder
        self.session.cert = (str(held / "cert.pem"), str(held / "key.pem"))

    def ask(self, method: str, node: int, call: str, **options: Any) -> tuple[int, dict[str, Any]]:
        url = f"https://{self.vault.cluster.nodes[node].entry.admin}/v1/{call}"
        answer = self.session.request(method, url, timeout=15, **options)
        return answer.status_code, answer.json()

    def post(self, node: int, call: str, **options: Any) -> tuple[int, dict[str, Any]]:
        return self.ask("POST", node, call, **options)

    def status(self, node: int) -> dict[str, Any]:
        return self.ask("GET", node, "status")[1]

    def leaders(self) -> dict[int, int]:
        """Shard -> the node that leads it by its own word."""
        return {
            group["shard"]: node
            for node in self.vault.ids
            for group in self.status(node)["groups"]
            if group["role"] == "leader"
        }

    def refuses(self, to: int) -> str:
        """What the leader of some shard says to the wish that this node lead it."""
        shard, leader = next(iter(self.leaders().items()))
        answer = self.post(leader, "leader/transfer", json={"shard": shard, "to": to})
        return str(answer[1].get("code"))


@pytest.fixture(scope="module")
def desk(shared_vault: Vault5) -> Iterator[Desk]:
    made = Desk(shared_vault)
    yield made
    for node in shared_vault.ids:  # whatever a test did
        assert made.post(node, "undrain") == (200, {"draining": False})
    shared_vault.until_ready()
    made.session.close()


def client_sees(vault: Vault5, node: int) -> tuple[int, str]:
    answer = requests.get(
        f"{vault.url(node)}/v1/record",
        headers={"Authorization": f"Bearer {vault.token('somebody')}"},
        verify=vault.ca_file,
        timeout=10,
    )
    return answer.status_code, answer.json().get("code", "ok")


def readiness(vault: Vault5, node: int) -> tuple[int, str]:
    answer = requests.get(f"{vault.ops_url(node)}/readyz?verbose", timeout=10)
    return answer.status_code, answer.text


def test_the_status_tells_what_an_operator_watches(desk: Desk):
    wait_until(lambda: desk.status(1)["fsync_p99_ms"] is not None, "a batch")
    for node in desk.vault.ids:
        status = desk.status(node)
        own, authority = status["certificates"]
        assert (own["name"], authority["name"]) == ("node", "authority")
        assert own["days_left"] > 0
        assert authority["not_after"].endswith("Z")
        assert 0 < status["fsync_p99_ms"] < 60_000
        assert 0 <= status["loop_lag_ms"] < 60_000
        assert (status["log_level"], status["room"]) == ("info", "enough")
        assert status["limits"]["body_bytes"] == 8192
        assert len({peer["dc"] for peer in status["peers"]} - {""}) == 4
        wait_until(lambda n=node: not any(p["last_error"] for p in desk.status(n)["peers"]), "up")
        for group in status["groups"]:
            assert set(group["lags"]) <= {str(other) for other in desk.vault.ids}
            assert bool(group["lags"]) == (group["role"] == "leader")


def test_a_shard_is_handed_to_the_node_that_was_named(desk: Desk):
    """Leadership may move by itself at any moment: then the leader is looked for again."""

    def handed_over() -> bool:
        shard, leader = next(iter(desk.leaders().items()))
        wish = {"shard": shard, "to": next(node for node in desk.vault.ids if node != leader)}
        code, answer = desk.post(leader, "leader/transfer", json=wish)
        if code != 200:
            return False
        assert answer == {"shard": shard, "leader": wish["to"]}
        return True

    wait_until(handed_over, "a shard is handed over")


def test_whoever_does_not_lead_says_who_does(desk: Desk):
    def told() -> bool:
        shard, leader = next(iter(desk.leaders().items()))
        heir, third = [node for node in desk.vault.ids if node != leader][:2]
        code, problem = desk.post(third, "leader/transfer", json={"shard": shard, "to": heir})
        return (code, problem.get("code"), problem.get("leader")) == (409, "not-leader", leader)

    wait_until(told, "the leader is named")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"shard": 999, "to": 1}', 400, "malformed"),
        (b'{"shard": -1, "to": 1}', 400, "malformed"),
        (b'{"shard": 0, "to": 6}', 400, "malformed"),
        (b'{"shard": 0, "to": "2"}', 400, "malformed"),
        (b'{"shard": 0, "to": 2, "force": true}', 400, "malformed"),
        (b'{"shard": 0}', 400, "malformed"),
        (b'{"shard": 1e999, "to": 1}', 400, "malformed"),
        (b"[" * 1000, 400, "malformed"),
        (b"\xff\x00", 400, "malformed"),
        (b"", 400, "malformed"),
        (b'{"shard": 0, "to": 1}' + b" " * 1024, 413, "too-large"),
    ],
)
def test_a_wish_that_is_none_is_refused(desk: Desk, body, status, code):
    got, problem = desk.post(1, "leader/transfer", data=body)
    assert (got, problem["code"]) == (status, code)


@pytest.mark.parametrize("call", POSTS)
def test_a_peers_certificate_steers_nobody(shared_vault: Vault5, call: str):
    peer = Desk(shared_vault, "nodes/2")
    code, problem = peer.post(1, call, json={"shard": 0, "to": 1})
    assert (code, problem["code"]) == (403, "forbidden")
    assert readiness(shared_vault, 1)[0] == 200


def test_a_drained_node_stays_and_the_vault_goes_on_without_it(desk: Desk):
    vault = desk.vault
    leader = next(iter(desk.leaders().values()))
    other = next(node for node in vault.ids if node != leader)
    said = subprocess.run(
        [
            *(sys.executable, "-m", "quorumvault.cli", "node", "drain", str(leader)),
            *("--connection", str(vault.connection_file)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "stays up" in said.stderr
    drained = {"draining": True, "leads": 0}
    wait_until(lambda: desk.post(leader, "drain") == (200, drained), "it leads nothing")
    wait_until(lambda: leader not in desk.leaders().values(), "others lead")
    code, text = readiness(vault, leader)
    assert code == 503
    assert "[-] serving: drained by an operator" in text
    assert client_sees(vault, leader) == (503, "draining")
    wait_until(lambda: client_sees(vault, other)[0] in (200, 404), "the others serve")
    wait_until(lambda: desk.refuses(leader) == "unwilling", "the drained one is not asked")
    status = desk.status(leader)
    assert status["draining"]
    assert status["hsm"]["healthy"]
    assert desk.post(leader, "undrain") == (200, {"draining": False})
    wait_until(lambda: readiness(vault, leader)[0] == 200, "it is ready again")
    wait_until(lambda: client_sees(vault, leader)[0] in (200, 404), "it serves")
    for node in vault.ids:
        code, answer = desk.post(node, "leader/balance")
        assert code == 200
        assert set(answer) == {"asked"}


def test_all_five_drained_leave_every_shard_a_leader_that_says_so(desk: Desk):
    vault = desk.vault
    for node in vault.ids:
        assert desk.post(node, "drain")[0] == 200
    shards = len(desk.status(1)["groups"])
    wait_until(lambda: len(desk.leaders()) == shards, "every shard is led")

    def told(node: int) -> bool:
        code, text = readiness(vault, node)
        leads = node in desk.leaders().values()
        return code == 503 and ("until another node will" in text) == leads

    for node in vault.ids:
        wait_until(lambda n=node: told(n), "it says whether it leads still")
        assert client_sees(vault, node) == (503, "draining")
    for node in vault.ids:
        assert desk.post(node, "undrain") == (200, {"draining": False})
    wait_until(lambda: all(readiness(vault, node)[0] == 200 for node in vault.ids), "all ready")
    wait_until(lambda: client_sees(vault, 1)[0] in (200, 404), "it serves")


def test_events_are_paged_by_number_and_name_what_an_operator_did(desk: Desk):
    before = desk.status(2)["events"]
    assert desk.post(2, "drain")[0] == 200
    assert desk.post(2, "undrain")[0] == 200
    code, page = desk.ask("GET", 2, f"events?after={before}&limit=1000")
    assert code == 200
    assert page["newest"] == before + len(page["events"])
    texts = {event["kind"]: event["text"] for event in page["events"]}
    assert texts["drain"].startswith("drained by operator ")
    assert texts["undrain"].startswith("undrained by operator ")
    numbers = [event["seq"] for event in page["events"]]
    assert numbers == list(range(before + 1, page["newest"] + 1))
    first = desk.ask("GET", 2, "events?limit=1")[1]
    assert [event["seq"] for event in first["events"]] == [first["oldest"]]
    for query in ("limit=0", "limit=1001", "after=-1", "since=1"):
        code, problem = desk.ask("GET", 2, f"events?{query}")
        assert (code, problem["code"]) == (400, "malformed")
    peer = Desk(desk.vault, "nodes/3")
    assert peer.ask("GET", 2, "events")[0] == 403
    peer.session.close()
