"""The 64 digits: a backup key as a person writes it down, and what went wrong in typing it.

A key is shown in 16 groups of four. Typed back, upper case, spaces and dashes do not matter, and
each mistake is told by its place, never by its digit (I11). On a new device the right digits are
not there to compare with; but the storage names a backup by a hash of its key, so a key that
differs by one digit, two wrong ones or a slip of the hand is found by trying all its neighbours.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import combinations, product, takewhile
from typing import TYPE_CHECKING, Final, Literal

from quorumvault.backup.errors import MistypedDigits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY_BYTES: Final = 32
DIGITS: Final = 2 * KEY_BYTES
GROUP: Final = 4
GROUPS_IN_LINE: Final = 4

MAX_TYPED: Final = 2 * DIGITS
"""More digits than this are no key with a slip in it."""

MAX_TOLD: Final = 8
"""How many places a message names."""

MAX_UNREADABLE: Final = 3
"""Letters that are no digits and are filled in by trying: 16 each."""

_HEX: Final = "0123456789abcdef"
_UNREADABLE: Final = "?"
_DASHES: Final = frozenset({"Pd", "Pc", "Cf"})
"""Unicode's dashes, underscores and invisible marks (as of text copied from a page)."""
_MINUS: Final = "\N{MINUS SIGN}"


def show_digits(key: bytes) -> str:
    """The key (32 bytes) as four lines of four groups of four lower-case hexadecimal digits.

    Raises:
        ValueError: not 32 bytes.

    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a backup key has {KEY_BYTES} bytes")
    text = key.hex()
    groups = [text[at : at + GROUP] for at in range(0, DIGITS, GROUP)]
    lines = range(0, len(groups), GROUPS_IN_LINE)
    return "\n".join(" ".join(groups[at : at + GROUPS_IN_LINE]) for at in lines)


def read_digits(text: str) -> bytes:
    """The key that `text` spells.

    Raises:
        MistypedDigits: not 64 of 0-9 and a-f; `positions` has the letters that are none.

    """
    typed = _symbols(text)
    odd = tuple(at + 1 for at, symbol in enumerate(typed) if symbol == _UNREADABLE)
    if odd and len(typed) <= MAX_TYPED:
        verb = "is" if len(odd) == 1 else "are"
        raise MistypedDigits(
            f"{_places(odd)} {verb} none of 0-9 and a-f; an o is perhaps a zero, an l or i a one",
            positions=odd,
        )
    if len(typed) != DIGITS:
        raise MistypedDigits(_count(len(typed)))
    return bytes.fromhex(typed)


def compare(typed: str, right: bytes) -> MistypedDigits | None:
    """What is wrong in the typed digits of a known key; None if they are right.

    `positions` counts in the right key: a wrong digit's place, both places of two exchanged ones,
    the place of a missing one (in a run of equal digits, one of the run), the place before an
    extra one.
    """
    symbols, wanted = _symbols(typed), right.hex()
    if symbols == wanted:
        return None
    if not symbols or len(symbols) > MAX_TYPED:
        return MistypedDigits(_count(len(symbols)))
    slips = _align(symbols, wanted)
    told = "; ".join(_tell(slip) for slip in slips[:MAX_TOLD])
    more = f"; and {len(slips) - MAX_TOLD} more" if len(slips) > MAX_TOLD else ""
    places = sorted({at for slip in slips for at in _positions(slip)})
    return MistypedDigits(f"the digits are not right: {told}{more}", positions=tuple(places))


def locate(text: str, matches: Callable[[bytes], bool]) -> bytes | MistypedDigits:
    """The key if `matches` knows it; else where it was mistyped, as far as trying can tell.

    Tried are, besides the key as typed: one or two wrong digits, two neighbours exchanged, one or
    two left out, one or two too many, one left out and another too many, one too many and one
    wrong; and up to three letters that are no digits. That is at most about 600,000 calls of
    `matches`, of 32 bytes each, and nearly always fewer than 1,100.

    Returns:
        The key; or the mistake, without `positions` if no near key matches.

    """
    typed = _symbols(text)
    if len(typed) == DIGITS and _UNREADABLE not in typed:
        key = bytes.fromhex(typed)
        if matches(key):
            return key
    for candidate in _near(typed):
        key = bytes.fromhex(candidate)
        if matches(key):
            found = compare(text, key)
            return key if found is None else found
    try:
        read_digits(text)
    except MistypedDigits as mistake:
        return mistake
    return MistypedDigits("these 64 digits, and all that nearly equal them, are of no backup here")


# ---------------------------------------------------------------- reading


def _symbols(text: str) -> str:
    """The digits alone, in lower case; what is none becomes a question mark.

    Digits of other scripts count by their value: some keyboards type them.
    """
    found: list[str] = []
    for letter in unicodedata.normalize("NFKC", text):
        if letter.isspace() or letter == _MINUS or unicodedata.category(letter) in _DASHES:
            continue
        value = unicodedata.decimal(letter, None)
        symbol = letter.lower() if value is None else str(value)
        found.append(symbol if len(symbol) == 1 and symbol in _HEX else _UNREADABLE)
    return "".join(found)


def _count(number: int) -> str:
    if number == 0:
        return f"no digits were typed; the key has {DIGITS}, in 16 groups of {GROUP}"
    off = number - DIGITS
    how = f"{off} too many" if off > 0 else f"{-off} are missing"
    if off == -1:
        how = "one is missing"
    return f"{number} digits were typed, the key has {DIGITS}: {how}"


def _place(position: int) -> str:
    group, digit = divmod(position - 1, GROUP)
    return f"group {group + 1}, digit {digit + 1}"


def _places(positions: tuple[int, ...]) -> str:
    told = "; ".join(_place(at) for at in positions[:MAX_TOLD])
    more = len(positions) - MAX_TOLD
    return f"{told}; and {more} more" if more > 0 else told


# ---------------------------------------------------------------- comparing


_Kind = Literal["wrong", "exchanged", "missing", "extra"]


@dataclass(frozen=True, slots=True)
class _Slip:
    """One mistake; `at` counts from 1 in the right key, 0 for an extra digit before all."""

    kind: _Kind
    at: int


def _positions(slip: _Slip) -> tuple[int, ...]:
    return (slip.at, slip.at + 1) if slip.kind == "exchanged" else (max(slip.at, 1),)


def _tell(slip: _Slip) -> str:
    match slip.kind:
        case "wrong":
            return f"{_place(slip.at)} is wrong"
        case "exchanged":
            return f"{_place(slip.at)} and {_place(slip.at + 1)} are exchanged"
        case "missing":
            return f"{_place(slip.at)} is missing"
        case "extra" if slip.at == 0:
            return "one digit too many at the very beginning"
        case "extra":
            return f"one digit too many after {_place(slip.at)}"


def _align(typed: str, right: str) -> list[_Slip]:
    """The fewest slips that make `typed` of `right` (optimal string alignment)."""
    same = _common(typed, right)  # what is equal at both ends can stay so
    typed, right = typed[same:], right[same:]
    rest = _common(typed[::-1], right[::-1])
    typed, right = typed[: len(typed) - rest], right[: len(right) - rest]
    cost = [[0] * (len(typed) + 1) for _ in range(len(right) + 1)]
    for i in range(len(right) + 1):
        for j in range(len(typed) + 1):
            cost[i][j] = min(
                (cost[x][y] + weight for x, y, weight, _ in _steps(right, typed, i, j)), default=0
            )
    slips: list[_Slip] = []
    i, j = len(right), len(typed)
    while (i, j) != (0, 0):
        steps = _steps(right, typed, i, j)
        x, y, _, kind = next(s for s in steps if cost[s[0]][s[1]] + s[2] == cost[i][j])
        if kind is not None:
            slips.append(_Slip(kind, same + (i - 1 if kind == "exchanged" else i)))
        i, j = x, y
    return slips[::-1]


def _common(one: str, other: str) -> int:
    """How many digits both begin with."""
    return sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(one, other, strict=False)))


def _steps(right: str, typed: str, i: int, j: int) -> list[tuple[int, int, int, _Kind | None]]:
    """Ways to (i, j): from where, at which cost, by which slip."""
    steps: list[tuple[int, int, int, _Kind | None]] = []
    if i and j:
        same = right[i - 1] == typed[j - 1]
        steps.append((i - 1, j - 1, 0 if same else 1, None if same else "wrong"))
    if i > 1 and j > 1 and right[i - 2 : i] == typed[j - 1] + typed[j - 2]:
        steps.append((i - 2, j - 2, 1, "exchanged"))
    if i:
        steps.append((i - 1, j, 1, "missing"))
    if j:
        steps.append((i, j - 1, 1, "extra"))
    return steps


# ---------------------------------------------------------------- trying


def _near(typed: str) -> Iterator[str]:
    """Keys that a slip or two away from the right one would have been typed so, likely ones first.

    None twice in a row, but some more than once: that costs less than remembering them all.
    """
    off, holes = len(typed) - DIGITS, typed.count(_UNREADABLE)
    if off == 0 and not holes:
        yield from _one_wrong(typed)
        yield from _exchanged(typed)
        yield from (again for once in _without_one(typed) for again in _with_one(once))
        yield from _two_wrong(typed)
    elif off == 0 and holes <= MAX_UNREADABLE:
        yield from _filled(typed)
        if holes == 1:
            yield from (again for once in _filled(typed) for again in _one_wrong(once))
    elif off == -1 and holes <= 1:
        yield from (full for one in _filled(typed) for full in _with_one(one))
    elif off == -2 and not holes:
        yield from _with_two(typed)
    elif off == 1 and holes <= 1:
        shorter = [one for each in _without_one(typed) for one in _filled(each)]
        yield from shorter
        yield from (again for once in shorter for again in _exchanged(once))
        if not holes:
            yield from (again for once in shorter for again in _one_wrong(once))
    elif off == 2 and not holes:
        for a, b in combinations(range(len(typed)), 2):
            yield typed[:a] + typed[a + 1 : b] + typed[b + 1 :]


def _filled(typed: str) -> Iterator[str]:
    pieces = typed.split(_UNREADABLE)
    for guess in product(_HEX, repeat=len(pieces) - 1):
        yield "".join(a + b for a, b in zip(pieces, (*guess, ""), strict=True))


def _one_wrong(typed: str) -> Iterator[str]:
    for at, old in enumerate(typed):
        yield from (typed[:at] + new + typed[at + 1 :] for new in _HEX if new != old)


def _two_wrong(typed: str) -> Iterator[str]:
    for a, b in combinations(range(len(typed)), 2):
        left, middle, right = typed[:a], typed[a + 1 : b], typed[b + 1 :]
        for one in _HEX:
            if one != typed[a]:
                begin = left + one + middle
                yield from (begin + two + right for two in _HEX if two != typed[b])


def _exchanged(typed: str) -> Iterator[str]:
    for at in range(len(typed) - 1):
        if typed[at] != typed[at + 1]:
            yield typed[:at] + typed[at + 1] + typed[at] + typed[at + 2 :]


def _without_one(typed: str) -> Iterator[str]:
    for at in range(len(typed)):
        if not at or typed[at] != typed[at - 1]:  # of equal neighbours, either
            yield typed[:at] + typed[at + 1 :]


def _with_one(typed: str) -> Iterator[str]:
    for at in range(len(typed) + 1):
        # A digit put before its equal gives the same as one put after it.
        yield from (
            typed[:at] + new + typed[at:] for new in _HEX if at == len(typed) or new != typed[at]
        )


def _with_two(typed: str) -> Iterator[str]:
    for a, b in product(range(len(typed) + 1), repeat=2):
        if a <= b:
            left, middle, right = typed[:a], typed[a:b], typed[b:]
            for one in _HEX:
                begin = left + one + middle
                yield from (begin + two + right for two in _HEX)
