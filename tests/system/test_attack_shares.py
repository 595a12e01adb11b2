"""One, then two data centers owned, at real nodes: wrong shares, a chosen key, swapped sealed
bytes, and a log of its own for every honest node. What those give is counted at their own HSMs.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sodium_client as opaque
import two_seats
from accounts import Account, Guess
from harness import vault5, wait_until
from judgement import metric
from owned import HONEST, Scene, lines, seat_state, server_key, status
from plain_client import Answer, b64, unb64
from puppeteer import LyingGiver, Puppeteer

from cluster.entries import encode_entry
from cluster.record import LastProof, decode_record, encode_record
from node.share_messages import AttemptAsk, AttemptShare, RegistrationAsk, RegistrationShare

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

LIMIT = 10
RIGHT, WRONG = b"right", b"wrong"
NAMES = ("liar", "chosen", "sealed", "one", "two")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("attacked")
    with vault5(root, limit=LIMIT, grace_s=600, shards=1) as vault:
        accounts = {name: Account(vault, name) for name in NAMES}
        made = {name: accounts[name].register(2, RIGHT, name.encode()) for name in NAMES}
        for account in accounts.values():  # it takes with it what it has applied, so: all of it
            wait_until(lambda a=account: a.look(1).state == "active", "node 1 has it")
        vault.terminate(1)
        owned = seat_state(vault, 1, [made["one"].registration_id, made["two"].registration_id])
        for account in accounts.values():
            account.nodes = HONEST
        yield Scene(vault, owned, accounts, made, {})
        for account in accounts.values():
            account.close()


@pytest.fixture(scope="module")
def liar(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingGiver]:
    with LyingGiver(scene.vault, 1, tmp_path_factory.mktemp("liar") / "files") as owned:
        owned.greet()
        yield owned


def alarms(scene: Scene, node: int) -> float:
    """Wrong shares of seat 1 that the node has met."""
    url = f"{scene.vault.ops_url(node)}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback http
        text = answer.read().decode()
    found = re.search(r'^quorumvault_wrong_shares_total\{seat="1"\} (\S+)$', text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def believed_to_give(scene: Scene) -> bool:
    peers = [peer for node in HONEST for peer in status(scene, node)["peers"] if peer["node"] == 1]
    return all(peer["share_giver"] for peer in peers)


def unless_busy(account: Account, node: int, method: str, path: str, body: Any) -> Answer:
    """Ask again while the machine is too slow for its nodes: they say so, and nothing is spent."""

    def once() -> Answer | None:
        answer = account.client.ask(account.url(node), method, path, body)
        return None if answer.code in ("busy", "no-quorum", "hsm-unavailable") else answer

    return wait_until(once, "an answer that is not busy")


# ------------------------------------------------------------------ wrong shares


def test_a_wrong_share_is_outvoted_and_its_seat_named_when_the_client_asks_to_verify(
    scene: Scene, liar: LyingGiver
) -> None:
    account, made = scene.accounts["liar"], scene.made["liar"]

    def wrong(ask: AttemptAsk | RegistrationAsk) -> AttemptShare:
        lie = opaque.multiply_base(opaque.random_scalar())
        return AttemptShare(ask.ask, made.registration_id, ask.era, lie)

    liar.give(wrong)
    wait_until(lambda: believed_to_give(scene), "it is believed to give")
    for number, node in enumerate(HONEST):
        guess = Guess(opaque.login_start(RIGHT), RIGHT)
        unverified = unless_busy(account, node, "POST", "/v1/attempts", guess.body)
        assert unverified.status == 200, unverified  # it may hold the lie; it is charged once
        before, asked = alarms(scene, node), liar.asked
        answer = unless_busy(account, node, "POST", "/v1/attempts", guess.body | {"verify": True})
        assert answer.status == 200, answer
        assert (answer.body["verified"], answer.body["replayed"]) == (True, True)
        assert liar.asked > asked
        assert alarms(scene, node) == before + 1
        guess.answer = answer.body
        assert account.key_in(guess, account.prove(node, guess)) == b"liar", number
        assert account.seen().guesses_remaining == LIMIT


def test_a_key_that_one_node_chooses_does_not_get_into_a_registration(
    scene: Scene, liar: LyingGiver
) -> None:
    """It waits for the others' shares and makes the sum its own: that share it cannot prove."""
    chosen = opaque.random_scalar()
    known: dict[bytes, tuple[RegistrationShare, RegistrationShare]] = {}

    def rushing(ask: RegistrationAsk) -> RegistrationShare:
        # λ1·S1 + λ2·S2 + λ3·S3 = chosen·B, solved for S1; the same over G for K1.
        second, third = known[ask.registration_id]
        element = solved(opaque.multiply(chosen, ask.request), second.element, third.element)
        point = solved(opaque.multiply_base(chosen), second.point, third.point)
        return RegistrationShare(
            ask.ask, ask.registration_id, ask.era, element, point, os.urandom(32) + bytes(32)
        )

    liar.honest_again()
    account = scene.accounts["chosen"]
    request = opaque.oprf_blind(RIGHT, opaque.random_scalar())
    key = opaque.proof_public_key(os.urandom(32))
    era = account.seen().era
    registration = opaque.registration_id(scene.made["chosen"].record_id, era, request, key)

    def honest(number: int) -> RegistrationAsk:
        record_id = scene.made["chosen"].record_id
        return RegistrationAsk(number, record_id, era, request, key, registration)

    shares = liar.ask([2, 3], honest)
    known[registration] = (shares[2], shares[3])
    liar.give(rushing)  # type: ignore[arg-type]
    wait_until(lambda: believed_to_give(scene), "it is believed to give")
    body = {"request": b64(request), "proof_key": b64(key)}
    answers = {}
    for node in HONEST:
        before = alarms(scene, node)
        answer = unless_busy(account, node, "POST", "/v1/registrations", body)
        assert answer.status == 200, answer
        answers[node] = unb64(answer.body["response"])[:32]
        assert alarms(scene, node) > before
    liar.honest_again()
    assert len(set(answers.values())) == 1
    mine = opaque.multiply(chosen, request)
    assert mine not in answers.values()
    # What it answered would have been its own key, had it been taken:
    lie = rushing(honest(1))
    assert combined({1: lie.element, 2: shares[2].element, 3: shares[3].element}) == mine


def weights(seats: tuple[int, ...]) -> dict[int, int]:
    made = {}
    for seat in seats:
        weight = 1
        for other in seats:
            if other != seat:
                weight = weight * other * pow(other - seat, -1, two_seats.ORDER) % two_seats.ORDER
        made[seat] = weight
    return made


def combined(points: dict[int, bytes]) -> bytes:
    total = None
    for seat, weight in weights(tuple(points)).items():
        term = two_seats.times(weight, points[seat])
        total = term if total is None else opaque.add(total, term)
    return total


def solved(target: bytes, second: bytes, third: bytes) -> bytes:
    """What seat 1 has to say so that seats 1, 2, 3 make `target`."""
    weight = weights((1, 2, 3))
    rest = opaque.add(two_seats.times(-weight[2], second), two_seats.times(-weight[3], third))
    return two_seats.times(pow(weight[1], -1, two_seats.ORDER), opaque.add(target, rest))


# ------------------------------------------------------------------ forged state


def records_of(scene: Scene) -> dict[bytes, bytes]:
    return {bytes.fromhex(k): bytes.fromhex(v) for k, v in scene.owned["records"].items()}


def with_list(value: bytes, attempts: list[bytes], **changes: Any) -> bytes:
    record = decode_record(value)
    return encode_record(
        msgspec.structs.replace(
            record, version=record.version + 40, attempts=tuple(attempts), **changes
        )
    )


def test_sealed_bytes_swapped_in_the_log_open_nothing_and_true_ones_serve_again(
    scene: Scene, liar: LyingGiver
) -> None:
    """Destruction while it lasts: no other account's key comes out, and no guess is free."""
    account, record_id = scene.accounts["sealed"], scene.made["sealed"].record_id
    true = records_of(scene)
    record, other = decode_record(true[record_id]), decode_record(true[scene.made["one"].record_id])
    swapped = msgspec.structs.replace(record.active, sealed=other.active.sealed)
    lie = true | {record_id: encode_record(msgspec.structs.replace(record, active=swapped))}
    strings = Puppeteer(scene, liar, HONEST)
    strings.install(dict.fromkeys(HONEST, lie))
    strings.end()
    wait_until(lambda: _leads(scene), "somebody leads again")
    fresh = {"ke1": b64(opaque.login_start(RIGHT).ke1)}
    answer = sealed_answer(account, fresh)
    assert answer.status == 503, answer
    assert answer.body["charged"] == "yes"
    assert "ke2" not in answer.body
    strings = Puppeteer(scene, liar, HONEST)
    strings.install(dict.fromkeys(HONEST, true))
    strings.end()
    wait_until(lambda: _leads(scene), "somebody leads again")
    assert account.recover(4, RIGHT) == b"sealed"


def _leads(scene: Scene) -> bool:
    return any(metric(scene.vault, n, "quorumvault_raft_leader", 0) == 1.0 for n in HONEST)


def sealed_answer(account: Account, body: dict[str, str]) -> Answer:
    """The answer to an attempt that was charged."""

    def once() -> Answer | None:
        answer = account.client.ask(account.url(3), "POST", "/v1/attempts", body)
        return None if answer.body.get("charged") == "no" else answer

    return wait_until(once, "an answer after the charge")


def stories(honest: list[int], needed: int) -> tuple[dict[int, list[int]], int]:
    """Which attempts each node is told: every share that there is, spread as thin as useful."""
    told: dict[int, list[int]] = {node: [] for node in honest}
    slots = [node for _ in range(LIMIT) for node in honest]
    count = len(slots) // needed
    for number in range(count):
        for node in slots[number * needed : (number + 1) * needed]:
            told[node].append(number)
    return told, count


def seats_that_gave(scene: Scene, honest: list[int], registration: bytes) -> dict[str, set[int]]:
    """At the HSM boundary of the honest nodes: attempt -> seats."""
    found: dict[str, set[int]] = defaultdict(set)
    for node in honest:
        for line in lines(scene, node):
            given = (line["kind"], line["result"]) == ("attempt", "given")
            if given and line["registration_id"] == registration.hex():
                found[line["attempt_id"]].add(line["seat"])
    return found


def equivocate(
    scene: Scene, liar: LyingGiver, name: str, honest: list[int], owned: list[dict[str, Any]]
) -> int:
    """Everything that there is to get out of these ledgers; how many attempts were evaluated."""
    made, needed = scene.made[name], 3 - len(owned)
    true = records_of(scene)
    told, count = stories(honest, needed)
    tries = [opaque.login_start(RIGHT if n == 0 else WRONG) for n in range(count + 8)]
    ids = [opaque.attempt_id(made.record_id, each.ke1) for each in tries]
    strings = Puppeteer(scene, liar, honest)
    era = decode_record(true[made.record_id]).era

    def lies(attempts: dict[int, list[int]], **changes: Any) -> dict[int, dict[bytes, bytes]]:
        return {
            node: true
            | {made.record_id: with_list(true[made.record_id], [ids[n] for n in story], **changes)}
            for node, story in attempts.items()
        }

    def ask_all(numbers: range, in_era: int) -> dict[int, dict[int, bytes]]:
        pairs = [
            (node, lambda number, k=tries[n].ke1: AttemptAsk(number, made.record_id, in_era, k))
            for node, n in asks(numbers)
        ]
        answers = liar.ask_one_each(pairs)
        got: dict[int, dict[int, bytes]] = defaultdict(dict)
        for (node, n), answer in zip(asks(numbers), answers, strict=True):
            if isinstance(answer, AttemptShare):
                got[n][node] = answer.element
        return got

    listed: dict[int, list[int]] = told

    def asks(numbers: range) -> list[tuple[int, int]]:
        return [(node, n) for n in numbers for node in honest if n in listed[node]]

    strings.install(lies(told))
    got = ask_all(range(count), era)
    # The first of them is the right password: with the owned seats' own shares it opens.
    points = dict(got[0])
    for state in owned:
        prfs = state["prfs"][made.registration_id.hex()]
        known = {bytes.fromhex(g): two_seats.subset_scalar(bytes.fromhex(p)) for g, p in prfs}
        share = two_seats.share_of(state["seat"], known)
        points[state["seat"]] = two_seats.times(share, tries[0].ke1[:32])
    assert len(points) == 3
    record, server = unb64(made.upload["record"]), server_key(scene)
    assert two_seats.opens(record, server, RIGHT, tries[0].blind, combined(points))
    # More: emptied lists, a later era, a made-up proof; the fresh attempts are listed everywhere.
    listed = {node: list(range(count, count + 8)) for node in honest}
    for changes in (
        {},
        {"era": era + 3},
        {"era": era + 5, "last_proof": LastProof(ids[0], era + 4, os.urandom(64))},
    ):
        strings.install(lies(listed, **changes))
        assert not ask_all(range(count, count + 8), changes.get("era", era))
    strings.end()
    gave = seats_that_gave(scene, honest, made.registration_id)
    for node in honest:
        assert sum(node in seats for seats in gave.values()) == LIMIT
    return sum(len(seats) >= needed for seats in gave.values())


def test_one_owned_node_that_equivocates_gets_exactly_twenty_evaluations(
    scene: Scene, liar: LyingGiver
) -> None:
    assert equivocate(scene, liar, "one", HONEST, [scene.owned]) == 20


def test_two_owned_nodes_that_equivocate_get_exactly_thirty_evaluations(
    scene: Scene, liar: LyingGiver
) -> None:
    """The second one's disk and HSM are opened; three honest nodes are left. The vault is over."""
    scene.vault.terminate(2)
    registrations = [scene.made["two"].registration_id]
    owned = [scene.owned, seat_state(scene.vault, 2, registrations)]
    known: dict[bytes, int] = {}
    for state in owned:
        for group, prf in state["prfs"][registrations[0].hex()]:
            known[bytes.fromhex(group)] = two_seats.subset_scalar(bytes.fromhex(prf))
    assert len(known) == 9  # of ten: without an honest share there is nothing to evaluate
    assert equivocate(scene, liar, "two", [3, 4, 5], owned) == 30


def test_an_entry_that_nobody_understands_ends_only_the_link_of_its_sender(
    scene: Scene, liar: LyingGiver
) -> None:
    """Appended, it would end each honest process at each of its starts."""
    honest = [3, 4, 5]
    strings = Puppeteer(scene, liar, honest)
    strings.install(dict.fromkeys(honest, records_of(scene)))
    for number in honest:
        node = scene.vault.cluster.nodes[number]
        strings.append(number, encode_entry([(1, 1, 1, b"no command")]))
        wait_until(lambda n=node: "entry is not understood" in n.log.read_text(), "its refusal")
        assert node.process.returncode is None
    strings.end()
