"""What the second client keeps, and what it holds answers against: one sealed file.

docs/mobile.md, "What the phone keeps". Saved before each step that must not be forgotten.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from nacl.secret import SecretBox
from second_wire import Tampered

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

RECEIPT: dict[str, type] = {
    "cluster_id": str,
    "shard": int,
    "index": int,
    "version": int,
    "restore_epoch": int,
}


class State:
    """Pins, newest receipt, open registration and attempt; `file` is sealed with `key`."""

    def __init__(self, file: Path, key: bytes) -> None:
        self._file, self._box = file, SecretBox(key)
        self.values: Json = {"nodes": {}}
        if file.exists():
            self.values = json.loads(self._box.decrypt(file.read_bytes()))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def save(self, **changes: Any) -> None:
        """Changes values (None drops one); durable when it returns, whole at any moment."""
        changed = self.values | changes
        self.values = {name: value for name, value in changed.items() if value is not None}
        fresh = self._file.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self._box.encrypt(json.dumps(self.values).encode()))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def check_pin(self, name: str, value: str) -> None:
        if self.values.get(name, value) != value:
            raise Tampered(f"{name} is not the pinned one")

    def pin(self, **values: str) -> None:
        for name, value in values.items():
            self.check_pin(name, value)
        self.save(**values)

    def check_receipt(self, receipt: Json, newest: Json | None) -> None:
        """A receipt that came, against the newest one that there was when we asked."""
        shaped(receipt, RECEIPT)
        if newest:
            if any(receipt[name] != newest[name] for name in ("cluster_id", "shard")):
                raise Tampered("a receipt of another vault or shard")
            if any(receipt[name] < newest[name] for name in ("restore_epoch", "index", "version")):
                raise Tampered("the vault has gone back in time")
        kept = self.get("receipt")
        if kept is None or _age(receipt) > _age(kept):
            self.save(receipt=receipt)


def shaped(answer: Any, fields: dict[str, type]) -> None:
    """Every field there, of its type; else the answer is none of the vault's."""
    for name, kind in fields.items():
        value: Any = answer.get(name) if isinstance(answer, dict) else None
        negative = isinstance(value, int) and value < 0
        if type(value) is not kind or negative:
            raise Tampered(f"an answer without a right {name}")


def _age(receipt: Json) -> tuple[int, int]:
    return receipt["restore_epoch"], receipt["index"]
