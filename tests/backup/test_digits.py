"""The 64 digits: shown, read back, and every slip of the hand told by its place."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumvault.backup import digits
from quorumvault.backup.errors import MistypedDigits

KEY = hashlib.sha256(b"a key").digest()
TEXT = KEY.hex()
OTHER = {d: "0123456789abcdef"[(int(d, 16) + 5) % 16] for d in "0123456789abcdef"}

keys = st.binary(min_size=32, max_size=32)
places = st.integers(0, 63)


def put(text: str, at: int, new: str, old: int = 1) -> str:
    """`new` in the place of `old` digits."""
    return text[:at] + new + text[at + old :]


def located(typed: str, key: bytes = KEY) -> MistypedDigits:
    found = digits.locate(typed, key.__eq__)
    assert isinstance(found, MistypedDigits)
    return found


def run_of(text: str, at: int) -> range:
    """The places (from 1) of the run of equal digits around index `at`."""
    begin = end = at
    while begin and text[begin - 1] == text[at]:
        begin -= 1
    while end + 1 < len(text) and text[end + 1] == text[at]:
        end += 1
    return range(begin + 1, end + 2)


# ---------------------------------------------------------------- showing and reading


def test_a_key_is_shown_in_four_lines_of_four_groups_of_four():
    assert digits.show_digits(bytes(range(32))) == (
        "0001 0203 0405 0607\n0809 0a0b 0c0d 0e0f\n1011 1213 1415 1617\n1819 1a1b 1c1d 1e1f"
    )


@given(keys)
def test_what_is_shown_reads_back(key):
    assert digits.read_digits(digits.show_digits(key)) == key


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        "-".join,
        " \N{EM DASH} ".join,
        lambda text: f"\ufeff\t{text}\r\n\n",
        lambda text: text.replace("", "\u200b"),
        lambda text: "".join(chr(ord(d) + 0xFEE0) for d in text),
        lambda text: "".join(chr(0x660 + int(d)) if d.isdecimal() else d for d in text),
    ],
    ids=["capitals", "dashes", "long dashes", "blanks", "invisible", "full width", "Arabic"],
)
def test_how_digits_are_written_does_not_matter(change):
    assert digits.read_digits(change(TEXT)) == KEY


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "no digits were typed"),
        (TEXT[1:], "63 digits were typed, the key has 64: one is missing"),
        (TEXT[5:], "59 digits were typed, the key has 64: 5 are missing"),
        (TEXT + "00", "66 digits were typed, the key has 64: 2 too many"),
        ("?" * 100_000, "99936 too many"),
    ],
)
def test_another_number_of_digits_is_refused(typed, says):
    with pytest.raises(MistypedDigits, match=says) as caught:
        digits.read_digits(typed)
    assert caught.value.positions == ()


def test_letters_that_are_no_digits_are_told_by_group_and_digit():
    typed = put(put(digits.show_digits(KEY).replace("\n", "-"), 0, "o"), 38, "x")
    with pytest.raises(MistypedDigits, match="group 1, digit 1; group 8, digit 4 are") as caught:
        digits.read_digits(typed)
    assert caught.value.positions == (1, 32)


@pytest.mark.parametrize("letter", ["İ", "ß", "\x00", "\ud800", "é", "½", "𝟘𝟙x"])  # noqa: RUF001 - digits of other alphabets
def test_odd_letters_never_raise_anything_else(letter):
    with pytest.raises(MistypedDigits):
        digits.read_digits(put(TEXT, 9, letter))
    digits.locate(put(TEXT, 9, letter), KEY.__eq__)
    digits.compare(put(TEXT, 9, letter), KEY)


def test_only_a_key_of_32_bytes_is_shown():
    with pytest.raises(ValueError, match="32 bytes"):
        digits.show_digits(KEY[1:])


# ---------------------------------------------------------------- compared with the right ones


@given(keys)
def test_the_right_digits_have_no_mistake(key):
    assert digits.compare(digits.show_digits(key).upper(), key) is None


@settings(max_examples=40)
@given(keys, st.sets(places, min_size=1, max_size=4))
def test_wrong_digits_are_told_by_their_exact_places(key, wrong):
    apart = {at for at in wrong if at - 1 not in wrong}  # two side by side may look exchanged
    typed = list(key.hex())
    for at in apart:
        typed[at] = OTHER[typed[at]]
    mistake = digits.compare("".join(typed), key)
    assert mistake is not None
    assert len(mistake.positions) <= 2 * len(apart)
    if len(apart) == 1:
        assert mistake.positions == tuple(at + 1 for at in apart)


@pytest.mark.parametrize("at", range(63))
def test_two_neighbours_exchanged_are_told_as_such(at):
    typed = put(TEXT, at, TEXT[at + 1] + TEXT[at], 2)
    mistake = digits.compare(typed, KEY)
    if typed == TEXT:
        assert mistake is None
    else:
        assert mistake is not None
        assert mistake.positions == (at + 1, at + 2)
        assert "exchanged" in str(mistake)


@pytest.mark.parametrize("at", range(64))
def test_a_missing_and_an_extra_digit_are_told_by_their_place(at):
    missing = digits.compare(put(TEXT, at, ""), KEY)
    assert missing is not None
    assert set(missing.positions) <= set(run_of(TEXT, at))
    assert "is missing" in str(missing)
    extra = digits.compare(put(TEXT, at, TEXT[at] + OTHER[TEXT[at]]), KEY)
    assert extra is not None
    assert "one digit too many after" in str(extra)
    assert abs(extra.positions[0] - at - 1) <= 1


def test_several_slips_are_told_in_order_and_not_without_end():
    typed = put(put(put(TEXT, 60, ""), 30, TEXT[31] + TEXT[30], 2), 2, OTHER[TEXT[2]])
    mistake = digits.compare(typed, KEY)
    assert str(mistake) == (
        "the digits are not right: group 1, digit 3 is wrong; group 8, digit 3 and group 8,"
        " digit 4 are exchanged; group 16, digit 1 is missing"
    )
    assert mistake.positions == (3, 31, 32, 61)
    assert str(digits.compare("".join(OTHER[d] for d in TEXT), KEY)).count("group") <= 16
    assert "too many" in str(digits.compare(TEXT * 1000, KEY))


@given(keys, st.text(max_size=80))
def test_no_mistake_tells_a_digit_of_the_key(key, typed):
    for mistake in (digits.compare(typed, key), digits.locate(typed, lambda _: False)):
        said = str(mistake)
        assert not any(key.hex()[at : at + 6] in said for at in range(59))


# ---------------------------------------------------------------- located by trying


def test_the_right_digits_need_one_look():
    looks: list[bytes] = []

    def matches(key: bytes) -> bool:
        looks.append(key)
        return key == KEY

    assert digits.locate(digits.show_digits(KEY), matches) == KEY
    assert looks == [KEY]


def test_every_single_wrong_digit_is_located():
    for at, right in enumerate(TEXT):
        for new in "0123456789abcdef":
            if new != right:
                assert located(put(TEXT, at, new)).positions == (at + 1,)


def test_every_exchange_of_neighbours_is_located():
    for at in range(63):
        if TEXT[at] != TEXT[at + 1]:
            found = located(put(TEXT, at, TEXT[at + 1] + TEXT[at], 2))
            assert found.positions == (at + 1, at + 2)


def test_every_missing_digit_is_located():
    for at in range(64):
        found = located(put(TEXT, at, ""))
        assert found.positions
        assert set(found.positions) <= set(run_of(TEXT, at))


def test_every_extra_digit_is_located():
    for at in range(65):
        for new in "0123456789abcdef":
            typed = put(TEXT, at, new, 0)
            found = located(typed)
            place = found.positions[0]
            near = run_of(typed, at)
            assert near.start - 1 <= place <= near.stop
            assert "one digit too many" in str(found)


@settings(max_examples=8, deadline=None)
@given(keys, st.tuples(places, places).filter(lambda two: abs(two[0] - two[1]) > 1))
def test_two_wrong_digits_are_located(key, two):
    typed = list(key.hex())
    for at in two:
        typed[at] = OTHER[typed[at]]
    assert located("".join(typed), key).positions == tuple(at + 1 for at in sorted(two))


@settings(max_examples=8, deadline=None)
@given(keys, places, places)
def test_two_left_out_or_one_left_out_and_another_doubled_are_located(key, one, other):
    text = key.hex()
    assert located(put(put(text, one, ""), min(other, 62), ""), key).positions
    doubled = put(text, other, text[other] * 2)
    found = digits.locate(put(doubled, one, ""), key.__eq__)
    assert found == key or found.positions


@pytest.mark.parametrize("unread", [(0,), (63,), (3, 40), (1, 2, 3)])
def test_unreadable_letters_are_filled_in_and_located(unread):
    typed = TEXT
    for at in unread:
        typed = put(typed, at, "x")
    assert located(typed).positions == tuple(at + 1 for at in unread)


def test_an_unreadable_letter_and_a_wrong_digit_are_located():
    typed = put(put(TEXT, 5, OTHER[TEXT[5]]), 50, "x")
    assert located(typed).positions == (6, 51)


@pytest.mark.parametrize(
    ("typed", "positions"),
    [("".join(OTHER[d] for d in TEXT), ()), ("x" * 64, tuple(range(1, 65))), ("", ()), ("z", (1,))],
)
def test_digits_of_no_key_here_say_so(typed, positions):
    found = digits.locate(typed, KEY.__eq__)
    assert isinstance(found, MistypedDigits)
    assert found.positions == positions
