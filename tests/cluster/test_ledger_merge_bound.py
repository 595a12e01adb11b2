"""What one replacement is worth to a leader that says anything: the bound of crypto.md.

Five seats, `owned` of them an adversary's: their shares are free, their rows are lies. Every honest
seat has the real ledger. An attempt is evaluated when three seats gave shares for it. Without a
replacement ⌊(5-c)·L/(3-c)⌋ attempts can be; one replacement adds at most ⌊L/(3-c)⌋.
"""

import itertools

import pytest
from record_kit import ID, LIMIT, RULES, A, att, h

from cluster.ledger import NO_ROW, Current, LedgerRow, on_activate, on_charge
from cluster.ledger_merge import fault, merge

SEATS = (1, 2, 3, 4, 5)
CURRENT = Current(A.id, A.era, A.request, A.key)
FRESH = on_activate(ID, NO_ROW, CURRENT)[0]
EMPTY_LIE = LedgerRow(A.era + 1, CURRENT, None, ())


class Game:
    """Honest ledgers, and every share that they let out."""

    def __init__(self, owned):
        self.owned = SEATS[:owned]
        self.honest = SEATS[owned:]
        self.rows = dict.fromkeys(self.honest, FRESH)
        self.given = {}

    def charge(self, seats, attempt):
        """The leader shows these seats a charge; True when all of them give their share."""
        taken = []
        for seat in seats:
            self.rows[seat], alarm = on_charge(RULES, self.rows[seat], A.id, A.era + 1, attempt)
            listed = attempt in self.rows[seat].ids and len(self.rows[seat].ids) <= LIMIT
            if listed and alarm is None:
                self.given.setdefault(attempt, set()).add(seat)
                taken.append(seat)
        return len(taken) == len(seats)

    def exhaust(self, groups):
        """Fresh attempts to these groups of seats, in turn, until no group gives any more."""
        number = itertools.count(1000 * (1 + len(self.given)))
        going = True
        while going:
            going = False
            for seats in groups:
                if all(len(self.rows[seat].ids) < LIMIT for seat in seats):
                    going = self.charge(seats, att(next(number))) or going

    def replace(self, seat, sources):
        """An honest node takes the seat, and merges the rows of these three others."""
        said = [EMPTY_LIE if each in self.owned else self.rows[each] for each in sources]
        assert all(fault(RULES, ID, row) is None for row in said)
        self.rows[seat] = merge(RULES, FRESH, said)

    @property
    def evaluated(self):
        needed = 3 - len(self.owned)
        return sum(1 for seats in self.given.values() if len(seats) >= needed)


def bound(owned, replacements=0):
    return (5 - owned) * LIMIT // (3 - owned) + replacements * (LIMIT // (3 - owned))


def pairs(*seats):
    return list(itertools.combinations(seats, 2))


@pytest.mark.parametrize("owned", [0, 1, 2])
def test_without_a_replacement_the_bound_is_reached_and_not_passed(owned):
    game = Game(owned)
    game.exhaust(list(itertools.combinations(game.honest, 3 - owned)))
    assert game.evaluated <= bound(owned)
    assert game.evaluated >= bound(owned) - 1


def test_with_two_owned_seats_a_replacement_is_worth_one_more_list():
    game = Game(2)
    game.exhaust([(3,)])
    game.replace(3, (1, 2, 4))
    game.exhaust([(3,), (4,), (5,)])
    assert game.evaluated == 40 == bound(2, replacements=1)


def test_with_one_owned_seat_a_replacement_is_worth_half_a_list():
    game = Game(1)
    game.exhaust([(2, 3)])
    game.replace(2, (1, 4, 5))
    game.exhaust(pairs(2, 4, 5))
    assert game.evaluated == 25 == bound(1, replacements=1)


def test_with_no_owned_seat_whatever_was_evaluated_is_in_the_merged_ledger():
    """Three of four others: of the two that helped in an evaluation one is always asked."""
    for sources in itertools.combinations((2, 3, 4, 5), 3):
        game = Game(0)
        game.exhaust(list(itertools.combinations(SEATS, 3)))
        before = game.evaluated
        mine = {attempt for attempt, seats in game.given.items() if 1 in seats and len(seats) == 3}
        game.replace(1, sources)
        assert mine <= set(game.rows[1].ids) or len(game.rows[1].ids) > LIMIT
        game.exhaust(list(itertools.combinations(SEATS, 3)))
        assert game.evaluated == before <= bound(0)


@pytest.mark.parametrize("owned", [0, 1, 2])
def test_on_an_honest_log_no_number_of_replacements_is_worth_anything(owned):
    """Every seat is shown every charge: the list is full everywhere, and stays so."""
    game = Game(owned)
    for number in range(LIMIT):
        assert game.charge(game.honest, att(number))
    for seat in (5, 4, 3, 5):
        others = [each for each in SEATS if each != seat]
        for sources in itertools.combinations(others, 3):
            game.replace(seat, sources)
            assert len(game.rows[seat].ids) == LIMIT
    assert not game.charge((5,), h("one more"))
    assert game.evaluated == LIMIT
