"""A ceremony gives each seat exactly its keys, behind exactly three custodians' words."""

from __future__ import annotations

import json
from itertools import combinations
from uuid import uuid4

import pytest

import hsm
from engines import _engines
from hsm import errors, names, package, prf
from hsm.ceremony import join_seat_key, split_seat_key

SEAT_KEY = bytes(range(32))
WORDS = split_seat_key(SEAT_KEY)
OUR_WORDS = {"again"}
"""Words of the refusals that are words of SLIP-39, too: a share may hold them by chance."""


def opened(ceremony, seat):
    return package.open_package(ceremony.packages[seat], join_seat_key(ceremony.shares[seat][2:]))


@pytest.mark.parametrize(("seats", "threshold", "sets"), [(5, 3, 10), (3, 2, 3), (7, 4, 35)])
def test_every_seat_holds_its_sets_and_any_threshold_of_seats_all_of_them(seats, threshold, sets):
    made = hsm.draw(uuid4(), seats, threshold)
    held = {seat: opened(made, seat) for seat in range(1, seats + 1)}
    everything = set(names.shared_names(seats, threshold))
    assert len(everything) == sets + 2
    assert set(made.check_values) == everything
    for seat, keys in held.items():
        assert list(keys) == names.held_names(seat, seats, threshold)
        assert all(prf.check_value(key) == made.check_values[name] for name, key in keys.items())
    for chosen in combinations(held, threshold):
        assert set().union(*(held[seat] for seat in chosen)) == everything
    for chosen in combinations(held, threshold - 1):
        assert set().union(*(held[seat] for seat in chosen)) < everything


def test_keys_are_drawn_independently_and_anew_each_time():
    first, second = hsm.draw(uuid4()), hsm.draw(uuid4())
    assert len({*first.check_values.values(), *second.check_values.values()}) == 24
    assert first.opaque_public_key != second.opaque_public_key
    seats = [opened(first, seat) for seat in range(1, 6)]
    for name in names.shared_names(5, 3):
        assert len({keys[name] for keys in seats if name in keys}) == 1


def test_the_public_key_is_the_one_that_every_seat_derives():
    made = hsm.draw(uuid4())
    seed = prf.prf(opened(made, 4)["identity"], prf.AKE_KEY_MESSAGE)[:32]
    assert _engines.opaque_derive_key_pair(seed)[1] == made.opaque_public_key


def test_a_ceremony_shows_no_secret():
    made = hsm.draw(uuid4())
    for secret in ("shares", made.shares[1][0][:60], "packages", repr(made.packages[1])[2:60]):
        assert secret not in repr(made)  # whole words: a single one may be "cluster"
    assert {len(words.split()) for shares in made.shares.values() for words in shares} == {33}


@pytest.mark.parametrize("scheme", [(5, 1), (5, 6), (10, 3), (1, 1), (0, 0)])
def test_an_impossible_scheme_is_refused(scheme):
    with pytest.raises(ValueError, match="need 2 ≤ threshold ≤ seats ≤ 9"):
        hsm.draw(uuid4(), *scheme)


@pytest.mark.parametrize("chosen", list(combinations(range(5), 3)), ids=str)
def test_any_three_custodians_open(chosen):
    assert join_seat_key([WORDS[number] for number in chosen]) == SEAT_KEY


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "0 shares given: exactly 3"),
        (WORDS[:2], "2 shares given: exactly 3"),
        (WORDS[:4], "4 shares given: exactly 3"),
        ([WORDS[0], WORDS[1], WORDS[0]], "given twice"),
        ([WORDS[0], WORDS[1], WORDS[2].rsplit(" ", 1)[0]], "share 3 has 32 words"),
        ([WORDS[0], "zebra " + WORDS[1].split(" ", 1)[1], WORDS[2]], "share 2 is mistyped"),
        ([WORDS[0], " ".join(reversed(WORDS[1].split())), WORDS[2]], "share 2 is mistyped"),
        ([WORDS[0], WORDS[1], split_seat_key(SEAT_KEY)[2]], "not of one seat"),
        ([WORDS[0], WORDS[1], ""], "share 3 has 0 words"),
    ],
)
def test_words_that_do_not_fit_are_refused_by_what_is_wrong(given, says):
    with pytest.raises(errors.WordsWrong, match=says) as caught:
        join_seat_key(given)
    assert not set(str(caught.value).split()) & (set(WORDS[0].split()) - OUR_WORDS)


def test_words_may_be_typed_untidily():
    untidy = [f"  {words.upper()} ".replace(" ", "  ") for words in WORDS[:3]]
    assert join_seat_key(untidy) == SEAT_KEY


@pytest.mark.parametrize("position", [0, 4, 5, 21, 22, 23, 24, 40, -1])
def test_a_changed_package_does_not_open(ceremony, position):
    changed = bytearray(ceremony.packages[2])
    changed[position] ^= 1
    with pytest.raises((errors.PackageBroken, errors.WordsWrong)):
        package.open_package(bytes(changed), join_seat_key(ceremony.shares[2][:3]))


@pytest.mark.parametrize("content", [b"", b"QVPK", b"QVPK\x01", b"QVPK\x02" + bytes(99), b"PK"])
def test_a_file_that_is_no_package_is_refused(content):
    with pytest.raises(errors.PackageBroken):
        package.read_header(content)


def test_a_package_without_exactly_its_seats_keys_is_refused(ceremony):
    header = package.read_header(ceremony.packages[2])
    keys = opened(ceremony, 3)
    forged = package.close_package(header, SEAT_KEY, keys)
    with pytest.raises(errors.PackageBroken, match="exactly the keys of seat 2"):
        package.open_package(forged, SEAT_KEY)
    for name in ("identity", "oprf/123"):
        fewer = {k: v for k, v in opened(ceremony, 2).items() if k != name}
        with pytest.raises(errors.PackageBroken, match="exactly the keys of seat 2"):
            package.open_package(package.close_package(header, SEAT_KEY, fewer), SEAT_KEY)


def test_check_values_survive_json(ceremony):
    text = json.dumps({name: value.hex() for name, value in ceremony.check_values.items()})
    assert {n: bytes.fromhex(v) for n, v in json.loads(text).items()} == ceremony.check_values
