"""What another node says of itself: decoded, bounded and cut before anybody looks at it.

A report crosses a border: an owned data center writes in it what it likes. Types are strict,
numbers are what JavaScript can hold, texts are short and of one line, lists are short. Fields that
this version does not know are left out, and those that an older one does not send have a default:
during an upgrade two versions look at each other, and neither may take the other for dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from node.report import StatusReport

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

MAX_TEXT: Final = 256
"""Characters: the longest text that an honest node sends is a certificate's subject."""
MAX_ITEMS: Final = 512
"""Of one list or object; there are at most 256 shards."""
MAX_DEPTH: Final = 8
"""An honest report has five."""
MAX_VALUES: Final = 1 << 14
"""Of one answer, however nested: one of 256 shards has 8,000. A megabyte of small ones would hold
up the loop of a node that looks at them for longer than its heartbeats may be late."""
MAX_NUMBER: Final = 2**53
"""Beyond it JavaScript rounds, and the encoder refuses beyond 64 bits."""


class Unintelligible(Exception):  # noqa: N818 - it says what the answer is
    """What was answered is no report; one line, without any of its text."""


def status_of(plain: object) -> StatusReport:
    """The report in decoded JSON.

    Raises:
        Unintelligible: it is none.

    """
    return convert(plain, StatusReport)


def convert(plain: object, kind: type[T]) -> T:
    """Decoded JSON as a struct of this kind, cut.

    Raises:
        Unintelligible: it is none.

    """
    try:
        return msgspec.convert(_Tamer().tame(plain, 0), kind, str_keys=True)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.groups[0].term`": the types are ours, a key may not be.
        what = str(error).partition(" - at ")[0]
        raise Unintelligible(f"it answers what is no status ({cut(what)})") from None


def decode(data: bytes, kind: type[T]) -> T:
    """JSON bytes as a struct of this kind, cut.

    Raises:
        Unintelligible: they are none.

    """
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unintelligible("it answers what is no JSON") from None
    return convert(plain, kind)


def cut(text: str, most: int = MAX_TEXT) -> str:
    """One line of printable text, at most so long."""
    line = text[: most + 1]
    if not line.isprintable():
        line = "".join(each if each.isprintable() else " " for each in line)
    return line if len(line) <= most else line[: most - 1] + "…"


class _Tamer:
    """Cuts one answer, and counts what is in it."""

    def __init__(self) -> None:
        self._values = 0

    def tame(self, value: object, depth: int) -> object:
        self._values += 1
        if self._values > MAX_VALUES:
            raise Unintelligible(f"it answers over {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise Unintelligible("it answers what is nested too deep")
        if isinstance(value, str):
            return cut(value)
        if isinstance(value, dict):
            return self._tame_object(value, depth)
        if isinstance(value, list):
            if len(value) > MAX_ITEMS:
                raise Unintelligible(f"it answers a list of over {MAX_ITEMS}")
            return [self.tame(each, depth + 1) for each in value]
        if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # nor is NaN
            raise Unintelligible("it answers a number out of range")
        return value

    def _tame_object(self, value: Mapping[object, object], depth: int) -> dict[object, object]:
        if len(value) > MAX_ITEMS:
            raise Unintelligible(f"it answers an object of over {MAX_ITEMS}")
        return {
            cut(key) if isinstance(key, str) else key: self.tame(each, depth + 1)
            for key, each in value.items()
        }
