"""A node asked for its share by a peer that is not honest: refused, and witnessed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from node_world import LIMIT, until

from cluster.types import NodeId
from engines import _engines, identifiers
from node.exchange import Exchange
from node.share_messages import (
    MAX_FRAME_BYTES,
    AttemptAsk,
    AttemptShare,
    CancelAsk,
    Declined,
    Frame,
    Reason,
    RegistrationAsk,
    RegistrationShare,
    decode_frame,
    encode_frame,
)

EVIL = NodeId(2)
"""A peer with a valid certificate."""


class Peer:
    """Sends raw frames to node 1 as node 2, and keeps what comes back."""

    def __init__(self, world) -> None:
        self.world = world
        self.answers = []
        self.sent = set()
        exchange = world.nodes[2].assembly.exchange
        self._honest = exchange._take
        exchange._take = self._keep

    def _keep(self, sender, message):
        mine = not isinstance(message, (AttemptAsk, RegistrationAsk, CancelAsk))
        if sender == 1 and mine and message.ask in self.sent:
            self.answers.append(message)
        else:
            self._honest(sender, message)

    def send(self, *messages):
        self.sent |= {message.ask for message in messages}
        self.world.nodes[1].assembly.exchange.on_frame(EVIL, encode_frame(list(messages)))

    async def ask(self, message):
        before = len(self.answers)
        self.send(message)
        await until(lambda: len(self.answers) > before)
        return self.answers[-1]


@pytest.fixture
def peer(world):
    return Peer(world)


@pytest.fixture(autouse=True)
def short_wait(world):
    for node in world.nodes.values():
        node.assembly.exchange._giver._max_wait_s = 0.05


def refusals(world, kind="attempt"):
    return [w for w in world.witness(1) if w["kind"] == kind and w["result"] == "refused"]


async def test_an_uncharged_attempt_gets_no_share(phone, world, peer):
    await phone.register()
    world.nodes[1].device.calls.clear()
    answer = await peer.ask(AttemptAsk(9001, phone.record_id, 1, phone.guess()[1]))
    assert answer == Declined(9001, Reason.TIMEOUT)
    assert world.nodes[1].device.calls == []
    assert refusals(world)[-1]["reason"].startswith("timeout")


async def test_another_element_under_a_charged_attempts_name_gets_no_share(phone, world, peer):
    await phone.register()
    _, ke1 = phone.guess()
    await phone.attempt(ke1, 1)
    other = phone.guess(b"another guess")[1][:32] + ke1[32:]
    answer = await peer.ask(AttemptAsk(9002, phone.record_id, 1, other))
    assert answer == Declined(9002, Reason.TIMEOUT)  # it is another attempt: never charged
    charged = await peer.ask(AttemptAsk(9003, phone.record_id, 1, ke1))
    assert isinstance(charged, AttemptShare)


async def test_a_charged_attempt_of_another_record_gets_no_share(phone, world, peer):
    await phone.register()
    _, ke1 = phone.guess()
    await phone.attempt(ke1, 1)
    answer = await peer.ask(AttemptAsk(9004, bytes(32), 0, ke1))
    assert answer.reason is Reason.REFUSED
    assert refusals(world)[-1]["record_id"] == "00" * 32


async def test_the_active_registrations_id_on_the_registration_path_evaluates_no_other_element(
    phone, world, peer
):
    made = await phone.register()
    ke1 = phone.guess()[1]
    body = made.body
    world.nodes[1].device.calls.clear()
    for ask in (
        RegistrationAsk(
            9005, phone.record_id, body.era, ke1[:32], body.proof_key, made.registration_id
        ),
        RegistrationAsk(
            9006, phone.record_id, body.era + 1, body.request, body.proof_key, made.registration_id
        ),
        RegistrationAsk(
            9007, bytes(32), body.era, body.request, body.proof_key, made.registration_id
        ),
        RegistrationAsk(
            9008, phone.record_id, body.era, body.request, bytes(32), made.registration_id
        ),
    ):
        assert await peer.ask(ask) == Declined(ask.ask, Reason.REFUSED)
    assert world.nodes[1].device.calls == []
    assert len(refusals(world, "registration")) == 4
    assert all("does not match" in line["reason"] for line in refusals(world, "registration"))


async def test_an_element_evaluated_for_a_fresh_id_is_under_another_key(phone, world, peer):
    """The path is no oracle: whatever element is asked for, the key is that of its own id."""
    made = await phone.register()
    _, ke1 = phone.guess()
    registration_id = identifiers.registration_id(phone.record_id, 1, ke1[:32], made.body.proof_key)
    share = await peer.ask(
        RegistrationAsk(9009, phone.record_id, 1, ke1[:32], made.body.proof_key, registration_id)
    )
    assert isinstance(share, RegistrationShare)
    await phone.attempt(ke1, 1)
    attempt = await peer.ask(AttemptAsk(9010, phone.record_id, 1, ke1))
    assert share.element != attempt.element
    assert share.registration_id != attempt.registration_id


async def test_beyond_the_limit_there_is_no_share(phone, world, peer):
    await phone.register()
    for n in range(LIMIT):
        await phone.attempt(phone.guess(b"wrong %d" % n)[1])
    answer = await peer.ask(AttemptAsk(9011, phone.record_id, 1, phone.guess()[1]))
    assert answer == Declined(9011, Reason.REFUSED)
    assert "full" in refusals(world)[-1]["reason"]


async def test_a_later_era_and_a_full_ledger_are_answered_at_once(phone, world, peer):
    await phone.register()
    answer = await peer.ask(AttemptAsk(9012, phone.record_id, 0, phone.guess()[1]))
    assert answer == Declined(9012, Reason.LATER_ERA, 1)
    world.nodes[1].host.full_ledger = True
    answer = await peer.ask(AttemptAsk(9013, phone.record_id, 1, phone.guess()[1]))
    assert answer == Declined(9013, Reason.LEDGER_FULL)
    world.nodes[1].host.giver = False
    answer = await peer.ask(AttemptAsk(9014, phone.record_id, 1, phone.guess()[1]))
    assert answer == Declined(9014, Reason.NOT_A_GIVER)


@pytest.mark.parametrize("element", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
async def test_an_invalid_or_identity_element_is_refused(phone, world, peer, element):
    await phone.register()
    answer = await peer.ask(AttemptAsk(9015, phone.record_id, 1, element + bytes(64)))
    assert answer == Declined(9015, Reason.REFUSED)
    key = _engines.ed25519_public_key(bytes(32))
    registration_id = identifiers.registration_id(phone.record_id, 1, element, key)
    ask = RegistrationAsk(9016, phone.record_id, 1, element, key, registration_id)
    assert await peer.ask(ask) == Declined(9016, Reason.REFUSED)


async def test_the_hsm_away_is_said(phone, world, peer):
    await phone.register()
    _, ke1 = phone.guess()
    await phone.attempt(ke1, 1)
    world.nodes[1].device.healthy = False
    assert await peer.ask(AttemptAsk(9017, phone.record_id, 1, ke1)) == Declined(
        9017, Reason.HSM_AWAY
    )


async def test_a_cancelled_ask_is_forgotten(phone, world, peer):
    await phone.register()
    world.nodes[1].assembly.exchange._giver._max_wait_s = 60
    peer.send(AttemptAsk(9018, phone.record_id, 1, phone.guess()[1]))
    await until(lambda: world.nodes[1].host.watchers.get(phone.record_id))
    peer.send(CancelAsk(9018))
    await until(lambda: not world.nodes[1].assembly.exchange._tasks)
    assert peer.answers == []
    assert world.nodes[1].host.watchers[phone.record_id] == []


async def test_a_lost_link_answers_what_was_asked_and_drops_what_it_asked(phone, world, peer):
    await phone.register()
    exchange = world.nodes[1].assembly.exchange
    exchange._giver._max_wait_s = 60
    heard = []
    exchange.ask(
        EVIL,
        lambda number: AttemptAsk(number, phone.record_id, 1, phone.guess()[1]),
        lambda node, answer: heard.append((node, answer.reason)),
    )
    peer.send(AttemptAsk(9019, phone.record_id, 1, phone.guess()[1]))
    exchange.on_link_down(EVIL)
    assert heard == [(EVIL, Reason.UNREACHABLE)]
    await until(lambda: not exchange._tasks)


async def test_an_answer_from_a_node_that_was_not_asked_is_ignored(world):
    exchange: Exchange = world.nodes[1].assembly.exchange
    heard = []
    number = exchange.ask(
        NodeId(3),
        lambda n: AttemptAsk(n, bytes(32), 0, bytes(96)),
        lambda node, _answer: heard.append(node),
    )
    forged = encode_frame([AttemptShare(number, bytes(32), 0, bytes(32))])
    exchange.on_frame(NodeId(4), forged)
    assert heard == []
    exchange.on_frame(NodeId(3), forged)
    assert heard == [3]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        msgspec.msgpack.encode([1, []]),
        msgspec.msgpack.encode([2, [["cancel", 1]]]),
        msgspec.msgpack.encode([1, [["cancel", -1]]]),
        msgspec.msgpack.encode([1, [["cancel", 1, 2]]]),
        msgspec.msgpack.encode([1, [["unlock", 1]]]),
        msgspec.msgpack.encode([1, [["attempt", 1, bytes(31), 0, bytes(96)]]]),
        msgspec.msgpack.encode([1, [["attempt", 1, bytes(32), 0, bytes(97)]]]),
        msgspec.msgpack.encode([1, [["attempt", 1, bytes(32), 2**53, bytes(96)]]]),
        msgspec.msgpack.encode([1, [["cancel", 1]] * 1025]),
        bytes(MAX_FRAME_BYTES + 1),
    ],
    ids=range(12),
)
async def test_a_frame_that_does_not_decode_is_dropped_and_counted(world, payload):
    exchange = world.nodes[1].assembly.exchange
    exchange.on_frame(EVIL, payload)
    assert world.nodes[1].assembly.metrics.bad_service_frames._value.get() == 1
    assert not exchange._tasks


def test_a_frame_of_the_largest_messages_fits(world):
    ask = RegistrationShare(2**53 - 1, bytes(32), 2**53 - 1, bytes(32), bytes(32), bytes(64))
    frame = encode_frame([ask] * 1024)
    assert len(frame) <= MAX_FRAME_BYTES
    assert len(decode_frame(frame)) == 1024
    assert isinstance(Frame([ask]), msgspec.Struct)


async def test_asks_of_one_pass_travel_in_one_frame(phone, world):
    await phone.register()
    before = world.nodes[1].frames
    guesses = [phone.guess(b"%d" % n)[1] for n in range(5)]
    await asyncio.gather(*(phone.attempt(ke1, 1) for ke1 in guesses))
    assert world.nodes[1].frames - before <= 8
