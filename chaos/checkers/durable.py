"""I4: what was acknowledged is seen by every later read, through every node, for ever.

Every receipt's version and index, and every era, is a floor under all that begins later; charges
that were acknowledged stay counted while their era lasts; two answers that name one version say
the same of the record; a proof releases the key that was put. Final
reads (after healing, one per node and account) must all say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.checkers.findings import Finding, at, short
from chaos.checkers.operations import by_account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checkers.findings import Final
    from chaos.checkers.operations import Operation
    from chaos.history import Event


def check(operations: Sequence[Operation], final: Final, limit: int) -> list[Finding]:
    """Find what was acknowledged and is gone."""
    found = _indexes(operations)
    for account, made in by_account(operations).items():
        found += _account(account, made, limit)
        found += _versions(account, made)
        found += _keys(account, made)
    return found + _final(final)


def _finding(sentence: str) -> Finding:
    return Finding("durable", "I4", sentence)


@dataclass
class _Floor:
    """What has been acknowledged of one account so far, and by whom."""

    version: tuple[int, Operation] | None = None
    era: tuple[int, Operation] | None = None
    charged: dict[int, dict[str, Operation]] = field(default_factory=dict)
    """Era → attempts acknowledged as counted."""

    def add(self, each: Operation) -> None:
        """An operation was answered."""
        if each.receipt is not None and (
            self.version is None or each.receipt.version > self.version[0]
        ):
            self.version = (each.receipt.version, each)
        era = _era_after(each)
        if era is not None and (self.era is None or era > self.era[0]):
            self.era = (era, each)
        if each.op == "attempt" and each.ok and each.era is not None:
            self.charged.setdefault(each.era, {})[each.attempt_id] = each


def _era_after(each: Operation) -> int | None:
    """The least era that the record has when this was answered."""
    if not each.ok:
        return None
    asked = each.call.era
    if each.op in {"activate", "prove"}:
        return None if asked is None else asked + 1
    return asked if each.op == "delete" else each.era


def _account(account: str, made: Sequence[Operation], limit: int) -> list[Finding]:
    found: list[Finding] = []
    floor = _Floor()
    waiting = sorted((each for each in made if each.answer is not None), key=lambda one: one.end)
    told = 0
    for each in sorted(made, key=lambda one: one.begin):
        while told < len(waiting) and waiting[told].end < each.begin:
            floor.add(waiting[told])
            told += 1
        if each.ok:
            found += [_finding(f"account {account}: {one}") for one in _below(each, floor, limit)]
    return found


def _below(each: Operation, floor: _Floor, limit: int) -> list[str]:
    said: list[str] = []
    if each.receipt is not None and floor.version and each.receipt.version < floor.version[0]:
        said.append(
            f"version {each.receipt.version} at {each}, after version {floor.version[0]} was"
            f" acknowledged at {floor.version[1]}"
        )
    if each.op not in {"attempt", "observe"} and not each.is_start:
        return said
    if each.era is None:
        return said
    if floor.era and each.era < floor.era[0]:
        said.append(
            f"era {each.era} at {each}, after era {floor.era[0]} was acknowledged at {floor.era[1]}"
        )
    counted = floor.charged.get(each.era, {})
    if each.remaining is not None and limit - each.remaining < len(counted):
        said.append(
            f"{limit - each.remaining} guesses counted in era {each.era} at {each}, where"
            f" {len(counted)} were acknowledged: {'; '.join(map(str, counted.values()))}"
        )
    return said


def _versions(account: str, made: Sequence[Operation]) -> list[Finding]:
    """Whoever names a version of a record says the same of it."""
    words: dict[tuple[int, str], tuple[object, Operation]] = {}
    found: list[Finding] = []
    for each in made:
        if not each.ok or each.receipt is None:
            continue
        for what, word in _said(each):
            known, by = words.setdefault((each.receipt.version, what), (word, each))
            if known != word:
                found.append(
                    _finding(
                        f"account {account}, version {each.receipt.version}: {what} {word} at"
                        f" {each}, but {known} at {by}"
                    )
                )
    return found


def _said(each: Operation) -> list[tuple[str, object]]:
    """What an answer says of the record at its receipt's version."""
    if each.op == "activate":
        return [("registration", each.registration_id)]
    if each.op not in {"attempt", "observe"}:
        return []
    said: list[tuple[str, object]] = [("registration", each.registration_id)]
    if each.era is not None:
        said.append(("era", each.era))
    if each.op == "observe" or each.remaining is not None:
        said.append(("guesses left", each.remaining))
    return said


def _keys(account: str, made: Sequence[Operation]) -> list[Finding]:
    """A proof releases the very key that its registration put."""
    put = {
        each.registration_id: each for each in made if each.op == "register" and each.call.wrapped
    }
    found: list[Finding] = []
    for each in made:
        origin = put.get(each.registration_id)
        if each.op != "prove" or not each.ok or each.answer is None or origin is None:
            continue
        if each.answer.wrapped and each.answer.wrapped != origin.call.wrapped:
            found.append(
                _finding(
                    f"account {account}: {each} released key {short(each.answer.wrapped)}, but"
                    f" {origin} put {short(origin.call.wrapped)}"
                )
            )
    return found


def _indexes(operations: Sequence[Operation]) -> list[Finding]:
    """Within a shard nothing is answered from a log older than one already acknowledged."""
    found: list[Finding] = []
    highest: dict[int, tuple[int, Operation]] = {}
    waiting = sorted((one for one in operations if one.receipt), key=lambda one: one.end)
    told = 0
    for each in operations:
        while told < len(waiting) and waiting[told].end < each.begin:
            seen = waiting[told].receipt
            if seen is not None and seen.index > highest.get(seen.shard, (-1, None))[0]:
                highest[seen.shard] = (seen.index, waiting[told])
            told += 1
        seen = each.receipt
        if seen is None or seen.shard not in highest:
            continue
        index, by = highest[seen.shard]
        if seen.index < index:
            found.append(
                _finding(
                    f"shard {seen.shard}: index {seen.index} at {each}, after index {index} was"
                    f" acknowledged at {by}"
                )
            )
    return found


def _final(final: Final) -> list[Finding]:
    found: list[Finding] = []
    accounts: dict[str, dict[int, Event]] = {}
    for read in final.reads:
        if read.phase != "ok" or read.op != "observe":
            found.append(_finding(f"account {read.account}: the final read {at(read)} failed"))
        accounts.setdefault(read.account, {})[read.node] = read
    for account, reads in sorted(accounts.items()):
        words = {node: _standing(read) for node, read in sorted(reads.items())}
        if len(set(words.values())) > 1 and not _locked_meanwhile(list(reads.values())):
            each = "; ".join(f"node {node}: {word}" for node, word in words.items())
            found.append(_finding(f"account {account}: final reads differ: {each}"))
        missing = sorted(final.nodes - set(words))
        if missing:
            found.append(_finding(f"account {account}: no final read through nodes {missing}"))
    return found


def _version(read: Event) -> int:
    return -1 if read.receipt is None else read.receipt.version


def _standing(read: Event) -> str:
    return (
        f"{read.state}, registration {short(read.registration_id)}, era {read.era},"
        f" {read.guesses_remaining} left, pending {short(read.pending or '')},"
        f" version {_version(read)}"
    )


def _locked_meanwhile(reads: list[Event]) -> bool:
    """The grace of a full list may end between two reads: that one change, and no other."""
    full = [read for read in reads if read.state == "exhausted"]
    locked = [read for read in reads if read.state == "locked"]
    alike = len({*map(_standing, full)}) == len({*map(_standing, locked)}) == 1
    if not alike or len(full) + len(locked) != len(reads):
        return False
    before, after = full[0], locked[0]
    return (
        before.era is not None
        and (after.era, _version(after)) == (before.era + 1, _version(before) + 1)
        and after.pending == before.pending
    )
