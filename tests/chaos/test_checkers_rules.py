"""Each checker by hand: a good history passes, and each way of breaking a rule is named."""

from __future__ import annotations

import pytest
from checker_kit import LIMIT, Story, name, seen

from chaos import witness
from chaos.checkers import Final, NodeState, durable, judge
from chaos.checkers.linearizable import Search
from chaos.checkers.model import Model
from chaos.checkers.operations import pair
from chaos.history import Event


def found(story, final=None, limit=LIMIT):
    findings = judge(story.events, story.testimony, final or Final(), limit)
    return {(each.check, each.rule) for each in findings}


def good():
    """A life with everything in it: guesses, a proof, exhaustion, a lock, a new key, a deletion."""
    story = Story().enrolled().looked("active", 3, 1, 2)
    story.guessed("a", 2, 3).gave("a").guessed("a", 2, 3, replayed=True, client=2)
    story.proved("a", 4).looked("active", 3, 2, 4, node=2)
    for number, attempt in enumerate("bcd"):
        story.guessed(attempt, 2 - number, 5 + number, era=2).gave(attempt, 3, 4, 5, era=2)
    story.refused("e", "exhausted").guessed("d", 0, 7, era=2, replayed=True, client=2)
    story.looked("exhausted", 0, 2, 7).looked("locked", 0, 3, 8, registration="")
    story.refused("f", "locked").enrolled("new", era=3, version=8)
    story.guessed("g", 2, 11, era=4, registration="new").gave("g", era=4, registration="new")
    return story.deleted(4, 12).looked("none", None, 5, 12, registration="")


def test_a_whole_honest_life_passes():
    assert not found(good())


@pytest.mark.parametrize("client", [1, 2])
def test_an_operation_inside_another_of_its_client_is_no_history(client):
    story = Story().call(1, "observe").call(client, "observe")
    assert (("operations", "history") in found(story)) == (client == 1)


# ---------------------------------------------------------------- budget


def test_one_attempt_evaluated_beyond_the_limit_is_noticed():
    story = good()
    story.guessed("h", 2, 11, era=2, client=3).gave("h", era=2)
    assert ("budget", "I1") in found(story)


def test_two_seats_evaluate_nothing():
    story = Story().enrolled()
    for attempt in "abcd":
        story.call(1, "attempt", attempt_id=name(attempt)).reply(1, "info", charged="unknown")
        story.gave(attempt, *((1, 2) if attempt < "c" else (3, 4)))
    assert not found(story)


def test_one_seat_that_gives_beyond_its_ledger_is_noticed_though_nothing_is_evaluated():
    story = Story().enrolled()
    for attempt in "abcd":
        story.call(1, "attempt", attempt_id=name(attempt)).reply(1, "info", charged="unknown")
        story.gave(attempt, 1)
    assert ("budget", "I1") in found(story)


def test_a_share_for_an_attempt_that_nobody_made_is_noticed():
    assert ("budget", "I2") in found(Story().enrolled().gave("ghost", 1))


def test_a_second_era_without_a_proof_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).gave("a").gave("a", era=2)
    assert ("budget", "I6") in found(story)


def test_a_forged_proof_does_not_explain_a_second_era():
    story = Story().enrolled().guessed("a", 2, 3).gave("a").gave("a", era=2)
    asked = {"attempt_id": name("a"), "era": 1, "registration_id": name("key"), "forged": True}
    story.did("prove", asked, {"code": "proof-rejected"}, phase="fail")
    assert ("budget", "I6") in found(story)


# ---------------------------------------------------------------- one charge


def test_a_retry_that_is_charged_again_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).guessed("a", 1, 4)
    assert ("one_charge", "I5") in found(story)


def test_more_guesses_counted_than_attempts_made_is_noticed():
    story = Story().enrolled().guessed("a", 1, 4)
    assert ("one_charge", "I5") in found(story)


def test_a_retry_that_evaluates_to_another_element_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).gave("a").gave("a", element="other")
    assert ("one_charge", "I5") in found(story)


def test_shares_for_an_attempt_that_was_not_charged_are_noticed():
    story = Story().enrolled().refused("a", "no-quorum").gave("a", 1)
    assert ("one_charge", "I12") in found(story)


def test_a_no_that_another_send_makes_up_for_is_no_lie():
    story = Story().enrolled().refused("a", "no-quorum").guessed("a", 2, 3).gave("a")
    assert not found(story)


def test_a_guess_that_was_counted_in_spite_of_no_is_noticed():
    story = Story().enrolled().refused("a", "no-quorum").looked("active", 2, 1, 3)
    assert ("linearizable", "I7") in found(story)


# ---------------------------------------------------------------- sticky lock


def exhausted():
    story = Story().enrolled()
    for number, attempt in enumerate("abc"):
        story.guessed(attempt, 2 - number, 3 + number)
    return story


def test_a_new_attempt_answered_after_the_last_guess_is_noticed():
    story = exhausted().guessed("d", 0, 6, client=2)
    assert ("sticky_lock", "I3") in found(story)


def test_a_listed_attempt_may_be_answered_again_within_the_grace():
    assert not found(exhausted().guessed("b", 0, 5, replayed=True, client=2))


def test_shares_for_an_attempt_first_sent_after_the_last_guess_are_noticed():
    story = exhausted().call(2, "attempt", attempt_id=name("d")).reply(2, "info", code="lost")
    assert ("sticky_lock", "I3") in found(story.gave("d", 1))


def test_an_attempt_answered_after_the_lock_is_noticed_even_when_it_was_listed():
    story = exhausted().looked("locked", 0, 2, 6, registration="")
    story.guessed("b", 0, 5, replayed=True)
    assert ("sticky_lock", "I3") in found(story)


def test_a_lock_that_is_gone_after_a_restart_is_noticed():
    story = exhausted().looked("locked", 0, 2, 6, registration="").looked("active", 3, 1, 6)
    assert ("linearizable", "I7") in found(story)


def test_a_proof_between_exhaustion_and_the_next_attempt_opens_again():
    story = exhausted().proved("c", 6).guessed("d", 2, 7, era=2)
    assert not found(story)


def test_an_unanswered_proof_of_another_era_opens_nothing():
    story = Story().enrolled().guessed("a", 2, 3)
    story.call(9, "prove", attempt_id=name("a"), era=1, registration_id=name("key"))
    story.reply(9, "info", code="no-quorum", charged="no").proved("a", 4)
    for number, attempt in enumerate("bcd"):
        story.guessed(attempt, 2 - number, 5 + number, era=2)
    assert ("sticky_lock", "I3") in found(story.guessed("e", 0, 8, era=2, client=2))


# ---------------------------------------------------------------- durable


def test_a_look_that_goes_back_behind_an_acknowledged_charge_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).looked("active", 3, 1, 2, node=5)
    assert ("durable", "I4") in found(story)


def test_an_activation_that_is_gone_is_noticed():
    story = Story().enrolled().looked("none", None, 0, 1, registration="", pending="key")
    assert ("durable", "I4") in found(story)


def test_a_proof_that_is_forgotten_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).proved("a", 4).looked("active", 2, 1, 5)
    assert ("durable", "I4") in found(story)


def test_a_record_that_comes_back_after_its_deletion_is_noticed():
    story = Story().enrolled().deleted(1, 3).looked("active", 3, 1, 2)
    assert ("durable", "I4") in found(story)


def test_two_answers_that_call_one_version_differently_are_noticed():
    story = Story().enrolled().looked("active", 2, 1, 3, client=2).looked("active", 3, 1, 3)
    assert ("durable", "I4") in found(story)


def test_an_answer_from_an_older_log_is_noticed():
    story = Story().enrolled()
    story.did("observe", {}, {"state": "none", "receipt": seen(0, 1)}, account="bob")
    assert ("durable", "I4") in found(story)


def test_a_proof_that_releases_another_key_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).proved("a", 4, wrapped="another key")
    assert ("durable", "I4") in found(story)


def look(node, state="none", version=0, era=0):
    return Event(99, 9, node, "observe", "ok", "alice", state=state, era=era, receipt=seen(version))


def test_final_reads_that_differ_are_noticed():
    final = Final(reads=(look(1), look(2, version=1)))
    assert ("durable", "I4") in found(Story(), final)


@pytest.mark.parametrize(
    ("locked", "good"),
    [
        (("locked", 8, 4), True),
        (("locked", 8, 3), False),
        (("locked", 9, 4), False),
        (("exhausted", 8, 4), False),
        (("active", 8, 4), False),
    ],
)
def test_only_the_end_of_a_grace_may_come_between_final_reads(locked, good):
    state, version, era = locked
    full = (look(1, "exhausted", 7, 3), look(2, "exhausted", 7, 3))
    differing = durable.check([], Final(reads=(*full, look(3, state, version, era))), LIMIT)
    assert (not differing) is good


def test_a_node_without_a_final_read_is_noticed():
    final = Final(reads=(look(1),), nodes=frozenset({1, 2}))
    assert ("durable", "I4") in found(Story(), final)


def test_equal_final_reads_of_every_node_are_good():
    final = Final(reads=(look(1), look(2)), nodes=frozenset({1, 2}))
    assert not found(Story(), final)


def test_final_reads_are_part_of_the_order():
    assert ("linearizable", "I7") in found(Story().enrolled(), Final(reads=(look(1),)))


# ---------------------------------------------------------------- linearizable


def test_a_lost_charge_may_be_counted_later_or_never():
    lost = {"code": "lost", "charged": "unknown"}
    for left, version in ((3, 2), (2, 3)):
        story = Story().enrolled()
        story.did("attempt", {"attempt_id": name("a")}, lost, phase="info")
        assert not found(story.looked("active", left, 1, version))


def test_a_lost_charge_is_not_counted_twice():
    lost = {"code": "lost", "charged": "unknown"}
    story = Story().enrolled()
    story.did("attempt", {"attempt_id": name("a")}, lost, phase="info")
    story.looked("active", 2, 1, 3).looked("active", 1, 1, 4)
    assert ("linearizable", "I7") in found(story)


def crossing():
    """An attempt under way while its charge is seen, and another registration takes the place."""
    story = Story().enrolled().call(1, "attempt", attempt_id=name("a"))
    story.looked("active", 2, 1, 3, client=2)
    return story.enrolled("new", era=1, version=3, client=2)


def test_an_attempt_that_crosses_an_era_may_be_counted_in_both():
    """Its node asks again when the era has moved on, and a snapshot may have hidden the charge."""
    named = {"registration_id": name("new"), "era": 2}
    charged = {**named, "guesses_remaining": 2, "receipt": seen(6), "replayed": False}
    told = {"code": "hsm-unavailable", "charged": "yes"}
    lost = {"code": "lost", "charged": "unknown"}
    after = ("active", 2, 2, 6, "new")
    assert not found(crossing().reply(1, **charged).looked(*after))
    assert not found(crossing().reply(1, "info", **told).looked(*after))
    assert not found(crossing().reply(1, "info", **lost).looked(*after))
    assert not found(crossing().reply(1, "info", **lost).looked("active", 3, 2, 5, "new"))


def test_within_an_era_it_is_counted_once_however_it_ends():
    again = {"guesses_remaining": 1, "receipt": seen(4), "replayed": False, "era": 1}
    for phase, answer in (
        ("ok", {**again, "registration_id": name("key")}),
        ("info", {"code": "hsm-unavailable", "charged": "yes"}),
        ("info", {"code": "lost", "charged": "unknown"}),
    ):
        story = Story().enrolled().call(1, "attempt", attempt_id=name("a"))
        story.looked("active", 2, 1, 3, client=2)
        story.reply(1, phase, **answer).looked("active", 1, 1, 4)
        assert ("linearizable", "I7") in found(story), phase


def test_what_was_denied_is_counted_in_no_era():
    told = {"code": "exhausted", "charged": "no"}
    story = crossing().reply(1, "fail", **told)
    assert ("linearizable", "I7") in found(story.looked("active", 2, 2, 6, "new"))


def test_a_charge_acknowledged_without_an_answer_must_be_there():
    story = Story().enrolled()
    told = {"code": "hsm-unavailable", "charged": "yes"}
    story.did("attempt", {"attempt_id": name("a")}, told, phase="info")
    assert ("linearizable", "I7") in found(story.looked("active", 3, 1, 2))


def test_two_looks_at_once_may_see_a_charge_in_either_order_but_not_both():
    def seen_by(first, second):
        story = Story().enrolled().call(1, "attempt", attempt_id=name("a"))
        story.looked("active", *first, client=2).looked("active", *second, client=3)
        answer = {"guesses_remaining": 2, "era": 1, "registration_id": name("key")}
        return story.reply(1, receipt=seen(3), replayed=False, **answer)

    assert not found(seen_by((3, 1, 2), (2, 1, 3)))
    assert ("linearizable", "I7") in found(seen_by((2, 1, 3), (3, 1, 2)))


def test_a_replaced_pending_registration_cannot_be_activated():
    story = Story()
    for place, registration in enumerate(("old", "new")):
        asked = {"registration_id": name(registration), "era": 0}
        story.did("register", asked, {"state": "pending", "receipt": seen(place + 1)})
    asked = {"registration_id": name("old"), "era": 0}
    story.did("activate", asked, {"receipt": seen(3)})
    assert ("linearizable", "I7") in found(story.looked("active", 3, 1, 3, registration="old"))


def test_a_proof_of_an_attempt_that_is_not_listed_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).proved("b", 4)
    assert ("linearizable", "I7") in found(story)


def test_a_proof_in_an_era_that_is_over_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).proved("a", 4).guessed("b", 2, 5, era=2)
    assert ("linearizable", "I7") in found(story.proved("b", 6, era=1))


def test_the_same_proof_again_changes_nothing():
    story = Story().enrolled().guessed("a", 2, 3).proved("a", 4).proved("a", 4, client=2)
    assert not found(story)


def test_a_proof_that_resets_twice_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).proved("a", 4).guessed("b", 2, 5, era=2)
    story.proved("a", 6, client=2).looked("active", 3, 3, 6)
    assert ("linearizable", "I7") in found(story)


def test_a_forged_activation_that_succeeds_is_noticed():
    story = Story()
    asked = {"registration_id": name("key"), "era": 0}
    story.did("register", asked, {"state": "pending", "receipt": seen(1)})
    story.did("activate", asked | {"forged": True}, {"receipt": seen(2)})
    assert ("linearizable", "I7") in found(story)


def test_a_good_signature_that_is_refused_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3)
    asked = {"attempt_id": name("a"), "era": 1, "registration_id": name("key")}
    story.did("prove", asked, {"code": "proof-rejected"}, phase="fail")
    assert ("linearizable", "I7") in found(story)


def test_a_deletion_in_an_era_that_is_over_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).proved("a", 4).deleted(1, 5)
    assert ("linearizable", "I7") in found(story)


def test_a_refusal_that_was_never_true_is_noticed():
    assert ("linearizable", "I7") in found(Story().enrolled().refused("a", "exhausted"))
    assert ("linearizable", "I7") in found(Story().enrolled().refused("a", "locked"))
    assert ("linearizable", "I7") in found(Story().enrolled().refused("a", "not-registered"))


def test_a_list_emptied_without_a_proof_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3).looked("active", 3, 1, 4)
    assert ("linearizable", "I7") in found(story)


def test_a_registration_sent_again_that_resets_the_count_is_noticed():
    story = Story().enrolled().guessed("a", 2, 3)
    asked = {"registration_id": name("key"), "era": 0}
    story.did("register", asked, {"state": "active", "receipt": seen(4)})
    assert ("linearizable", "I7") in found(story.looked("active", 3, 1, 4))


def test_many_lost_attempts_of_one_account_are_decided_quickly():
    story = Story().enrolled()
    for number in range(40):
        asked = {"attempt_id": name(f"lost {number}")}
        story.did("attempt", asked, {"code": "lost"}, phase="info", client=number)
    assert not found(story.looked("active", 80, 1, 22), limit=100)


# ---------------------------------------------------------------- equal state


def test_nodes_that_differ_at_one_index_are_noticed():
    states = (NodeState(1, 0, 7, "x"), NodeState(2, 0, 7, "y"), NodeState(3, 0, 7, "x"))
    assert ("equal_state", "I8") in found(Story(), Final(states=states))


def test_nodes_at_different_indexes_are_not_compared():
    states = (NodeState(1, 0, 7, "x"), NodeState(2, 0, 8, "y"), NodeState(3, 1, 7, "z"))
    assert not found(Story(), Final(states=states))


def test_a_finding_says_what_and_where():
    story = Story().enrolled().guessed("a", 2, 3).looked("active", 3, 1, 2, node=5)
    sentences = [str(each) for each in judge(story.events, witness.gathered([]), Final(), LIMIT)]
    assert any("alice" in each and "node 5 observe" in each for each in sentences)


def test_sends_of_one_attempt_that_nobody_answered_are_one_choice_of_the_search():
    """Each could be the one that counted: a search that tries them all is never done."""
    story = Story().enrolled()
    for client in range(2, 32):
        story.refused("a" if client % 2 else "b", "unreachable", "unknown", "info", client=client)
    story.looked("active", LIMIT - 1, era=1, version=3)
    assert Search(Model(LIMIT), pair(story.events)[0]).explain()
    story.looked("active", LIMIT - 3, era=1, version=5)  # three counted, and there are two
    search = Search(Model(LIMIT), pair(story.events)[0])
    assert not search.explain()
    assert search.configurations < 30


def test_an_era_that_was_told_later_rules_out_early_what_cannot_lead_to_it():
    """The one silent proof among many silent guesses is found without trying them all first."""
    story = Story().enrolled().guessed("a", 2, 3)
    for client in range(2, 30):
        story.refused(f"g{client % 14}", "unreachable", "unknown", "info", client=client)
    new = {"registration_id": name("new"), "era": 1}
    story.did("register", new, {"state": "pending", "receipt": seen(4)})
    asked = {"attempt_id": name("a"), "era": 1, "registration_id": name("key")}
    story.did("prove", asked, {"code": "lost"}, phase="info")
    story.did("activate", new, {"state": "active", "receipt": seen(6)})
    story.looked("exhausted", 0, era=3, version=9, registration="new")
    search = Search(Model(LIMIT), pair(story.events)[0])
    assert search.explain()
    assert search.configurations < 100  # 7,573 without
    story.looked("exhausted", 0, era=4, version=9, registration="new")
    assert not Search(Model(LIMIT), pair(story.events)[0]).explain()
