"""What an outside client sees of a fresh vault; run by `quorumvault demo --exec`.

Also against `make up`, whose nodes have no pid on this machine: their `restart` ends them as well.

Registers through one node, recovers through each of the others, counts a wrong password at all
five, burns ten guesses, and finds 423 everywhere, also after all five processes were restarted.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import jwt
import sodium_client as opaque
from plain_client import PlainClient

CONNECTION = json.loads(Path(os.environ["QUORUMVAULT_CONNECTION"]).read_text())
URLS = [entry["url"] for entry in CONNECTION["endpoints"]]
RIGHT, WRONG = "pässword of alice".encode(), b"not it"
KEY = os.urandom(32)
RESTART_S = 180
"""Until all five are ready again: 10 s on a machine with nothing else to do."""


def token(account: str) -> str:
    tenant = CONNECTION["tenant"]
    now = int(time.time())
    claims = {
        "iss": tenant["iss"],
        "sub": account,
        "aud": CONNECTION["name"],
        "iat": now,
        "exp": now + 3600,
        "scope": "vault:restore vault:manage",
        "device": "primary",
    }
    key = Path(tenant["private_key_file"]).read_text()
    return jwt.encode(claims, key, algorithm=tenant["alg"])


def restart_all() -> list[subprocess.Popen[bytes]]:
    for node in CONNECTION["nodes"]:
        if node["pid"] is not None:
            os.kill(node["pid"], signal.SIGKILL)
    log = Path(os.environ.get("ACCEPTANCE_LOG", os.devnull)).open("ab")  # noqa: SIM115
    started = [
        subprocess.Popen(node["restart"], stdout=log, stderr=log) for node in CONNECTION["nodes"]
    ]
    for node, process in zip(CONNECTION["nodes"], started, strict=True):
        if node["pid"] is None:  # before it ended, an old process may still answer that it is ready
            assert process.wait(timeout=RESTART_S) == 0, f"{node['restart']} failed"
    waiting = {entry["ops_url"] for entry in CONNECTION["endpoints"]}
    deadline = time.monotonic() + RESTART_S
    while waiting:
        assert time.monotonic() < deadline, f"not ready after the restart: {waiting}"
        for url in list(waiting):
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - loopback http
                    waiting.discard(url)
            except (urllib.error.URLError, OSError, http.client.HTTPException):
                continue
    return started


def refused_everywhere(client: PlainClient, password: bytes) -> None:
    for url in URLS:
        answer = client.attempt(url, opaque.login_start(password).ke1)
        assert answer.status == 423, (url, answer)
        assert answer.code in {"exhausted", "locked"}, answer
        assert answer.body["charged"] == "no", answer
        assert client.record(url)["guesses_remaining"] == 0


def main() -> None:
    with PlainClient(CONNECTION["ca_file"], token("alice")) as client:
        client.register(URLS[0], RIGHT, KEY)
        for url in URLS[1:]:
            assert client.recover(url, RIGHT) == KEY
        assert [client.record(url)["guesses_remaining"] for url in URLS] == [10] * 5
        for guess in range(1, 11):
            login = opaque.login_start(WRONG)
            url = URLS[guess % 5]
            answer = client.attempt(url, login.ke1)
            assert answer.status == 200, answer
            assert answer.body["guesses_remaining"] == 10 - guess
            try:
                client.prove(url, login, WRONG, answer.body)
            except opaque.DoesNotOpenError:
                pass
            else:
                raise AssertionError("a wrong password opened the record")
            assert [client.record(url)["guesses_remaining"] for url in URLS] == [10 - guess] * 5
        refused_everywhere(client, WRONG)
        refused_everywhere(client, RIGHT)
    started = restart_all()
    try:
        with PlainClient(CONNECTION["ca_file"], token("alice")) as client:
            refused_everywhere(client, RIGHT)
        with PlainClient(CONNECTION["ca_file"], token("bob")) as client:
            client.register(URLS[4], RIGHT, KEY)
            assert client.recover(URLS[0], RIGHT) == KEY
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)
    sys.stdout.write("acceptance: all held\n")


main()
