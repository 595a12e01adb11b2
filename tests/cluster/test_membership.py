"""The decision which member changes next: the order of the book, and every reason to refrain."""

import random

import msgspec
import pytest

from chaos.sim.book import Book
from cluster import book as books
from cluster.membership import (
    Change,
    Kind,
    Refrain,
    View,
    contradiction,
    decode_change,
    encode_change,
    foreign_members,
    is_step,
    next_change,
)
from cluster.tables import decode_group, encode_row, founding_group
from cluster.types import MAX_COUNTER, InvariantError
from engines._engines import encode_conf_change

FOUNDED = Book.founded(5, 2, 3, 5.0)
REPLACED, _ = FOUNDED.replaced(4)
TWICE, _ = REPLACED.replaced(2)
AGAIN, _ = REPLACED.replaced(6)
EVERYBODY = frozenset(range(1, 12))


def decide(book, voters, learners=(), *, revision=0, alive=EVERYBODY, ripe=()):
    view = View(
        shard=0,
        voters=tuple(voters),
        learners=tuple(learners),
        revision=revision,
        alive=frozenset(alive),
        ripe=frozenset(ripe),
    )
    return next_change(book.shape(1), view)


@pytest.mark.parametrize(
    ("book", "voters", "learners", "ripe", "change"),
    [
        (FOUNDED, (1, 2, 3, 4, 5), (), (), None),
        (REPLACED, (1, 2, 3, 4, 5), (), (), (Kind.REMOVE, 4)),
        (REPLACED, (1, 2, 3, 5), (), (), (Kind.ADD_LEARNER, 6)),
        (REPLACED, (1, 2, 3, 5), (6,), (), None),
        (REPLACED, (1, 2, 3, 5), (6,), (6,), (Kind.ADD_VOTER, 6)),
        (REPLACED, (1, 2, 3, 5, 6), (), (), None),
        (TWICE, (1, 2, 3, 4, 5), (), (), (Kind.REMOVE, 2)),
        (TWICE, (1, 3, 4, 5), (), (), (Kind.ADD_LEARNER, 6)),
        (TWICE, (1, 2, 3, 5), (6,), (6,), (Kind.ADD_LEARNER, 7)),
        (TWICE, (1, 2, 3, 5), (6, 7), (6, 7), (Kind.ADD_VOTER, 6)),
        (TWICE, (1, 2, 3, 5, 6), (7,), (7,), (Kind.REMOVE, 2)),
        (TWICE, (1, 3, 5, 6), (7,), (7,), (Kind.ADD_VOTER, 7)),
        (AGAIN, (1, 2, 3, 5), (6,), (6,), (Kind.REMOVE, 6)),
        (AGAIN, (1, 2, 3, 5), (), (), (Kind.ADD_LEARNER, 7)),
        (AGAIN, (1, 2, 3, 4, 5), (), (), (Kind.REMOVE, 4)),
    ],
    ids=[
        "as the book says",
        "first the replaced node goes",
        "then its successor learns",
        "a learner that is not ready stays one",
        "a ripe learner votes",
        "and the book is fulfilled",
        "of two that go, one goes",
        "the other stays while that seat is empty, and a successor learns",
        "and the other one's successor learns, too",
        "the empty seat is taken first",
        "then the other one goes, too",
        "and its seat is taken",
        "a learner that was replaced itself goes",
        "its successor comes in its place",
        "a node that was replaced twice over goes first",
    ],
)
def test_one_step_towards_the_book(book, voters, learners, ripe, change):
    made = decide(book, voters, learners, revision=0, ripe=ripe)
    assert made == (None if change is None else Change(*change, book.revision))


def test_a_leader_with_an_older_book_than_the_shard_has_seen_proposes_nothing():
    refrain = decide(FOUNDED, (1, 2, 3, 5), (6,), revision=1, ripe=(6,))
    assert isinstance(refrain, Refrain)
    assert "revision 0" in refrain.why
    assert "revision 1" in refrain.why
    assert "member sync" in refrain.why


@pytest.mark.parametrize(
    ("voters", "learners", "gone"),
    [
        ((1, 2, 3, 5), (), 4),
        ((1, 2, 3, 5), (6,), 4),
        ((1, 2, 3, 5, 6), (), 4),
        ((2, 3, 5, 6, 8), (), 7),
    ],
    ids=["its seat is empty", "its successor learns", "its successor votes", "a later newcomer"],
)
def test_a_leader_whose_book_has_whom_another_book_removed_changes_nothing(voters, learners, gone):
    """Two operators replaced two nodes from two copies; the shard followed the one, it the other.

    It would take a third node out, and bring an old id back with its old disk.
    """
    other, _ = FOUNDED.replaced(3 if gone == 4 else 1)
    if gone == 7:
        other, _ = other.replaced(4)
    refrain = decide(other, voters, learners, revision=other.revision)
    assert isinstance(refrain, Refrain)
    assert f"node {gone} was removed from shard 0" in refrain.why


@pytest.mark.parametrize(
    ("alive", "removed"),
    [
        ({1, 2, 3, 5}, True),
        ({1, 2, 3}, True),
        ({1, 2, 3, 4}, True),
        ({1, 2}, False),
        ({1, 2, 4}, False),
        ({1, 4}, False),
        ({1, 2, 4, 6}, False),
    ],
)
def test_a_voter_is_removed_only_if_those_that_stay_can_decide_without_it(alive, removed):
    made = decide(REPLACED, (1, 2, 3, 4, 5), alive=alive)
    assert isinstance(made, Change if removed else Refrain)
    if isinstance(made, Refrain):
        assert "node 4 is not removed yet" in made.why


def test_a_second_seat_is_not_emptied_while_one_is():
    """Three voters would acknowledge with two: what the loss of two DCs may then take (I4)."""
    refrain = decide(TWICE, (1, 2, 3, 5), (6, 7), ripe=(7,))
    assert isinstance(refrain, Refrain)
    assert "node 2 is not removed yet" in refrain.why
    assert "another seat is empty" in refrain.why


def test_a_replaced_learner_is_removed_whoever_is_away():
    assert decide(AGAIN, (1, 2, 3, 5), (6,), alive={1, 2}) == Change(Kind.REMOVE, 6, 2)


def test_nobody_is_promoted_if_the_new_voters_could_not_decide():
    assert decide(REPLACED, (1, 2, 3, 5), (6,), alive={1, 6}, ripe=(6,)) is None
    assert decide(REPLACED, (1, 2, 3, 5), (6,), alive={1, 2, 6}, ripe=(6,)) is not None


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_no_two_voters_share_a_seat_and_the_book_is_reached(seed):
    """Leaders with any book, failures, and replacements in the middle of others."""
    chance = random.Random(seed)
    books_ = [FOUNDED]
    voters, learners, revision = {1, 2, 3, 4, 5}, set(), 0
    for step in range(90):
        if step <= 60 and len(books_) < 6 and chance.random() < 0.1:
            books_.append(books_[-1].replaced(chance.choice(sorted(books_[-1].seats)))[0])
        book = books_[-1] if step > 60 else chance.choice(books_)
        everybody = voters | learners
        alive = everybody if step > 60 else {n for n in everybody if chance.random() < 0.8}
        ripe = alive & learners
        made = decide(
            book, sorted(voters), sorted(learners), revision=revision, alive=alive, ripe=ripe
        )
        if isinstance(made, Change):
            before = len(voters)
            if made.kind is Kind.REMOVE:
                voters -= {made.node}
                learners -= {made.node}
                assert made.node not in books_[-1].seats
            elif made.kind is Kind.ADD_LEARNER:
                learners |= {made.node}
            else:
                learners -= {made.node}
                voters |= {made.node}
            assert made.revision >= revision
            revision = made.revision
            assert abs(len(voters) - before) <= 1
            assert len(voters) >= 4, "two seats are empty"
        seats = dict(FOUNDED.seats)
        for each in books_:
            seats |= each.seats
        taken = [seats[node] for node in voters]
        assert len(set(taken)) == len(taken), "two voters of one seat"
    assert voters == set(books_[-1].seats)
    assert not learners


@pytest.mark.parametrize("kind", list(Kind))
def test_a_change_and_its_revision_go_through_the_log(kind):
    change = Change(kind, 6, 7)
    assert decode_change(2, encode_change(change)) == change


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        encode_conf_change([(2, 6)]),
        encode_conf_change([(2, 6)], b"\x01"),
        encode_conf_change([(2, 6)], MAX_COUNTER.to_bytes(8, "big")),
    ],
    ids=["nothing", "garbage", "no revision", "short revision", "a revision beyond every bound"],
)
def test_a_change_that_no_leader_of_ours_makes_is_none(data):
    assert decode_change(2, data) is None


# ---------------------------------------------------------------- books


def test_a_newer_book_goes_on_from_an_older_one():
    old, new = FOUNDED.shape(1), REPLACED.shape(1)
    assert books.is_newer(old, new)
    assert not books.is_newer(new, new)
    assert books.went_and_came(old, new) == ([4], [6])
    assert books.went_and_came(old, TWICE.shape(1)) == ([2, 4], [6, 7])
    assert books.went_and_came(old, AGAIN.shape(1)) == ([4], [7])


def shape(**changes):
    return msgspec.structs.replace(REPLACED.shape(1), **changes)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (FOUNDED.shape(1), "does not go on"),
        (REPLACED.shape(2), "more than the members differs"),
        (shape(limit=11, revision=2), "more than the members differs"),
        (shape(founders=(1, 2, 3, 5, 6), revision=2), "more than the members differs"),
        (shape(retired={}, revision=2), "does not go on"),
        (shape(retired={4: 7}, revision=2), "does not go on"),
        (shape(retired={4: 6, 6: 7}, revision=2), "a replaced node among the members"),
        (shape(seats={1: 1, 2: 2, 3: 3, 5: 5}, revision=2), "not every seat once"),
        (shape(seats={1: 1, 2: 2, 3: 3, 5: 4, 6: 4}, revision=2), "not every seat once"),
        (FOUNDED.replaced(3)[0].shape(1), "does not go on"),
    ],
    ids=[
        "older",
        "of another node",
        "another limit",
        "other founders",
        "a retired node is back",
        "another successor",
        "retired and a member",
        "a seat without a node",
        "two nodes in one seat",
        "another history of the same revision",
    ],
)
def test_a_book_that_does_not_go_on_from_ours_stops_the_node(new, words):
    with pytest.raises(InvariantError, match=words):
        books.is_newer(REPLACED.shape(1), new)


def test_a_retired_node_is_told_who_replaced_it():
    assert REPLACED.shape(1).retirement() is None
    line = REPLACED.shape(4).retirement()
    assert "node 4 was replaced by node 6" in line
    assert "destroy its HSM keys" in line


def test_a_group_row_from_before_replacements_is_a_founder_s():
    row = founding_group((1, 2, 3, 4, 5))
    older = msgspec.msgpack.decode(encode_row(row))[:-2]
    assert decode_group(encode_row(older)) == row
    assert (row.revision, row.ledger) == (0, True)


# ---------------------------------------------------------------- out of somebody's log


@pytest.mark.parametrize(
    ("kind", "node", "voters", "learners", "step"),
    [
        (Kind.ADD_LEARNER, 6, (1, 2, 3, 5), (), True),
        (Kind.ADD_LEARNER, 6, (1, 2, 3, 5), (6,), False),
        (Kind.ADD_LEARNER, 5, (1, 2, 3, 5), (), False),
        (Kind.ADD_VOTER, 6, (1, 2, 3, 5), (6,), True),
        (Kind.ADD_VOTER, 6, (1, 2, 3, 5), (), False),
        (Kind.ADD_VOTER, 5, (1, 2, 3, 5), (6,), False),
        (Kind.REMOVE, 4, (1, 2, 3, 4, 5), (), True),
        (Kind.REMOVE, 6, (1, 2, 3, 5), (6,), True),
        (Kind.REMOVE, 5, (1, 2, 3, 5), (6,), False),
        (Kind.REMOVE, 9, (1, 2, 3, 4, 5), (), False),
    ],
)
def test_only_what_a_leader_of_ours_can_do_from_these_members_has_an_effect(
    kind, node, voters, learners, step
):
    assert is_step(Change(kind, node, 7), voters, learners, seats=5) is step


@pytest.mark.parametrize("book", [FOUNDED, REPLACED, TWICE, AGAIN])
def test_no_step_that_is_due_is_ruled_out_by_any_book_that_knows_it(book):
    shape = book.shape(1)
    voters, learners = [1, 2, 3, 4, 5], []
    for _ in range(20):
        change = decide(book, voters, learners, ripe=learners)
        if change is None:
            break
        assert is_step(change, tuple(voters), tuple(learners), seats=5)
        for reader in sorted({*shape.seats, *shape.retired}):
            said = contradiction(book.shape(reader), change)
            own_end = change.kind is Kind.REMOVE and reader == change.node
            assert said == ("it removes this node" if own_end else None)
        learners = [node for node in learners if node != change.node]
        voters = [node for node in voters if node != change.node]
        if change.kind is not Kind.REMOVE:
            (voters if change.kind is Kind.ADD_VOTER else learners).append(change.node)
        members = (tuple(voters), tuple(learners))
        for reader in sorted({*voters, *learners}):
            votes = reader in voters
            own = book.shape(reader)
            assert foreign_members(own, *members, book.revision, votes=votes) is None
    assert sorted(voters) == sorted(shape.seats)
    assert not learners


@pytest.mark.parametrize(
    ("book", "kind", "node", "revision", "why"),
    [
        (FOUNDED, Kind.REMOVE, 1, 0, "this node"),
        (FOUNDED, Kind.REMOVE, 1, 9, "this node"),
        (FOUNDED, Kind.REMOVE, 4, 9, None),
        (REPLACED, Kind.REMOVE, 4, 1, None),
        (FOUNDED, Kind.ADD_LEARNER, 1, 9, "from the start"),
        (FOUNDED, Kind.ADD_VOTER, 3, 0, "from the start"),
        (FOUNDED, Kind.ADD_LEARNER, 6, 1, None),
        (AGAIN, Kind.ADD_VOTER, 6, 1, None),
    ],
)
def test_what_is_in_no_log_of_this_node_whoever_leads(book, kind, node, revision, why):
    said = contradiction(book.shape(1), Change(kind, node, revision))
    assert (said is None) if why is None else why in said
