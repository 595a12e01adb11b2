"""I11: a run with canaries leaves them nowhere: disk, token, log, metric, state file, wire."""

from __future__ import annotations

import base64
import os
import resource
import socket
import threading
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest
from harness import Vault5, vault5

from quorumvault import Vault, WrongPassword

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

ACCOUNT = "canary-account-of-zerlina"
PASSWORD = "canary-password-Gänsehaut"
WRONG = "canary-wrong-password-Nachtfalter"
KEY = b"canary-backup-key-32-bytes-long!"
assert len(KEY) == 32


def disguises(secret: bytes) -> set[bytes]:
    """The secret as it may stand somewhere: raw, hex, and base64 at every alignment."""
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        # Only the characters that depend on nothing but the secret.
        text = base64.b64encode(bytes(shift) + secret)
        start, end = -(-shift * 8 // 6), (shift + len(secret)) * 8 // 6
        forms |= {text[start:end], text[start:end].replace(b"+", b"-").replace(b"/", b"_")}
    return forms


CANARIES = {
    name: disguises(secret)
    for name, secret in {
        "account": ACCOUNT.encode(),
        "password": PASSWORD.encode(),
        "wrong password": WRONG.encode(),
        "backup key": KEY,
    }.items()
}


def found_in(haystack: bytes) -> list[str]:
    return [name for name, forms in CANARIES.items() if any(form in haystack for form in forms)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder in use, but for those that a node destroys meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a snapshot that was sent, the stamp before the last
            if path.is_file():
                found[str(path)] = path.read_bytes()
    return found


def test_the_search_itself_finds_a_canary_in_every_disguise():
    for shift in range(3):
        text = base64.urlsafe_b64encode(b"x" * shift + KEY + b"tail")
        assert found_in(text) == ["backup key"]
    assert found_in(b"..." + PASSWORD.encode() + b"...") == ["password"]
    assert found_in(ACCOUNT.encode().hex().encode()) == ["account"]


class Capture:
    """Every packet on the loopback device, when this process may listen there."""

    def __init__(self) -> None:
        self.packets = bytearray()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.packets += self._socket.recv(1 << 17)
            except TimeoutError:
                continue

    def end(self) -> bytes:
        self._ended.set()
        self._thread.join()
        self._socket.close()
        return bytes(self.packets)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    root = tmp_path_factory.mktemp("canary")
    with vault5(root, wan="lan", shards=2, settings='[log]\nlevel = "debug"\n') as running:
        yield running


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback http
        return answer.read()


def test_after_a_run_with_canaries_none_is_found_anywhere(vault: Vault5, tmp_path: Path):
    wire = bytearray()
    assert vault.cluster.wan is not None
    vault.cluster.wan.tap = wire.extend  # what nodes say to each other, also without root
    capture = Capture() if os.geteuid() == 0 else None
    state_file = tmp_path / "state.json"
    try:
        with Vault.from_connection(vault.connection_file, ACCOUNT, state_file=state_file) as phone:
            phone.register(PASSWORD, KEY)
            assert phone.recover(PASSWORD) == KEY
            with pytest.raises(WrongPassword):
                phone.recover(WRONG)
            shown = phone.status()
            assert shown.guesses_remaining == 9
        vault.kill(3)  # a start reads everything back, and says so in its log
        vault.restart(3)
        pages = [
            fetch(f"{vault.ops_url(node)}{path}")
            for node in vault.ids
            for path in ("/metrics", "/readyz?verbose", "/livez")
        ]
    finally:
        packets = capture.end() if capture is not None else b""
        vault.cluster.wan.tap = None
    # Secrets where none belong are not echoed either (the plain listener's wire is our own doing).
    for misplaced in (ACCOUNT, PASSWORD):
        with pytest.raises(urllib.error.HTTPError):
            fetch(f"{vault.ops_url(1)}/{misplaced.encode().hex()}")
    assert wire
    if capture is not None:
        assert len(packets) > len(wire) // 2
    haystacks: dict[str, bytes] = {
        "peer links": bytes(wire),
        "packet capture": packets,
        "metrics and health": b"\n".join(pages),
        "state file": state_file.read_bytes() if state_file.exists() else b"",
    }
    files = contents(vault.root)
    assert len(files) > 100
    haystacks |= files
    logs = [haystacks[str(node.log)] for node in vault.cluster.nodes.values()]
    assert all(b'"event":"started"' in log and log.count(b"\n") > 1 for log in logs)
    assert sum(map(len, logs)) > 1000 * len(logs), "the logs were not empty"
    leaks = {where: leaked for where, hay in haystacks.items() if (leaked := found_in(hay))}
    assert not leaks


def test_no_node_can_leave_a_core(vault: Vault5):
    for node in vault.cluster.nodes.values():
        assert node.process is not None
        limits = psutil.Process(node.process.pid).rlimit(resource.RLIMIT_CORE)
        assert limits == (0, 0)


def test_pins_and_tokens_stay_out_of_logs(vault: Vault5):
    token = vault.token(ACCOUNT)
    assert fetch(f"{vault.ops_url(1)}/livez")
    for node in vault.cluster.nodes.values():
        log = node.log.read_bytes()
        assert (node.folder / "pin").read_bytes() not in log
        assert token.split(".")[2].encode() not in log
        assert b"eyJ" not in log, "no JWT in any form"
