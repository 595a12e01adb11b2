"""The threshold OPRF: any three of five evaluate, two never; malformed input goes nowhere (I1)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sodium_client
from bad_elements import BAD_ELEMENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from table_vault import CLUSTER_ID, REGISTRATION_ID, TableVault, subset_keys

from engines import _engines

VAULT = TableVault()
ELEMENT = sodium_client.hash_to_group(b"element")
OTHER = sodium_client.hash_to_group(b"another element")
SHARES = VAULT.shares(ELEMENT)
EVALUATION = VAULT.evaluate(ELEMENT)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def scalar(value: int) -> bytes:
    return (value % GROUP_ORDER).to_bytes(32, "little")


def with_share(seat: int, share: bytes) -> list[tuple[int, bytes]]:
    return [(j, share if j == seat else own) for j, own in SHARES]


# ------------------------------------------------------------------ three evaluate, two do not


@pytest.mark.parametrize("seats", list(itertools.permutations(range(1, 6), 3)))
def test_any_three_seats_in_any_order_give_the_same_evaluation(seats: tuple[int, ...]) -> None:
    assert VAULT.evaluate(ELEMENT, seats) == EVALUATION


def test_the_evaluation_is_by_the_sum_of_all_subset_scalars() -> None:
    total = sum(
        int.from_bytes(prf, "little")
        for seats in VAULT.keys
        for held, prf in VAULT.subset_prfs(seats[0])
        if held == seats
    )
    assert sodium_client.multiply(scalar(total), ELEMENT) == EVALUATION


@pytest.mark.parametrize("pair", list(itertools.combinations(range(1, 6), 2)))
def test_two_seats_miss_exactly_one_subset_key(pair: tuple[int, int]) -> None:
    held = VAULT.held_by(pair[0]) | VAULT.held_by(pair[1])
    missing = set(VAULT.keys) - set(held)
    assert missing == {bytes(seat for seat in VAULT.seats if seat not in pair)}


@pytest.mark.parametrize("pair", list(itertools.combinations(range(1, 6), 2)))
def test_everything_that_two_seats_hold_fits_every_evaluation(pair: tuple[int, int]) -> None:
    (missing,) = set(VAULT.keys) - set(VAULT.held_by(pair[0]) | VAULT.held_by(pair[1]))
    worlds = [VAULT.with_key(missing, bytes((world,)) * 64) for world in range(3)]
    for seat in pair:
        assert {world.share(seat, ELEMENT) for world in worlds} == {VAULT.share(seat, ELEMENT)}
    assert len({world.evaluate(ELEMENT) for world in worlds}) == len(worlds)


@pytest.mark.parametrize("pair", list(itertools.combinations(SHARES, 2)))
def test_two_shares_combine_to_something_else(pair: tuple[tuple[int, bytes], ...]) -> None:
    assert _engines.threshold_combine(pair) != EVALUATION


def test_shares_of_another_registration_or_element_do_not_combine() -> None:
    elsewhere = TableVault(registration_id=bytes(32))
    for foreign in (elsewhere.share(3, ELEMENT), VAULT.share(3, OTHER)):
        assert _engines.threshold_combine([SHARES[0], SHARES[1], (3, foreign)]) != EVALUATION


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_scheme_up_to_seven_seats_evaluates_alike(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    t = data.draw(st.integers(1, n))
    vault = TableVault(n, t, subset_keys(n, t, str(data.draw(st.integers()))))
    element = sodium_client.hash_to_group(data.draw(st.binary(max_size=64)))
    shares = vault.shares(element)
    first = data.draw(st.permutations(shares))[:t]
    second = data.draw(st.permutations(shares))[:t]
    assert _engines.threshold_combine(first) == _engines.threshold_combine(second)
    if n > t:
        assert _engines.threshold_consistent(t, shares)
        assert _engines.threshold_liars(t, shares) == (_engines.threshold_combine(first), [])


# ------------------------------------------------------------------ consistency and liars


@pytest.mark.parametrize("liar", VAULT.seats)
@pytest.mark.parametrize("lie", [OTHER, sodium_client.multiply(scalar(2), ELEMENT)])
def test_of_five_shares_a_single_liar_is_named(liar: int, lie: bytes) -> None:
    shares = with_share(liar, lie)
    assert not _engines.threshold_consistent(3, shares)
    assert _engines.threshold_liars(3, shares) == (EVALUATION, [liar])
    assert _engines.threshold_liars(3, shares[::-1]) == (EVALUATION, [liar])


@pytest.mark.parametrize("seats", list(itertools.combinations(range(5), 4)))
def test_four_shares_detect_a_liar_but_cannot_name_it(seats: tuple[int, ...]) -> None:
    honest = [SHARES[i] for i in seats]
    assert _engines.threshold_consistent(3, honest)
    assert _engines.threshold_liars(3, honest) == (EVALUATION, [])
    lying = [(honest[0][0], OTHER), *honest[1:]]
    assert not _engines.threshold_consistent(3, lying)
    assert _engines.threshold_liars(3, lying) == (None, [])


def test_two_liars_who_do_not_agree_leave_it_undecided() -> None:
    shares = [(1, OTHER), (2, ELEMENT), *SHARES[2:]]
    assert _engines.threshold_liars(3, shares) == (None, [])


def test_two_who_collude_can_frame_a_third_which_is_denial_of_service_only() -> None:
    # Seat 1 lies; seat 2 puts its share on the polynomial through 1, 3 and 4 (crypto.md).
    lie, points = OTHER, {3: SHARES[2][1], 4: SHARES[3][1]}
    framed = forge(2, {1: lie, **points})
    shares = [(1, lie), (2, framed), *SHARES[2:]]
    evaluation, liars = _engines.threshold_liars(3, shares)
    assert liars == [5]
    assert evaluation != EVALUATION


def forge(at: int, points: dict[int, bytes]) -> bytes:
    """The polynomial through `points` at seat `at`, by libsodium."""
    total: bytes | None = None
    for own, point in points.items():
        factor = 1
        for other in points:
            if other != own:
                factor = factor * (at - other) * pow(own - other, -1, GROUP_ORDER)
        term = sodium_client.multiply(scalar(factor), point)
        total = term if total is None else sodium_client.add(total, term)
    assert total is not None
    return total


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_consistency_of_no_more_than_t_shares_is_no_question(count: int) -> None:
    for function in (_engines.threshold_consistent, _engines.threshold_liars):
        with pytest.raises(ValueError, match="more than t=3"):
            function(3, SHARES[:count])


# ------------------------------------------------------------------ proofs of registration shares

PROVEN = {seat: VAULT.proven(seat, ELEMENT) for seat in VAULT.seats}


def verify(seat: int, /, **changes: Any) -> bool:
    share, point, proof = PROVEN[seat]
    arguments = {
        "cluster_id": CLUSTER_ID,
        "registration_id": REGISTRATION_ID,
        "seat": seat,
        "element": ELEMENT,
        "share": share,
        "point": point,
        "proof": proof,
    }
    return _engines.threshold_verify(**(arguments | changes))


@pytest.mark.parametrize("seat", VAULT.seats)
def test_a_share_with_its_proof_verifies_and_is_the_plain_share(seat: int) -> None:
    assert PROVEN[seat][0] == SHARES[seat - 1][1]
    assert verify(seat)


def test_every_proof_is_drawn_afresh() -> None:
    again = VAULT.proven(1, ELEMENT)
    assert again[:2] == PROVEN[1][:2]
    assert again[2] != PROVEN[1][2]


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_id": bytes(16)},
        {"cluster_id": CLUSTER_ID + b"\0"},
        {"cluster_id": b""},
        {"registration_id": bytes(32)},
        {"registration_id": REGISTRATION_ID[:31]},
        {"seat": 2},
        {"seat": 0},
        {"seat": 255},
        {"seat": 256},
        {"seat": -1},
        {"seat": 2**70},
        {"element": OTHER},
        {"share": OTHER},
        {"share": PROVEN[2][0]},
        {"point": PROVEN[2][1]},
        {"point": OTHER},
        {"proof": PROVEN[2][2]},
        {"proof": bytes(64)},
        {"proof": b""},
        {"proof": PROVEN[1][2] + b"\0"},
        {"proof": PROVEN[1][2][:32] + b"\xff" * 32},
        {"proof": b"\xff" * 32 + PROVEN[1][2][32:]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_proof_is_bound_to_everything_that_it_speaks_of(change: dict[str, Any]) -> None:
    assert not verify(1, **change)


@pytest.mark.parametrize("half", [0, 32], ids=["c", "z"])
def test_a_scalar_of_a_proof_is_canonical(half: int) -> None:
    proof = PROVEN[1][2]
    value = int.from_bytes(proof[half : half + 32], "little") + GROUP_ORDER
    raised = proof[:half] + value.to_bytes(32, "little") + proof[half + 32 :]
    assert not verify(1, proof=raised)


@given(st.integers(0, 64 * 8 - 1))
def test_no_flipped_bit_of_a_proof_passes(bit: int) -> None:
    proof = bytearray(PROVEN[1][2])
    proof[bit // 8] ^= 1 << bit % 8
    assert not verify(1, proof=bytes(proof))


def test_a_share_under_another_key_has_no_proof() -> None:
    # An owned data center that wants to choose the key: right point, share of its own making.
    forged = TableVault(keys=subset_keys(5, 3, "its own")).proven(1, ELEMENT)
    assert not verify(1, share=forged[0], proof=forged[2])
    assert not verify(1, share=forged[0], point=forged[1])


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("bad", BAD_ELEMENTS.values(), ids=BAD_ELEMENTS)
def test_no_function_takes_a_bad_element(bad: bytes) -> None:
    assert not _engines.element_is_valid(bad)
    for field in ("element", "share", "point"):
        assert not verify(1, **{field: bad})
    with pytest.raises(ValueError, match="blinded element must be"):
        VAULT.share(1, bad)
    with pytest.raises(ValueError, match="blinded element must be"):
        VAULT.proven(1, bad)
    for seat in VAULT.seats:
        for function, arguments in (
            (_engines.threshold_combine, ()),
            (_engines.threshold_consistent, (3,)),
            (_engines.threshold_liars, (3,)),
        ):
            with pytest.raises(ValueError, match=f"share of seat {seat} must be"):
                function(*arguments, with_share(seat, bad))


def test_good_elements_are_taken() -> None:
    for element in (ELEMENT, OTHER, EVALUATION, sodium_client.multiply_base(scalar(1))):
        assert _engines.element_is_valid(element)


def test_a_combination_to_the_identity_is_refused() -> None:
    # λ(0) for seats 1, 2 is 2, -1: twice the first is the second.
    cancelling = [(1, ELEMENT), (2, sodium_client.multiply(scalar(2), ELEMENT))]
    with pytest.raises(ValueError, match="identity"):
        _engines.threshold_combine(cancelling)
    line = [*cancelling, (3, sodium_client.multiply(scalar(3), ELEMENT))]
    assert _engines.threshold_consistent(2, line)
    with pytest.raises(ValueError, match="identity"):
        _engines.threshold_liars(2, line)


@pytest.mark.parametrize(
    "shares",
    [
        [],
        [SHARES[0], SHARES[0], SHARES[2]],
        [(0, ELEMENT), *SHARES],
        [(10, ELEMENT), *SHARES],
        [(256, ELEMENT), *SHARES],
        [(-1, ELEMENT), *SHARES],
        [*SHARES, (1, OTHER)],
    ],
    ids=["none", "repeated", "seat 0", "seat 10", "seat 256", "seat -1", "repeated, other"],
)
def test_shares_of_no_or_doubled_seats_are_refused(shares: list[tuple[int, bytes]]) -> None:
    with pytest.raises(ValueError):
        _engines.threshold_combine(shares)
    with pytest.raises(ValueError):
        _engines.threshold_liars(2, shares)


PRFS = VAULT.subset_prfs(1)
BAD_PRFS: dict[str, list[tuple[bytes, bytes]]] = {
    "none": [],
    "one missing": PRFS[1:],
    "one doubled": [*PRFS[1:], PRFS[1]],
    "one too many": [*PRFS, (b"\x02\x03\x04", bytes(64))],
    "another seat's set": [*PRFS[1:], (b"\x02\x03\x04", bytes(64))],
    "set not ascending": [(PRFS[0][0][::-1], PRFS[0][1]), *PRFS[1:]],
    "set with a seat twice": [(b"\x01\x01\x02", PRFS[0][1]), *PRFS[1:]],
    "set too small": [(b"\x01\x02", PRFS[0][1]), *PRFS[1:]],
    "set too large": [(b"\x01\x02\x03\x04", PRFS[0][1]), *PRFS[1:]],
    "seat beyond n": [(b"\x01\x02\x06", PRFS[0][1]), *PRFS[1:]],
    "seat zero": [(b"\x00\x01\x02", PRFS[0][1]), *PRFS[1:]],
    "set of digits": [(b"123", PRFS[0][1]), *PRFS[1:]],
    "PRF too short": [(PRFS[0][0], bytes(63)), *PRFS[1:]],
    "PRF too long": [(PRFS[0][0], bytes(65)), *PRFS[1:]],
    "a key of zeros": [(seats, bytes(64)) for seats, _ in PRFS],
}


@pytest.mark.parametrize("prfs", BAD_PRFS.values(), ids=BAD_PRFS)
def test_anything_but_exactly_the_seats_sets_is_refused(prfs: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match=r"subset PRF"):
        _engines.threshold_share(1, 5, 3, prfs, ELEMENT)
    with pytest.raises(ValueError, match=r"subset PRF"):
        _engines.threshold_share_proven(CLUSTER_ID, REGISTRATION_ID, 1, 5, 3, prfs, ELEMENT)


def test_the_order_of_the_sets_does_not_matter() -> None:
    share = _engines.threshold_share(1, 5, 3, PRFS[::-1], ELEMENT)
    assert share == SHARES[0][1]


@pytest.mark.parametrize(
    ("seat", "n", "t"),
    [(0, 5, 3), (6, 5, 3), (-1, 5, 3), (300, 5, 3), (1, 0, 0), (1, 3, 4), (1, 5, 0), (1, 10, 5)],
)
def test_a_scheme_or_seat_out_of_range_is_refused(seat: int, n: int, t: int) -> None:
    with pytest.raises(ValueError):
        _engines.threshold_share(seat, n, t, PRFS, ELEMENT)


@pytest.mark.parametrize("field", ["cluster_id", "registration_id"])
def test_a_proof_is_made_only_for_ids_of_the_exact_length(field: str) -> None:
    ids = {"cluster_id": CLUSTER_ID, "registration_id": REGISTRATION_ID}
    ids[field] += b"\0"
    with pytest.raises(ValueError, match=f"{field} must be"):
        _engines.threshold_share_proven(*ids.values(), 1, 5, 3, PRFS, ELEMENT)


def test_other_types_are_type_errors() -> None:
    with pytest.raises(TypeError):
        _engines.element_is_valid("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engines.threshold_combine([("1", ELEMENT)])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        _engines.threshold_combine([(1, ELEMENT.hex())])  # type: ignore[list-item]
