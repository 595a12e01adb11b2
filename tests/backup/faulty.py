"""A storage whose operations can be made to fail, to lie, or to let something happen first."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from quorumvault.backup.errors import StorageUnreachable
from quorumvault.backup.storage import Storage, Stored

OPERATIONS = ("list", "folders", "put", "put_from", "get", "open", "size", "delete", "settle")


class Faulty(Storage):
    """The real storage of the same URL; each operation first asks `fault` what happens to it.

    `fault(number, operation, name)` returns "" for nothing, or
    "before": it fails and nothing was done; "after": it is done, but the answer is lost;
    "half": half of the bytes are there under their name, then it fails;
    "dropped": it says that it is done, and nothing was; "changed": so, and a bit was changed.
    """

    def __init__(self, url: str, fault: Callable[[int, str, str], str]) -> None:
        super().__init__(url)
        self._fault = fault
        self._numbers = itertools.count(1)
        self._count = threading.Lock()
        self.operations: list[tuple[str, str]] = []

    def _ask(self, operation: str, name: str) -> str:
        with self._count:
            number = next(self._numbers)
            self.operations.append((operation, name))
        what = self._fault(number, operation, name)
        if what == "before":
            raise StorageUnreachable(f"the test's fault at {operation} {name}")
        return what

    def _end(self, what: str, operation: str) -> None:
        if what in {"after", "half"}:
            raise StorageUnreachable(f"the test's fault after {operation}")

    def list(self, prefix):
        what = self._ask("list", prefix)
        found = list(super().list(prefix))
        self._end(what, "list")
        return iter(self.listed(prefix, found))

    def listed(self, prefix: str, found: list[Stored]) -> list[Stored]:
        """What a listing shows of what is there."""
        return found

    def folders(self, start=""):
        what = self._ask("folders", start)
        found = super().folders(start)
        self._end(what, "folders")
        return found

    def put(self, name, data):
        what = self._ask("put", name)
        if what == "half":
            super().put(name, bytes(data[: len(data) // 2]))
        elif what == "changed":
            super().put(name, bytes(data[:-1]) + bytes([data[-1] ^ 1]))
        elif what != "dropped":
            super().put(name, data)
        self._end(what, "put")

    def put_from(self, name, file, size):
        what = self._ask("put_from", name)
        if what in {"half", "changed"}:
            data = bytearray(file.read(size))
            data[-1] ^= 1
            super().put(name, data[: size // 2] if what == "half" else data)
        elif what != "dropped":
            super().put_from(name, file, size)
        self._end(what, "put_from")

    def get(self, name, limit):
        what = self._ask("get", name)
        data = super().get(name, limit)
        self._end(what, "get")
        return data

    def open(self, name):
        what = self._ask("open", name)
        file = super().open(name)
        if what:
            file.close()
        self._end(what, "open")
        return file

    def size(self, name):
        what = self._ask("size", name)
        size = super().size(name)
        self._end(what, "size")
        return size

    def delete(self, names):
        what = self._ask("delete", ",".join(names))
        super().delete(names)
        self._end(what, "delete")

    def settle(self):
        what = self._ask("settle", "")
        super().settle()
        self._end(what, "settle")
