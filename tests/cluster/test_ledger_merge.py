"""Merging ledgers of other seats into a joiner's: every sentence of crypto.md's rule."""

import itertools
import random

import pytest
from record_kit import BAD_SIGNATURE, ID, LIMIT, RULES, A, B, Phone, att, h

from cluster.ledger import (
    MAX_ROW_IDS,
    NO_ROW,
    Current,
    LedgerRow,
    Proved,
    ShareRefusal,
    decode_row,
    encode_row,
    may_share,
)
from cluster.ledger_merge import fault, merge
from cluster.record import Record, Registration


def current(phone):
    return Current(phone.id, phone.era, phone.request, phone.key)


def proof(phone, era, number):
    return Proved(era, att(number), phone.prove(era, att(number)).signature)


def row(phone, *numbers, proved=None):
    return LedgerRow(phone.era + 1, current(phone), proved, tuple(att(n) for n in numbers))


def gone(floor):
    return LedgerRow(floor, None, None, ())


def merged(own, *others):
    return merge(RULES, own, others)


# ---------------------------------------------------------------- the rule, sentence by sentence


def test_no_row_anywhere_stays_no_row():
    assert merged(None, None, None, None) == NO_ROW


def test_the_floor_is_the_highest():
    assert merged(gone(3), gone(7), None, gone(5)) == gone(7)


def test_current_is_that_of_the_rows_with_the_highest_floor():
    assert A.era < B.era
    assert merged(row(A, 1), row(B, 2), row(A, 3), None) == row(B, 2)


def test_current_is_none_if_the_rows_with_the_highest_floor_differ():
    rival = Phone("rival", B.era)
    assert merged(row(B, 1), row(rival, 2), row(B, 1), row(B, 1)) == gone(B.era + 1)


def test_none_counts_as_a_difference():
    assert merged(row(B, 1), gone(B.era + 1), row(B, 1), row(B, 1)) == gone(B.era + 1)


def test_a_row_of_a_lower_floor_adds_nothing():
    assert merged(row(B, 1), row(A, 2), gone(1), None) == row(B, 1)


def test_proved_is_the_highest_among_the_rows_with_this_current():
    early, late = proof(A, 1, 1), proof(A, 4, 2)
    made = merged(row(A, 3, proved=early), row(A, proved=late), row(A, 5), None)
    assert made == row(A, proved=late)


def test_ids_are_the_union_of_the_rows_with_this_current_and_this_proved():
    late = proof(A, 4, 9)
    made = merged(
        row(A, 1, proved=late), row(A, 2, 1, proved=late), row(A, 3), row(A, 0, proved=late)
    )
    assert made == row(A, 1, 2, 0, proved=late)


def test_without_any_proof_all_ids_of_this_current_are_united():
    assert merged(None, row(A, 1), row(A, 2), row(A, 1)) == row(A, 1, 2)


def test_two_proofs_of_one_era_count_the_ids_of_both():
    one, other = proof(A, 4, 1), proof(A, 4, 2)
    made = merged(row(A, 5, proved=one), row(A, 6, proved=other), None, None)
    assert set(made.ids) == {att(5), att(6)}
    assert made.proved.era == 4


def test_our_own_row_counts_like_any_other():
    assert merged(row(A, 1), None, None, None) == row(A, 1)
    assert merged(gone(9), row(A, 1), row(A, 1), row(A, 1)) == gone(9)


def holding(*numbers):
    """A record of A that lists these attempts."""
    active = Registration(A.id, A.era, A.request, A.key, A.sealed)
    return Record(5, A.era + 1, active, None, tuple(att(n) for n in numbers), None, False)


def test_more_than_limit_gives_no_share_at_all():
    numbers = list(range(LIMIT + 3))
    full = merged(row(A, *numbers[:LIMIT]), row(A, *numbers[3:]), None, None)
    for number in numbers:
        refused = may_share(RULES, full, holding(number), A.id, att(number))
        assert refused is ShareRefusal.LEDGER_FULL


def test_exactly_limit_gives_shares_for_those_and_no_others():
    full = merged(None, row(A, *range(LIMIT - 1)), row(A, LIMIT - 1), None)
    record = holding(*range(LIMIT + 1))
    for number in range(LIMIT):
        assert may_share(RULES, full, record, A.id, att(number)) is None
    assert may_share(RULES, full, record, A.id, att(LIMIT)) is ShareRefusal.LEDGER_FULL


def test_the_longest_lists_of_liars_make_a_row_that_can_be_stored():
    lists = [row(A, *range(start, start + MAX_ROW_IDS)) for start in (0, 1000, 2000)]
    made = merged(row(A, 5000), *lists)
    assert len(made.ids) == LIMIT + 1
    assert decode_row(encode_row(made)) == made


@pytest.mark.parametrize("seed", range(40))
def test_the_merge_counts_no_less_than_any_row_and_asks_nobody_s_order(seed):
    chance = random.Random(seed)
    phones = [A, B, Phone("rival", B.era)]

    def any_row():
        if chance.random() < 0.2:
            return None
        if chance.random() < 0.2:
            return gone(chance.randrange(8))
        phone = chance.choice(phones)
        proved = proof(phone, chance.randrange(6, 8), 1) if chance.random() < 0.4 else None
        return row(phone, *chance.sample(range(10), chance.randrange(3)), proved=proved)

    rows = [any_row() for _ in range(4)]
    made = merged(*rows)
    for order in itertools.permutations(rows):
        again = merged(*order)
        assert (again.floor, again.current) == (made.floor, made.current)
        assert (again.proved is None) == (made.proved is None)
        assert set(again.ids) == set(made.ids)
    for each in (row or NO_ROW for row in rows):
        assert made.floor >= each.floor
        if made.current is not None and each.current == made.current:
            proven = -1 if made.proved is None else made.proved.era
            before = -1 if each.proved is None else each.proved.era
            assert proven >= before
            if proven == before:
                assert set(each.ids) <= set(made.ids)
    assert decode_row(encode_row(made)) == made


# ---------------------------------------------------------------- what no honest node has


@pytest.mark.parametrize(
    "honest",
    [NO_ROW, gone(7), row(A), row(A, 1, 2), row(A, 3, proved=proof(A, 1, 1))],
    ids=["none", "deleted", "fresh", "with attempts", "proven"],
)
def test_a_row_that_moves_lead_to_is_accepted(honest):
    assert fault(RULES, ID, honest) is None


def unbound():
    return LedgerRow(A.era + 1, Current(h("x"), A.era, A.request, A.key), None, ())


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        (unbound(), "does not recompute"),
        (LedgerRow(A.era + 2, current(A), None, ()), "birth era"),
        (row(A, proved=Proved(3, att(1), BAD_SIGNATURE)), "does not verify"),
        (row(A, proved=proof(B, 3, 1)), "does not verify"),
        (row(A, proved=Proved(4, att(1), proof(A, 3, 1).signature)), "does not verify"),
        (row(A, proved=Proved(3, att(2), proof(A, 3, 1).signature)), "does not verify"),
    ],
    ids=["unbound", "floor", "signature", "another's proof", "another era", "another attempt"],
)
def test_a_row_that_could_not_have_come_about_is_refused(forged, words):
    assert words in fault(RULES, ID, forged)


def test_a_row_of_another_record_is_refused():
    assert "does not recompute" in fault(RULES, h("another record"), row(A, 1))
