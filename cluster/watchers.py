"""Who waits for a record: called after each apply to it, and after its ledger row is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from cluster.types import RecordId


class Watchers:
    """Callbacks by record; called later, never from inside the call that caused them."""

    def __init__(self, later: Callable[[Callable[[], None]], None]) -> None:
        self._later = later
        self._callbacks: dict[RecordId, list[Callable[[], None]]] = {}

    def watch(self, record_id: RecordId, callback: Callable[[], None]) -> Callable[[], None]:
        """Begin; the returned function ends it."""
        self._callbacks.setdefault(record_id, []).append(callback)

        def unwatch() -> None:
            callbacks = self._callbacks.get(record_id, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks:
                self._callbacks.pop(record_id, None)

        return unwatch

    def notify(self, records: Iterable[RecordId]) -> None:
        """These records changed, or became durable."""
        if self._callbacks:
            for record_id in dict.fromkeys(records):
                for callback in self._callbacks.get(record_id, ()):
                    self._later(callback)

    def await_any(self, records: Iterable[RecordId], changed: Container[RecordId]) -> bool:
        """Somebody waits for one of these records, and its ledger row is not durable yet."""
        if not self._callbacks:
            return False
        return any(record in self._callbacks and record in changed for record in records)
