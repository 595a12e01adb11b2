"""The examples of docs/backup-sdk.md, run as they stand against a vault over TLS: one story."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from phones import MESSAGES, PASSWORD

from quorumvault.backup import Backup

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "backup"


class Stage:
    """Where an example runs: its connection, its storage, and what is typed into it."""

    def __init__(self, root: Path, connection: Path, suffix: str) -> None:
        self.root = root
        self.storage = root / "storage"
        self.profile = root / "profile"
        self.data = root / "data"
        self._suffix = suffix
        own = {key: value for key, value in os.environ.items() if "QUORUMVAULT" not in key}
        self._environment = {
            **own,
            "QUORUMVAULT_CONNECTION": str(connection),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
        }
        for name, content in MESSAGES.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def run(self, name: str, *arguments: object, typed: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit code and all that was said; no secret among it."""
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{name}{self._suffix}.py"), *map(str, arguments)],
            input="".join(f"{line}\n" for line in typed),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said
        assert PASSWORD not in said
        return done.returncode, said


@pytest.fixture(params=["", "_async"], ids=["blocking", "async"])
def stage(request, served, tmp_path):
    return Stage(tmp_path, served.connection_file(), request.param)


def test_a_user_turns_backups_on_makes_them_nightly_and_gets_all_back_on_a_new_phone(stage, served):
    account = ("alice", stage.storage, stage.profile)
    wrong_twice = ("password", "password", PASSWORD, "another", PASSWORD, PASSWORD)
    code, said = stage.run("enable", *account, stage.data, typed=wrong_twice)
    assert code == 0, said
    assert "very weak" in said
    assert "two different ones" in said
    assert "has lost the backup" in said
    assert "Backup 1: 2 files" in said
    code, said = stage.run("enable", *account, stage.data, typed=(PASSWORD, PASSWORD))
    assert (code, "on already" in said) == (8, True)

    (stage.data / "new.txt").write_bytes(b"today's")
    asked = len(served.vault.calls)
    code, said = stage.run("nightly", stage.profile, stage.data)
    assert code == 0, said
    assert "Backup 2: 3 files" in said
    assert len(served.vault.calls) == asked

    shutil.rmtree(stage.profile)  # the phone is lost
    served.vault.down = {2}  # with one data center
    target = stage.root / "back"
    code, said = stage.run("new_phone", *account, target, typed=("wrong", PASSWORD))
    assert code == 0, said
    assert "9 guesses remain" in said
    assert "3 files are back" in said
    assert (target / "data" / "new.txt").read_bytes() == b"today's"
    for name, content in MESSAGES.items():
        assert (target / "data" / name).read_bytes() == content
    code, said = stage.run("nightly", stage.profile, target / "data")
    assert "Backup 3: 3 files" in said


def test_with_digits_a_new_phone_asks_the_vault_nothing(stage, served):
    with Backup(str(stage.storage), stage.root / "lost") as backup:
        digits = backup.make_digits()
        backup.enable_with_digits(digits)
        backup.create([stage.data])
    whole = digits.replace("\n", " ")
    account = ("alice", stage.storage, stage.profile, stage.root / "back", "digits")
    code, said = stage.run("new_phone", *account, typed=(whole[:-1], whole))
    assert code == 0, said
    assert "group 16, digit 4 is missing" in said
    assert "2 files are back" in said
    assert served.tokens == []
    assert served.vault.calls == []


def test_what_goes_wrong_is_told_in_one_sentence(stage):
    account = ("alice", stage.storage, stage.profile)
    assert stage.run("nightly", stage.profile, stage.data) == (0, "")  # not turned on
    code, said = stage.run("new_phone", *account, stage.root / "back", typed=("x",))
    assert (code, "keeps no key" in said) == (6, True)
    there = (*account, stage.root / "back", "digits")
    code, said = stage.run("new_phone", *there, typed=("0" * 64,))
    assert (code, said.count("\n")) == (1, 1)
    assert "holds no backup" in said
