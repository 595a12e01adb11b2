"""A node takes a renewed pair, a log level and limits while it serves; a bad file changes nothing.

One real node of five is reloaded, by its operator and by SIGHUP. What it shows is looked at from
outside: the serial in a handshake with each listener, and the one that it shows when it calls.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from harness import Vault5, wait_until
from reissue import reissue
from test_operator import Desk

from cluster.certificates import Authority, issue, node_uri, operator_uri
from cluster.cluster_file import split_address

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

HOSTS = ["127.0.0.1", "::1", "localhost"]
DAY = dt.timedelta(days=1)
NODE = 1


class Reloaded(Desk):
    """Node 1's files, its reloads, and what it shows."""

    def __init__(self, vault: Vault5) -> None:
        super().__init__(vault)
        folder = vault.root / "cluster"
        self.node = vault.cluster.nodes[NODE]
        self.cert = folder / "nodes" / str(NODE) / "cert.pem"
        self.key = folder / "nodes" / str(NODE) / "key.pem"
        self.authority = Authority(
            (folder / "ca.pem").read_bytes(), (folder / "offline" / "ca.key").read_bytes()
        )
        self.cluster_id = json.loads((folder / "cluster.json").read_text())["cluster_id"]
        self.uri = node_uri(self.cluster_id, NODE)
        self.context = ssl.create_default_context(cafile=vault.ca_file)
        operator = folder / "operator"
        self.context.load_cert_chain(operator / "cert.pem", operator / "key.pem")

    def put(self, issued) -> int:
        """A new pair in the place of the old; its serial."""
        self.cert.write_bytes(issued.cert_pem)
        self.key.write_bytes(issued.key_pem)
        return x509.load_pem_x509_certificate(issued.cert_pem).serial_number

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever becomes of its files, they are as they were afterwards."""
        files = {path: path.read_bytes() for path in (self.cert, self.key, self.node.config)}
        try:
            yield
        finally:
            for path, data in files.items():
                if path.is_dir():
                    path.rmdir()
                path.write_bytes(data)

    def renewed(self) -> int:
        return self.put(
            issue(self.authority, uri=self.uri, hosts=HOSTS, days=60, server=True, client=True)
        )

    def reload(self) -> tuple[int, dict[str, Any]]:
        return self.post(NODE, "reload")

    def hang_up(self) -> None:
        self.vault.on_loop(self.vault.cluster.signal, NODE, signal.SIGHUP)

    def shown(self) -> dict[str, int]:
        """The serial that each listener shows in a new handshake, by name."""
        found = {}
        for name in ("client", "peer", "admin"):
            host, port = split_address(getattr(self.node.entry, name))
            with (
                socket.create_connection((host, port), timeout=5) as plain,
                self.context.wrap_socket(plain, server_hostname=host) as channel,
            ):
                der = channel.getpeercert(binary_form=True)
                found[name] = x509.load_der_x509_certificate(der).serial_number
        return found

    def told(self) -> tuple[str, list[str]]:
        status = self.status(NODE)
        alarms = [each for each in status["alarms"] if each.startswith("configuration: ")]
        return status["failed_reload"], alarms

    def metric(self, node: int, name: str) -> float:
        text = requests.get(f"{self.vault.ops_url(node)}/metrics", timeout=5).text
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.rpartition(" ")[2])

    def links(self) -> list[float]:
        """How often the links of node 1 came up, at both ends."""
        ours = [
            self.metric(NODE, f'quorumvault_peer_connects_total{{peer="{other}"}}')
            for other in self.vault.ids
            if other != NODE
        ]
        theirs = [
            self.metric(other, f'quorumvault_peer_connects_total{{peer="{NODE}"}}')
            for other in self.vault.ids
            if other != NODE
        ]
        return ours + theirs


@pytest.fixture(scope="module")
def desk(shared_vault: Vault5) -> Iterator[Reloaded]:
    made = Reloaded(shared_vault)
    with made.kept():
        yield made
    assert made.reload()[0] == 200
    made.session.close()


class Caller:
    """A client that keeps one connection to node 1 and asks over it without a pause."""

    def __init__(self, desk: Reloaded) -> None:
        host, port = split_address(desk.node.entry.client)
        context = ssl.create_default_context(cafile=desk.vault.ca_file)
        self._connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
        self._connection.connect()
        self._connection.auto_open = 0  # what ends is not opened again
        self._headers = {"Authorization": f"Bearer {desk.vault.token('reload')}"}
        self._ended = threading.Event()
        self.answers: list[int] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._connection.request("GET", "/v1/record", headers=self._headers)
                with self._connection.getresponse() as answer:
                    answer.read()
                    self.answers.append(answer.status)
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def more(self, count: int) -> None:
        """So many answers from now on."""
        wanted = len(self.answers) + count
        wait_until(lambda: self.error or len(self.answers) >= wanted, "answers")

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()


def test_a_renewed_pair_is_shown_everywhere_and_no_connection_is_lost(desk: Reloaded):
    before = desk.shown()
    wait_until(lambda: not any(p["last_error"] for p in desk.status(NODE)["peers"]), "links up")
    links = desk.links()
    caller = Caller(desk)
    try:
        caller.more(5)
        renewed = desk.renewed()
        assert desk.shown() == before, "nothing changes before it is told to"
        code, answer = desk.reload()
        assert (code, answer) == (200, {"changed": ["tls.cert", "tls.key"], "needs_restart": []})
        assert desk.shown() == dict.fromkeys(before, renewed)
        caller.more(20)
        again = desk.renewed()
        desk.hang_up()
        wait_until(lambda: desk.shown() == dict.fromkeys(before, again), "SIGHUP is obeyed")
        caller.more(20)
    finally:
        caller.end()
    assert caller.error is None
    assert set(caller.answers) == {200}
    assert desk.links() == links, "the links to and from the peers live on"
    own = desk.status(NODE)["certificates"][0]
    ends = x509.load_pem_x509_certificate(desk.cert.read_bytes()).not_valid_after_utc
    assert dt.datetime.fromisoformat(own["not_after"]) == ends
    family = 'quorumvault_tls_not_after_timestamp_seconds{certificate="node"}'
    assert desk.metric(NODE, family) == ends.timestamp()
    log = desk.node.log.read_text()
    done = [json.loads(line) for line in log.splitlines() if '"event":"reload"' in line]
    assert [each["by"] for each in done[-2:]] == ["operator operator", "SIGHUP"]


@contextlib.contextmanager
def in_place_of(desk: Reloaded, node: int) -> Iterator[list[int]]:
    """A listener where a peer was, with its pair; the serials that node 1 shows it."""
    vault = desk.vault
    folder = vault.root / "cluster" / "nodes" / str(node)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=vault.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    found: list[int] = []
    ended = threading.Event()

    def accept(listener: socket.socket) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                plain.settimeout(5)
                with plain, context.wrap_socket(plain, server_side=True) as channel:
                    der = channel.getpeercert(binary_form=True)
                    shown = x509.load_der_x509_certificate(der)
                    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName)
                    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
                    if uris == [desk.uri]:
                        found.append(shown.serial_number)

    vault.kill(node)
    with socket.create_server(split_address(vault.cluster.nodes[node].entry.peer)) as listener:
        listener.settimeout(0.2)
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


def test_the_renewed_pair_is_shown_to_peers_that_are_called(desk: Reloaded, stormy_vault: Vault5):
    other = stormy_vault.ids[-1]
    with in_place_of(desk, other) as shown:
        wait_until(lambda: shown, "node 1 calls")
        renewed = desk.renewed()
        assert desk.reload()[0] == 200
        wait_until(lambda: renewed in shown, "it calls with the renewed pair")
    stormy_vault.restart(other)
    wait_until(lambda: all(p["connected"] for p in desk.status(NODE)["peers"]), "and is heard")


def unknown_key(desk: Reloaded) -> None:
    config = desk.node.config
    config.write_text(config.read_text().replace("account_per_minute", "account_per_second"))


def expired(desk: Reloaded) -> None:
    desk.put(reissue(desk.authority, desk.uri, HOSTS, begins_in=-2 * DAY, ends_in=-DAY))


def wrong_key(desk: Reloaded) -> None:
    desk.key.write_bytes(reissue(desk.authority, desk.uri, HOSTS).key_pem)


def of_a_peer(desk: Reloaded) -> None:
    desk.put(reissue(desk.authority, node_uri(desk.cluster_id, 2), HOSTS))


def of_an_operator(desk: Reloaded) -> None:
    desk.put(reissue(desk.authority, operator_uri(desk.cluster_id, "operator"), HOSTS))


def unreadable(desk: Reloaded) -> None:
    desk.key.unlink()
    desk.key.mkdir()


BAD = [
    (lambda desk: desk.cert.write_text("nonsense"), "is not a certificate in PEM"),
    (of_a_peer, "is of node 2, and this is node 1"),
    (of_an_operator, "is of an operator"),
    (expired, "expired"),
    (wrong_key, "is not the key of tls.cert_file"),
    (unknown_key, "unknown field `account_per_second`"),
    (unreadable, "cannot be read (Is a directory)"),
    (lambda desk: desk.node.config.unlink(), "cannot be read (No such file"),
]


@pytest.mark.parametrize("by_signal", [False, True], ids=["operator", "SIGHUP"])
def test_whatever_is_bad_the_old_one_stays_and_an_alarm_is_up_until_it_is_mended(
    desk: Reloaded, by_signal: bool
):
    before = desk.shown()
    for damage, words in BAD:
        with desk.kept():
            damage(desk)
            if by_signal:
                desk.hang_up()
                wait_until(lambda words=words: words in desk.told()[0], words)
            else:
                code, problem = desk.reload()
                assert (code, problem["code"]) == (422, "bad-configuration")
                assert words in problem["detail"]
        failed, alarms = desk.told()
        assert words in failed
        assert alarms == [f"configuration: {failed}"]
        events = desk.ask("GET", NODE, "events?limit=1000")[1]["events"]
        last = [each for each in events if each["kind"].startswith("reload")][-1]
        assert (last["kind"], last["level"]) == ("reload-refused", "error")
        assert desk.metric(NODE, "quorumvault_configuration_refused") == 1
        assert desk.shown() == before
    if by_signal:
        desk.hang_up()
        wait_until(lambda: desk.told() == ("", []), "the next good one clears it")
    else:
        assert desk.reload() == (200, {"changed": [], "needs_restart": []})
        assert desk.told() == ("", [])
    assert desk.metric(NODE, "quorumvault_configuration_refused") == 0
    # An election of one shard, on a busy machine, is no doing of a reload's: it passes by itself.
    url = f"{desk.vault.ops_url(NODE)}/readyz"
    wait_until(lambda: requests.get(url, timeout=5).status_code == 200, "ready")


def test_log_level_and_limits_change_and_the_rest_is_told(desk: Reloaded):
    config = desk.node.config
    text = config.read_text()
    changed = text.replace("account_per_minute = 0", "account_per_minute = 0\nbody_bytes = 4096")
    assert changed != text
    config.write_text(f'drain_s = 3\n{changed}\n[log]\nlevel = "error"\n')
    code, answer = desk.reload()
    assert code == 200
    assert answer == {"changed": ["limits.body_bytes", "log.level"], "needs_restart": ["drain_s"]}
    status = desk.status(NODE)
    assert (status["log_level"], status["limits"]["body_bytes"]) == ("error", 4096)
    size = desk.node.log.stat().st_size
    answer = requests.post(
        f"{desk.vault.url(NODE)}/v1/attempts",
        data=b"x" * 5000,
        headers={"Authorization": f"Bearer {desk.vault.token('reload')}"},
        verify=desk.vault.ca_file,
        timeout=10,
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert desk.node.log.stat().st_size == size, "at level error a request leaves no line"
    settings = {row["key"]: row for row in desk.ask("GET", NODE, "config")[1]["settings"]}
    assert settings["drain_s"]["value"] == 10.0, "what waits for a restart is not shown as in use"
    assert settings["limits.body_bytes"] == {
        "key": "limits.body_bytes",
        "value": 4096,
        "source": "file",
    }
    config.write_text(text)
    assert desk.reload()[1]["changed"] == ["limits.body_bytes", "log.level"]
    assert desk.status(NODE)["log_level"] == "info"


def test_the_node_shows_the_configuration_that_the_command_shows(desk: Reloaded):
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "quorumvault.cli", "config", "show", "--effective"),
            *("--config", str(desk.node.config), "-o", "json"),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    rows = desk.ask("GET", NODE, "config")[1]["settings"]
    by_node = {row["key"]: {"value": row["value"], "from": row["source"]} for row in rows}
    assert by_node == json.loads(shown.stdout)
    assert (desk.node.folder / "pin").read_text().strip() not in json.dumps(rows)
