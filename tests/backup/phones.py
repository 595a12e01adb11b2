"""Phones for the tests of the key's life: a real client, the honest vault, a folder, and a reaper.

A phone is a profile's folder. Each `backup()` is the app started anew: only what is on disk
connects two of them. Vault calls run the SDK's own flows in virtual time, without sockets. The
reaper kills the app before any durable step, which is after the one before it: a file replaced or
removed, a request to the vault, a state file of the SDK, a whole backup made, the copies under an
old key removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from client import Client, Killed
from honest_vault import HonestVault

from quorumvault import _files
from quorumvault._core import Gather, Save
from quorumvault.backup import client, client_profile
from quorumvault.backup.client import Backup
from quorumvault.backup.key_store import FileKeyStore

PASSWORD = "cobalt ferry underneath nine"
OTHER_PASSWORD = "amber violin seventeen harbours"
MESSAGES = {"messages.db": b"SELECT 'hello'" * 100, "photos/one.jpg": b"\xff\xd8" * 3000}


@dataclass
class Reaper:
    """Kills at the n-th step; without n it only counts, and remembers what the steps were."""

    at: int | None = None
    steps: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        self.steps.append(name)
        if self.at is not None and len(self.steps) > self.at:
            self.at = None
            raise Killed(name)

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.step(name)
            return call(*args, **options)

        return wrapped

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_files, "replace_file", self.wrap("write", _files.replace_file))
        monkeypatch.setattr(_files, "remove_file", self.wrap("remove", _files.remove_file))
        for module, name in (
            (client, "create"),
            (client_profile, "forget_key"),
        ):
            monkeypatch.setattr(module, name, self.wrap(name, getattr(module, name)))


class MortalClient(Client):
    """The SDK's flows, with the reaper at each request and each state file."""

    reaper: Reaper

    def _perform(self, effect, deadline):
        if not isinstance(effect, Gather | Save):
            return super()._perform(effect, deadline)
        name = "state" if isinstance(effect, Save) else effect.sends[0].request.path
        self.reaper.step(name)
        return super()._perform(effect, deadline)


class FlowVault:
    """What `quorumvault.Vault` is to the app, over `client.Client`."""

    def __init__(self, vault: HonestVault, path: Path, reaper: Reaper) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._client = MortalClient(vault, path)
        self._client.reaper = reaper

    def register(self, password, backup_key=None):
        return self._client.register(password, backup_key)

    def resume_registration(self):
        return self._client.resume()

    def abandon_registration(self):
        return self._client.abandon()

    def recover(self, password):
        return self._client.recover(password)

    def status(self):
        return self._client.status()

    def delete(self, *, only=None):
        self._client.delete(only)

    def close(self):
        pass


@dataclass
class World:
    """A vault, a storage, and the phones of one account."""

    root: Path
    vault: HonestVault = field(default_factory=HonestVault)
    reaper: Reaper = field(default_factory=Reaper)

    def __post_init__(self) -> None:
        self._paths = 0
        self.storage = self.root / "storage"
        self.data = self.root / "data"
        for name, content in MESSAGES.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def phone(self, name: str = "phone", **options: Any) -> Backup:
        """The app on this phone, started anew."""
        folder = self.root / name
        options.setdefault("vault", lambda path: FlowVault(self.vault, path, self.reaper))
        return Backup(options.pop("storage", str(self.storage)), folder, **options)

    def fresh(self, what: str) -> Path:
        """A path that nothing has yet."""
        self._paths += 1
        return self.root / f"{what}-{self._paths}"

    def key(self, name: str = "phone") -> bytes | None:
        return FileKeyStore(self.root / name).load("current")

    def next_key(self, name: str = "phone") -> bytes | None:
        return FileKeyStore(self.root / name).load("next")

    def requests(self) -> list[str]:
        """What the vault was asked, but for greetings."""
        return [f"{c.method} {c.path}" for c in self.vault.calls if c.path != "/v1/vault"]

    def key_folders(self) -> list[str]:
        return sorted(path.name for path in self.storage.glob("qv*"))


def whole(backup: Backup) -> bool:
    """Whether this phone can read every byte of the backup, and it is the one that was made."""
    files = {item.path: item.size for item in backup.files() if item.kind == "file"}
    expected = {f"data/{name}": len(content) for name, content in MESSAGES.items()}
    return backup.verify().files == len(MESSAGES) and files == expected


def restored(backup: Backup, target: Path) -> dict[str, bytes]:
    """What a restore brings back, by path under the one source folder."""
    backup.restore(target)
    root = target / "data"
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
