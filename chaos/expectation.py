"""What one client may believe of its account, and whether the vault contradicts it.

A client that is alone on its account and has one operation open at a time knows, between bounds,
what the vault has counted: attempts that the vault said it charged, attempts that it may have
charged, and attempts that it said it did not. Every answer is held against that at once (I4, I5,
I7, I12), and the share witness afterwards (I1, I2). A contradiction is a sentence in `broken`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.encoding import b64u_decode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaos.witness import Testimony


@dataclass
class EraBook:
    """The attempts made in one era of one registration (ids as the API writes them)."""

    registration_id: str
    era: int
    counted: set[str] = field(default_factory=set)
    """The vault said that it charged them."""
    doubtful: set[str] = field(default_factory=set)
    """Nobody can say, as long as they are not counted."""
    free: set[str] = field(default_factory=set)
    """The vault said of every send that it did not charge the attempt."""

    @property
    def most(self) -> int:
        """The highest count that the vault may show."""
        return len(self.counted | self.doubtful)


@dataclass
class Expectation:
    """What an account's only client knows."""

    name: str
    limit: int
    broken: list[str] = field(default_factory=list)
    password: bytes = b""
    backup_key: bytes = b""
    past: list[EraBook] = field(default_factory=list)
    now: EraBook | None = None
    used: int = 0
    """Guesses counted, as the vault showed last."""

    @property
    def book(self) -> EraBook:
        """The present era."""
        if self.now is None:
            raise ValueError(f"{self.name} has no acknowledged registration")
        return self.now

    def activated(
        self, registration_id: str, birth_era: int, password: bytes, backup_key: bytes
    ) -> None:
        """A registration was acknowledged as active: the old key is gone, the list is empty."""
        self.password, self.backup_key = password, backup_key
        self._turn(EraBook(registration_id, birth_era + 1))

    def proven(self) -> None:
        """A proof was acknowledged: the list is empty, the era one higher."""
        self._turn(EraBook(self.book.registration_id, self.book.era + 1))

    def ended(self) -> None:
        """A deletion was acknowledged: there is no registration any more."""
        if self.now is not None:
            self.past.append(self.now)
        self.now = None

    def _turn(self, book: EraBook) -> None:
        if self.now is not None:
            self.past.append(self.now)
        self.now = book

    # ---------------------------------------------------------------- held against answers

    def attempted(self, attempt_id: str, charged: str, *, replayed: bool | None = None) -> None:
        """One send of an attempt came back.

        Args:
            attempt_id: which.
            charged: yes, no or unknown, as told, or unknown when nothing came back.
            replayed: of a success.

        """
        book = self.book
        if replayed and attempt_id not in book.counted | book.doubtful:
            self._break(f"I12: attempt {attempt_id[:12]} was charged by a send that said `no`")
        if replayed is False and attempt_id in book.counted:
            self._break(f"I5: attempt {attempt_id[:12]} was charged twice")
        if replayed is not None or charged == "yes":
            book.counted.add(attempt_id)
        elif charged == "unknown":
            book.doubtful.add(attempt_id)
        elif charged != "no":
            self._break(f"I12: `charged` is {charged!r}")
        if attempt_id in book.counted | book.doubtful:
            book.free.discard(attempt_id)
        else:
            book.free.add(attempt_id)

    def shown(self, remaining: int | None, era: int | None = None, where: str = "") -> None:
        """The vault told a count, an era, or both, after everything done so far."""
        book = self.book
        if era is not None and era != book.era:
            self._break(f"I7: {where}: era {era}, all that was acknowledged makes {book.era}")
        if remaining is None:
            return
        self.used = used = self.limit - remaining
        if not len(book.counted) <= used <= book.most:
            self._break(
                f"I5: {where}: {used} guesses counted, but between {len(book.counted)} and "
                f"{book.most} were made in era {book.era}"
            )

    def released(self, backup_key: bytes, where: str) -> None:
        """A recovery gave this key."""
        if backup_key != self.backup_key:
            self._break(f"I4: {where}: recovered another key than the acknowledged one")

    def refused(self, what: str) -> None:
        """Something was refused for good that must not be."""
        self._break(f"I4: {what}")

    def _break(self, what: str) -> None:
        self.broken.append(f"account {self.name}: {what}")

    # ---------------------------------------------------------------- held against the witness

    def judge(self, testimony: Testimony) -> None:
        """Hold the shares that were really given against what was counted.

        Call it when the count was looked at after the last attempt.
        """
        givers = {each.attempt_id: seats for each, seats in testimony.given.items()}
        evaluated = testimony.evaluated()
        for book in (*self.past, *([] if self.now is None else [self.now])):
            made = evaluated.get((_hex(book.registration_id), book.era), set())
            told = {_hex(each) for each in book.counted | book.doubtful}
            if not made <= told:
                self._break(f"I1: {len(made - told)} evaluated in era {book.era} beyond the count")
            if book is self.now and len(made) > self.used:
                self._break(f"I1: {len(made)} evaluated, {self.used} counted")
            for attempt_id in book.free:
                if _hex(attempt_id) in givers:
                    self._break(f"I2: a share was given for {attempt_id[:12]}, charged `no`")


def verdict(expectations: Iterable[Expectation], testimony: Testimony, limit: int) -> list[str]:
    """Every contradiction of a run as a sentence; empty when all rules held."""
    broken = testimony.violations(limit)
    for each in expectations:
        each.judge(testimony)
        broken += each.broken
    return broken


def _hex(text: str) -> str:
    return b64u_decode(text, 32).hex()
