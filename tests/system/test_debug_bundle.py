"""A debug bundle of a real vault tells everything but secrets, also when a node is dead."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import lmdb
import pytest
from accounts import Account
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from harness import Vault5
from plain_client import unb64
from test_nothing_leaks import disguises

import quorumvault

pytestmark = pytest.mark.system

PASSWORD = b"canary-password-of-the-bundle"
WRONG = b"canary-wrong-password-of-the-bundle"
KEY = b"canary-backup-key-32-bytes-long!"
NAME = "canary-account-of-the-bundle"
PIECE = 24
"""Bytes of a value that are looked for: its whole length may be framed otherwise."""


def bundle(vault: Vault5, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "quorumvault.cli", "debug", "bundle"),
            *("--connection", str(vault.connection_file), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(quorumvault.__file__).parents[1])},
    )


def opened(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {}
        for entry in archive:
            assert entry.isfile()
            assert (entry.mode, entry.uid, entry.uname) == (0o600, 0, "")
            files[entry.name.removeprefix("quorumvault-debug/")] = archive.extractfile(entry).read()
        return files


def private(path: Path) -> list[bytes]:
    """A private key in every form that it may be written in."""
    key = load_pem_private_key(path.read_bytes(), None)
    if hasattr(key, "private_numbers"):
        bare = key.private_numbers().private_value.to_bytes(32, "big")
    else:
        bare = key.private_bytes_raw()
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return [bare, der, *path.read_bytes().splitlines()[1:-1]]


def stored(vault: Vault5, node: int) -> dict[str, list[bytes]]:
    """Keys and values of the records and the ledger of a node that is down."""
    path = vault.cluster.nodes[node].data_dir / "store"
    found: dict[str, list[bytes]] = {}
    with lmdb.open(str(path), readonly=True, lock=False, create=False, max_dbs=16) as store:
        for name in (b"records", b"ledger"):
            table = store.open_db(name, create=False)
            with store.begin() as transaction:
                found[name.decode()] = [bytes(value) for _, value in transaction.cursor(table)]
    return found


def secrets_of(vault: Vault5, account: Account, node: int) -> dict[str, list[bytes]]:
    """Everything that must not be in the bundle, by what it is."""
    made = account.register(node, PASSWORD, KEY)
    wrong = account.guess(node, WRONG)
    right = account.guess(node, PASSWORD)
    answer = account.prove(node, right)
    assert account.key_in(right, answer) == KEY
    cluster = vault.root / "cluster"
    return {
        "password": [PASSWORD, WRONG],
        "backup key": [KEY],
        "account": [NAME.encode()],
        "record id": [made.record_id],
        "registration id": [made.registration_id],
        "what was sent": [
            unb64(made.upload[name]) for name in ("request", "record", "proof_box", "wrapped_key")
        ],
        "attempts": [
            each
            for guess in (wrong, right)
            for each in (
                guess.login.ke1,
                unb64(guess.answer["ke2"]),
                unb64(guess.answer["attempt_id"]),
            )
        ],
        "PINs": [(n.folder / "pin").read_bytes().strip() for n in vault.cluster.nodes.values()],
        "tenant's key": private(vault.root / "tenant" / "private.pem"),
        "operator's key": private(cluster / "operator" / "key.pem"),
        "authority's key": private(cluster / "offline" / "ca.key"),
        "a node's key": private(cluster / "nodes" / "1" / "key.pem"),
    }


def pieces(secret: bytes) -> list[bytes]:
    if len(secret) <= 2 * PIECE:
        return [secret]
    return [secret[at : at + PIECE] for at in range(0, len(secret) - PIECE, PIECE)]


def leaks(files: dict[str, bytes], secrets: dict[str, list[bytes]]) -> set[tuple[str, str]]:
    found = set()
    for what, values in secrets.items():
        for value in values:
            assert len(value) >= 4, what
            for piece in pieces(value):
                for form in disguises(piece):
                    found |= {(what, name) for name, data in files.items() if form in data}
    return found


def test_the_bundle_has_what_every_node_tells_and_no_secret(stormy_vault: Vault5, tmp_path: Path):
    vault = stormy_vault
    account = Account(vault, NAME)
    secrets = secrets_of(vault, account, 2)
    account.close()
    dead = vault.ids[-1]
    vault.kill(dead)
    secrets |= {
        f"stored {name}": [value for value in values if len(value) > PIECE]
        for name, values in stored(vault, dead).items()
    }
    assert secrets["stored records"]
    assert secrets["stored ledger"]

    made = bundle(vault, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    path = tmp_path / made.stdout.strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files = opened(path)
    manifest = json.loads(files["manifest.json"])
    parts = {each["file"]: each for each in manifest["parts"]}
    alive = [node for node in vault.ids if node != dead]
    for node in alive:
        status = json.loads(files[f"nodes/{node}/status.json"])
        assert status["node"] == node
        assert len(status["groups"]) == vault.cluster.book.shards
        rows = json.loads(files[f"nodes/{node}/config.json"])["settings"]
        assert {"node_id", "hsm.pin_file", "limits.body_bytes"} <= {row["key"] for row in rows}
        assert json.loads(files[f"nodes/{node}/cluster.json"])["name"] == manifest["cluster"]
        assert b"quorumvault_build_info" in files[f"nodes/{node}/metrics.txt"]
        assert b"[+] hsm: ok" in files[f"nodes/{node}/readyz.txt"]
        assert json.loads(files[f"nodes/{node}/vault.json"])["node"] == node
        assert abs(parts[f"nodes/{node}/status.json"]["clock_ahead_s"]) < 2
    for file, each in parts.items():
        assert bool(each["missing"]) == (each["node"] == dead), (file, each)
        assert bool(each["missing"]) != (file in files)
    overview = json.loads(files["overview.json"])
    assert overview["verdict"] == "degraded"
    assert any(f"node {dead}" in why for why in overview["why"])
    assert "What is not in it" in files["README.txt"].decode()
    assert f"nodes/{dead}/status.json: " in made.stderr
    assert "Not in it: PINs" in made.stderr

    assert leaks(files, secrets) == set()
    # The search finds what is there: planted, each is found.
    for what, values in secrets.items():
        planted = files | {"planted": b"x" + values[0] + b"y"}
        assert (what, "planted") in leaks(planted, {what: values[:1]}), what

    again = bundle(vault, "--output", str(path), folder=tmp_path)
    assert again.returncode == 8
    assert "exists" in again.stderr
    assert opened(path) == files, "nothing is ever overwritten"


def test_where_nothing_can_be_written_nothing_is_asked_and_nothing_is_left(
    shared_vault: Vault5, tmp_path: Path
):
    there = tmp_path / "no" / "folder.tar.gz"
    refused = bundle(shared_vault, "--output", str(there), folder=tmp_path)
    assert refused.returncode == 2
    assert "cannot be written (No such file or directory)" in refused.stderr
    link = tmp_path / "link.tar.gz"
    link.symlink_to(tmp_path / "elsewhere")
    assert bundle(shared_vault, "--output", str(link), folder=tmp_path).returncode == 8
    assert list(tmp_path.iterdir()) == [link]
