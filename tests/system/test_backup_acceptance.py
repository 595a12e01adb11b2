"""A person loses the phone and gets everything back; nobody else ever could (issue 6, shown by)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from test_nothing_leaks import contents, disguises

from chaos.phone_data import a_day_later, files_below, fingerprint, make_phone
from quorumvault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Vault5

pytestmark = pytest.mark.system

MIB = 1 << 20
BACKUP = [sys.executable, "-m", "quorumvault.cli", "backup"]
PASSWORD = "canary Zugspitze quietly borrows umbrella"
NAME = "canary-file-zerlina"


class Phone:
    """A home of its own: what is lost with it is all that it ever remembered."""

    def __init__(self, home: Path, storage: str, vault: Vault5 | None, account: str = "") -> None:
        self.home = home
        self.home.mkdir()
        self.data = home / "data"
        self.said = b""
        self._password = home / "password"
        self._options = ["--storage", storage]
        if vault is not None:
            self._options += ["--connection", str(vault.connection_file), "--account", account]

    def run(self, command: str, *arguments: str, code: int = 0, reach: bool = False) -> dict:
        """One command; `reach` tells it where storage and vault are, as only a new device must."""
        options = self._options if reach else []
        done = subprocess.run(
            [*BACKUP, command, *arguments, *options, "-o", "json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
            env=os.environ | {"HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state")},
        )
        self.said += done.stdout + done.stderr
        assert done.returncode == code, done.stderr.decode()
        return json.loads(done.stdout or b"{}")

    def password_file(self, password: str) -> list[str]:
        self._password.write_text(password)
        return ["--password-file", str(self._password)]

    def lose(self) -> None:
        shutil.rmtree(self.home)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def test_a_lost_phone_comes_back_through_another_node_with_a_data_center_down(
    stormy_vault: Vault5, tmp_path: Path, storage: Path
):
    account = "backup-acceptance-anna"
    old = Phone(tmp_path / "old", str(storage), stormy_vault, account)
    make_phone(old.data, 24 * MIB, seed=1, canary=NAME)
    old.run("enable", "--password", *old.password_file(PASSWORD), reach=True)
    old.run("create", str(old.data))
    a_day_later(old.data, seed=2)
    made = old.run("create")  # the same paths as before
    assert made["uploaded_bytes"] < 12 * MIB
    kept = fingerprint(old.data)
    [key] = [path.read_bytes() for path in old.home.rglob("key.current")]
    assert len(key) == 32
    old.lose()

    stormy_vault.kill(1)  # the node that the connection file names first, and its data center
    new = Phone(tmp_path / "new", str(storage), stormy_vault, account)
    target = tmp_path / "restored"
    wrong = new.run(
        "restore", str(target), *new.password_file("wrong Zugspitze umbrella"), code=6, reach=True
    )
    assert wrong["guesses_remaining"] == 9
    assert not target.exists()
    new.run("restore", str(target), *new.password_file(PASSWORD), reach=True)
    assert fingerprint(target / "data") == kept

    canaries = {
        name: disguises(secret)
        for name, secret in {
            "password": PASSWORD.encode(),
            "file name and contents": NAME.encode(),
            "backup key": key,
        }.items()
    }
    places = {"what was said": new.said + old.said}
    places |= contents(storage) | contents(stormy_vault.root)
    places |= {str(path).lower(): str(path).encode() for path in files_below(storage)}
    leaks = {
        (where, name)
        for where, hay in places.items()
        for name, forms in canaries.items()
        if any(form in hay for form in forms)
    }
    assert not leaks


def test_with_64_digits_the_vault_is_never_asked(
    shared_vault: Vault5, tmp_path: Path, storage: Path
):
    account = "backup-acceptance-dora"
    logs = [node.log for node in shared_vault.cluster.nodes.values()]
    digits = tmp_path / "digits"
    before = [log.stat().st_size for log in logs]

    old = Phone(tmp_path / "old", str(storage), shared_vault, account)
    make_phone(old.data, 2 * MIB, seed=3)
    old.run("enable", "--key", "--digits-file", str(digits), reach=True)
    old.run("create", str(old.data))
    kept = fingerprint(old.data)
    old.lose()
    new = Phone(tmp_path / "new", str(storage), shared_vault, account)
    right = digits.read_text().strip()
    digits.write_text(right[:-1] + ("0" if right[-1] != "0" else "1"))
    target = tmp_path / "restored"
    mistyped = new.run(
        "restore", str(target), "--key", "--digits-file", str(digits), code=2, reach=True
    )
    assert mistyped["positions"] == [64]
    assert not target.exists()
    digits.write_text(right)
    new.run("restore", str(target), "--key", "--digits-file", str(digits), reach=True)
    assert fingerprint(target / "data") == kept
    new.run("disable", "--delete-copies", "--yes")
    assert not list(files_below(storage))

    assert not requests_since(logs, before)
    with Vault.from_connection(shared_vault.connection_file, account, state_file=None) as vault:
        vault.status()
    assert requests_since(logs, before), "the access log would have told"


def requests_since(logs: list[Path], lengths: list[int]) -> list[dict]:
    found = []
    for log, length in zip(logs, lengths, strict=True):
        with log.open("rb") as file:
            file.seek(length)
            found += [line for line in map(json.loads, file) if line.get("event") == "request"]
    return found


def test_a_wrong_password_changes_nothing_and_a_changed_one_stops_the_old(
    shared_vault: Vault5, tmp_path: Path, storage: Path
):
    account = "backup-acceptance-emil"
    phone = Phone(tmp_path / "phone", str(storage), shared_vault, account)
    make_phone(phone.data, MIB, seed=4)
    phone.run("enable", "--password", *phone.password_file(PASSWORD), reach=True)
    phone.run("create", str(phone.data))
    stored = fingerprint(storage)
    changed = "another Watzmann softly counts lanterns"
    phone.run("change-password", *phone.password_file(changed))
    assert fingerprint(storage) == stored, "the backup key stays, so nothing is uploaded again"

    new = Phone(tmp_path / "new", str(storage), shared_vault, account)
    target = tmp_path / "restored"
    new.run("restore", str(target), *new.password_file(PASSWORD), code=6, reach=True)
    new.run("restore", str(target), *new.password_file(changed), reach=True)
    assert fingerprint(target / "data") == fingerprint(phone.data)
