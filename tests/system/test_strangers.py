"""Strangers open connections and say nothing; the vault goes on, for clients and among its nodes.

Node 1 takes few clients, so that a crowd is one. Then it gets no more files at all.
"""

from __future__ import annotations

import re
import resource
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests
from accounts import Account
from harness import vault5, wait_until
from plain_client import RefusedError
from test_operator import Desk

from chaos import witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Vault5

pytestmark = pytest.mark.system

NODE = 1
CLIENTS = 64
CROWD = 400
"""More than any listener of the node takes."""
LIMIT = 10
PASSWORD, KEY = b"right", b"the key"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    with vault5(tmp_path_factory.mktemp("strangers"), shards=4, limit=LIMIT) as running:
        config = running.cluster.nodes[NODE].config
        fewer = f"[limits]\nclient_connections = {CLIENTS}\n"
        config.write_text(config.read_text().replace("[limits]\n", fewer))
        answer = Desk(running).post(NODE, "reload")
        assert answer == (200, {"changed": ["limits.client_connections"], "needs_restart": []})
        yield running


@pytest.fixture
def account(vault: Vault5) -> Iterator[Account]:
    made = Account(vault, "here-first")
    made.register(2, PASSWORD, KEY)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def it_does_not_end_and_no_budget_grows(vault: Vault5) -> Iterator[None]:
    process = vault.cluster.nodes[NODE].process
    yield
    assert vault.cluster.nodes[NODE].running
    assert vault.cluster.nodes[NODE].process is process
    assert witness.read(vault.witnesses).violations(LIMIT) == []


@contextmanager
def crowd(vault: Vault5, listener: str, count: int = CROWD) -> Iterator[list[socket.socket]]:
    """So many who connect to node 1 and say nothing."""
    host, _, port = getattr(vault.cluster.nodes[NODE].entry, listener).rpartition(":")
    with ExitStack() as leaving:
        yield [
            leaving.enter_context(socket.create_connection((host, int(port)), timeout=20))
            for _ in range(count)
        ]


def ops(vault: Vault5, path: str) -> requests.Response:
    return requests.get(f"{vault.ops_url(NODE)}{path}", timeout=10)


def until_ready(vault: Vault5) -> None:
    """A busy machine may cost a leader for a moment; that is not what is tested here."""
    wait_until(lambda: ops(vault, "/readyz").status_code == 200, "node 1 is ready")


def metric(vault: Vault5, name: str) -> int:
    found = re.search(
        rf"^quorumvault_{re.escape(name)} (\S+)$", ops(vault, "/metrics").text, re.MULTILINE
    )
    assert found, name
    return int(float(found[1]))


def links(vault: Vault5, node: int) -> dict[int, bool]:
    return {peer["node"]: peer["connected"] for peer in Desk(vault).status(node)["peers"]}


def told_of_connections(vault: Vault5) -> list[dict[str, Any]]:
    events = Desk(vault).ask("GET", NODE, "events?limit=1000")[1]["events"]
    return [each for each in events if each["kind"] == "connections"]


def tried(account: Account) -> bytes | int:
    """What comes of a login at node 1: the key, or the status of its refusal."""
    try:
        return account.recover(NODE, PASSWORD)
    except RefusedError as refused:
        return refused.answer.status


def test_a_crowd_of_clients_keeps_nobody_out(vault: Vault5, account: Account) -> None:
    with crowd(vault, "client"):
        assert account.recover(NODE, PASSWORD) == KEY
        assert account.recover(NODE, PASSWORD) == KEY
        assert metric(vault, 'connections{listener="client"}') <= CLIENTS
        assert metric(vault, 'connections_cut_total{listener="client",reason="room"}') > 300
        until_ready(vault)
        assert set(links(vault, NODE).values()) == {True}
        (told,) = wait_until(lambda: told_of_connections(vault), "the watch has looked")
        assert told["text"].startswith(f"the client listener is full ({CLIENTS} connections)")
    assert "127.0.0.1" not in "".join(
        line
        for line in vault.cluster.nodes[NODE].log.read_text().splitlines()
        if "listener" in line
    )


def test_a_crowd_at_the_ops_listener_leaves_probes_their_turn(vault: Vault5) -> None:
    with crowd(vault, "ops"):
        assert ops(vault, "/livez").status_code == 200
        until_ready(vault)


def test_a_crowd_at_the_peer_listener_does_not_keep_a_peer_from_coming_back(vault: Vault5) -> None:
    with crowd(vault, "peer"):
        vault.kill(2)
        wait_until(lambda: not links(vault, NODE)[2], "node 1 misses node 2")
        vault.restart(2)
        wait_until(lambda: links(vault, NODE)[2] and links(vault, 2)[NODE], "both links are up")


def test_a_node_that_gets_no_more_files_is_honest_and_whole_when_it_gets_them_again(
    vault: Vault5, account: Account
) -> None:
    process = psutil.Process(vault.cluster.nodes[NODE].process.pid)
    soft, hard = process.rlimit(resource.RLIMIT_NOFILE)
    wait_until(lambda: process.num_fds() < CLIENTS, "the crowds before have gone")
    process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 3, hard))
    try:
        with crowd(vault, "client"):
            assert tried(account) in (KEY, 503)  # SoftHSM opens files, and says that it cannot
            for node in (2, 3):
                assert account.recover(node, PASSWORD) == KEY
            assert set(links(vault, 2).values()) == {True}
    finally:
        process.rlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until_ready(vault)
    guess = account.guess(NODE, b"wrong")
    assert guess.answer is not None
    assert account.recover(NODE, PASSWORD) == KEY
    hashes = wait_until(
        lambda: {Desk(vault).status(node)["hash_agreement"] for node in vault.ids},
        "the hashes are told",
    )
    assert hashes == {"agrees"}
