"""One data center owned: its certificate and port speak to the others directly (design I1, I2, I9).

Node 1 is gone; whoever took its place may ask, forge and lie. The other nodes refuse and witness,
stay up, and no budget grows. Two data centers owned, disks and HSMs included: still no guess.
"""

from __future__ import annotations

import os
import ssl
import threading
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import sodium_client as opaque
import two_seats
from accounts import Account
from forged_leader import ForgedLeader, raft_message
from harness import vault5, wait_until
from intruder import Intruder
from owned import (
    HONEST,
    Scene,
    bad_frames,
    get,
    given,
    issued,
    lines,
    link,
    node_files,
    operator,
    seat_state,
    server_key,
    status,
)
from plain_client import Registration, unb64

from chaos import witness
from cluster.commands import (
    Activate,
    Barrier,
    Charge,
    Delete,
    Expire,
    Prove,
    Register,
    encode_command,
)
from cluster.frames import (
    Accepted,
    Forward,
    Frame,
    Hello,
    Nack,
    RaftMessages,
    SnapshotProgress,
    encode_frame,
)
from cluster.link_wire import HOST_CHANNEL, LINK_PATH, SERVICE_CHANNEL
from cluster.record import LastProof, Record, decode_record, encode_record
from cluster.record import Registration as StoredRegistration
from engines._engines import threshold_combine
from node.share_messages import (
    AttemptAsk,
    AttemptShare,
    CancelAsk,
    Declined,
    Reason,
    RegistrationAsk,
    RegistrationShare,
)
from node.share_messages import (
    encode_frame as service_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


pytestmark = pytest.mark.system

LIMIT = 3
RIGHT, WRONG = b"right", b"wrong"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("owned")
    with vault5(root, limit=LIMIT, grace_s=3, shards=1) as vault:
        names = ("open", "full", "locked", "deleted", "replaced", "emptied", "forged-proof")
        accounts = {name: Account(vault, name) for name in names}
        made = {name: accounts[name].register(2, RIGHT, name.encode()) for name in names}
        charged = {"open": 1, "full": 0, "locked": LIMIT, "emptied": 2, "forged-proof": 2}
        guesses = {
            name: [accounts[name].guess(3, RIGHT) for _ in range(charged.get(name, 1))]
            for name in names
        }
        accounts["replaced"].register(4, RIGHT, b"newer")
        deleted = accounts["deleted"]
        era = deleted.look(2).era
        deleted.client.must(deleted.url(2), "DELETE", f"/v1/record?era={era}")
        wait_until(lambda: accounts["locked"].look(2).state == "locked", "locked", 20)
        vault.terminate(1)
        owned = seat_state(vault, 1, [])
        for account in accounts.values():
            account.nodes = HONEST
        yield Scene(vault, owned, accounts, made, guesses)
        for account in accounts.values():
            account.close()


@pytest.fixture(scope="module")
def intruder(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intruder]:
    folder = tmp_path_factory.mktemp("intruder") / "files"
    with Intruder(scene.vault, 1, folder) as owned:
        yield owned


@pytest.fixture(autouse=True)
def everybody_stays_up(scene: Scene) -> Iterator[None]:
    """Whatever is said, no node ends and no budget grows."""
    pids = {node: scene.vault.cluster.nodes[node].process.pid for node in HONEST}
    yield
    for node, pid in pids.items():
        if scene.over:
            break
        process = scene.vault.cluster.nodes[node].process
        assert process.returncode is None, f"node {node} ended"
        assert process.pid == pid
    testimony = witness.read(scene.vault.witnesses)
    assert testimony.violations(LIMIT) == []


def attempt_ask(record_id: bytes, era: int, ke1: bytes) -> Callable[[int], AttemptAsk]:
    return lambda number: AttemptAsk(number, record_id, era, ke1)


def refused_and_witnessed(scene: Scene, ask: AttemptAsk, answers: Mapping[int, Any]) -> None:
    attempt = opaque.attempt_id(ask.record_id, ask.ke1).hex()
    for node, answer in answers.items():
        assert isinstance(answer, Declined), (node, answer)
        assert any(
            line["attempt_id"] == attempt and line["result"] == "refused" and line["seat"] == node
            for line in lines(scene, node)
        ), f"node {node} has not witnessed it"


# ------------------------------------------------------------------ the service channel


def test_shares_of_an_attempt_that_is_charged_are_given_to_whoever_may_ask(
    scene: Scene, intruder: Intruder
) -> None:
    """The control: the same way of asking works where it should."""
    guess = scene.guesses["open"][0]
    record_id = scene.made["open"].record_id
    before = scene.accounts["open"].seen()
    answers = intruder.ask(HONEST, attempt_ask(record_id, before.era, guess.login.ke1))
    assert all(isinstance(answer, AttemptShare) for answer in answers.values()), answers
    shares = [(node, answer.element) for node, answer in answers.items()]
    for chosen in combinations(shares, 3):
        assert threshold_combine(list(chosen)) == unb64(guess.answer["ke2"])[:32]
    assert scene.accounts["open"].seen() == before


def test_an_attempt_that_nobody_charged_gets_no_share(scene: Scene, intruder: Intruder) -> None:
    record_id, era = scene.made["open"].record_id, scene.accounts["open"].seen().era
    charged = scene.guesses["open"][0].login.ke1
    fresh = opaque.login_start(RIGHT).ke1
    asks = {
        "a fresh attempt": (record_id, era, fresh),
        "another element with the charged attempt's nonce": (
            record_id,
            era,
            fresh[:32] + charged[32:],
        ),
        "the charged element in another attempt": (record_id, era, charged[:32] + fresh[32:]),
        "the charged attempt in an era to come": (record_id, era + 1, charged),
        "the last era that there can be": (record_id, 2**53 - 1, charged),
    }
    before, shares = scene.accounts["open"].seen(), given(scene)
    pairs = [(node, attempt_ask(*ask)) for ask in asks.values() for node in HONEST]
    answers = intruder.ask_one_each(pairs)
    for number, (name, ask) in enumerate(asks.items()):
        told = dict(zip(HONEST, answers[4 * number : 4 * number + 4], strict=True))
        assert {answer.reason for answer in told.values()} == {Reason.TIMEOUT}, name
        refused_and_witnessed(scene, AttemptAsk(0, *ask), told)
    assert given(scene) == shares
    assert scene.accounts["open"].seen() == before


def test_what_can_never_be_charged_is_refused_at_once(scene: Scene, intruder: Intruder) -> None:
    fresh = opaque.login_start(RIGHT).ke1

    def of(name: str, *, era: int = 0, ke1: bytes = fresh) -> tuple[bytes, int, bytes]:
        return scene.made[name].record_id, scene.accounts[name].seen().era + era, ke1

    charged = {name: each[0].login.ke1 for name, each in scene.guesses.items() if each}
    asks = {
        "the charged attempt in the era before": (
            of("open", era=-1, ke1=charged["open"]),
            Reason.LATER_ERA,
        ),
        "an attempt of a replaced registration": (
            of("replaced", era=-1, ke1=charged["replaced"]),
            Reason.LATER_ERA,
        ),
        "a deleted record": (of("deleted", ke1=charged["deleted"]), Reason.REFUSED),
        "a deleted record in its living era": (
            of("deleted", era=-1, ke1=charged["deleted"]),
            Reason.LATER_ERA,
        ),
        "a locked record": (of("locked", ke1=charged["locked"]), Reason.REFUSED),
        "a locked record in its living era": (
            of("locked", era=-1, ke1=charged["locked"]),
            Reason.LATER_ERA,
        ),
        "an account that never was": ((os.urandom(32), 0, fresh), Reason.REFUSED),
        "no group element": (of("open", ke1=bytes(32) + fresh[32:]), Reason.REFUSED),
        "a non-canonical element": (of("open", ke1=b"\xff" * 32 + fresh[32:]), Reason.REFUSED),
    }
    shares = given(scene)
    for name, (ask, reason) in asks.items():
        answers = intruder.ask(HONEST, attempt_ask(*ask))
        assert {answer.reason for answer in answers.values()} == {reason}, (name, answers)
        refused_and_witnessed(scene, AttemptAsk(0, *ask), answers)
    assert given(scene) == shares


def test_the_registration_path_evaluates_only_what_a_registration_was_made_for(
    scene: Scene, intruder: Intruder
) -> None:
    made = scene.made["open"]
    request, proof_key = unb64(made.start["request"]), unb64(made.start["proof_key"])
    element = opaque.login_start(RIGHT).ke1[:32]
    active = (made.record_id, made.era, request, proof_key, made.registration_id)
    wrong = {
        "another element": (*active[:2], element, *active[3:]),
        "another era": (active[0], made.era + 1, *active[2:]),
        "another proof key": (*active[:3], os.urandom(32), active[4]),
        "another account": (scene.made["full"].record_id, *active[1:]),
        "another registration": (*active[:4], scene.made["full"].registration_id),
        "no element": (
            *active[:2],
            bytes(32),
            proof_key,
            opaque.registration_id(made.record_id, made.era, bytes(32), proof_key),
        ),
    }
    for name, fields in wrong.items():
        answers = intruder.ask(HONEST, lambda number, f=fields: RegistrationAsk(number, *f))
        assert {answer.reason for answer in answers.values()} == {Reason.REFUSED}, (name, answers)
        for node in HONEST:
            last = [line for line in lines(scene, node) if line["kind"] == "registration"][-1]
            assert (last["result"], last["registration_id"]) == ("refused", fields[4].hex()), name


def test_a_made_up_registration_of_the_element_to_guess_evaluates_under_another_key(
    scene: Scene, intruder: Intruder
) -> None:
    made, guess = scene.made["open"], scene.guesses["open"][0]
    element = guess.login.ke1[:32]
    mine = opaque.proof_public_key(os.urandom(32))
    true = unb64(guess.answer["ke2"])[:32]
    record, server = unb64(made.upload["record"]), server_key(scene)
    assert two_seats.opens(record, server, RIGHT, guess.login.blind, true)
    for era in (made.era, made.era + 1):
        made_up = opaque.registration_id(made.record_id, era, element, mine)
        answers = intruder.ask(
            HONEST,
            lambda n, e=era, r=made_up: RegistrationAsk(n, made.record_id, e, element, mine, r),
        )
        assert all(isinstance(each, RegistrationShare) for each in answers.values())
        evaluated = threshold_combine([(node, answers[node].element) for node in (2, 3, 4)])
        assert evaluated != true
        assert not two_seats.opens(record, server, RIGHT, guess.login.blind, evaluated)


def test_service_frames_that_are_none_are_dropped_and_counted(
    scene: Scene, intruder: Intruder
) -> None:
    record_id, ke1 = scene.made["open"].record_id, scene.guesses["open"][0].login.ke1
    pack = msgspec.msgpack.encode
    frames = [
        b"",
        b"\xc1",
        os.urandom(200),
        pack([1, []]),
        pack([2, [["attempt", 1, record_id, 1, ke1]]]),
        pack([1, [["attempt", 1, record_id, 1, ke1[:-1]]]]),
        pack([1, [["attempt", 1, record_id, 2**53, ke1]]]),
        pack([1, [["attempt", -1, record_id, 1, ke1]]]),
        pack([1, [["attempt", 1, record_id, 1, ke1, "more"]]]),
        pack([1, [["attempt", 1, record_id, 1, ke1]], "more"]),
        pack([1, [["give", 1]]]),
        pack([1, [["declined", 1, "busyx", 0]]]).replace(b"busyx", b"\xa5usyx"),
        pack([1, [["cancel", 1]] * 1025]),
        bytes(2 << 20),
    ]
    for node in HONEST:
        before = bad_frames(scene, node)
        for frame in frames:
            intruder.send(node, SERVICE_CHANNEL, frame)
        wait_until(lambda n=node, b=before: bad_frames(scene, n) == b + len(frames), "all counted")
    era = scene.accounts["open"].seen().era
    answers = intruder.ask(HONEST, attempt_ask(record_id, era, ke1))
    assert all(isinstance(answer, AttemptShare) for answer in answers.values())


def test_answers_that_nobody_asked_the_intruder_for_are_not_used(
    scene: Scene, intruder: Intruder
) -> None:
    """False shares, refusals and cancels, under numbers of asks that go to other nodes."""
    made = scene.made["full"]
    account = scene.accounts["full"]
    era = account.seen().era
    lie = opaque.multiply_base(opaque.random_scalar())
    frames = []
    for start in range(0, 1000, 250):
        numbers = range(start, start + 250)
        frames += [
            service_frame([AttemptShare(n, made.registration_id, era, lie) for n in numbers]),
            service_frame([Declined(n, Reason.LATER_ERA, era + 1) for n in numbers]),
            service_frame([CancelAsk(n) for n in numbers]),
        ]
    done, target, rounds = threading.Event(), [HONEST[0]], [0]
    nobodys = attempt_ask(os.urandom(32), 0, opaque.login_start(RIGHT).ke1)

    def flood() -> None:
        while not done.is_set():
            node = target[0]
            for frame in frames:
                intruder.send(node, SERVICE_CHANNEL, frame)
            intruder.ask([node], nobodys)  # it has read the frames before
            rounds[0] += 1

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for target[0] in HONEST:
            before = rounds[0]
            while rounds[0] < before + 3:
                assert account.recover(target[0], RIGHT) == b"full"
    finally:
        done.set()
        flooding.join()


# ------------------------------------------------------------------ the host channel


@pytest.fixture(scope="module")
def believed(intruder: Intruder) -> Intruder:
    intruder.greet()
    return intruder


def forward(intruder: Intruder, command: bytes, seq: int) -> list[Any]:
    """Forward a command to every node as if each led; what they said, one answer from each."""

    def said(node: int) -> Any:
        for nack in intruder.heard(node, Nack):
            if (seq, 1) in nack.sends:
                return nack
        return next((a for a in intruder.heard(node, Accepted) if seq in a.seqs), None)

    for node in HONEST:
        intruder.say(node, Forward(0, [(seq, 1, command)]))
    wait_until(lambda: all(said(node) for node in HONEST), f"everybody answered {seq}")
    return [said(node) for node in HONEST]


def reasons(answers: list[Any]) -> list[str]:
    return sorted(a.reason if isinstance(a, Nack) else "accepted" for a in answers)


def test_forged_commands_that_are_none_never_enter_the_log(
    scene: Scene, believed: Intruder
) -> None:
    account = scene.accounts["open"]
    record_id, era = scene.made["open"].record_id, account.seen().era
    pack = msgspec.msgpack.encode
    commands = [
        b"",
        b"\xc1",
        os.urandom(100),
        bytes(4096),
        pack(["reset", record_id, era]),
        pack(["charge", record_id, era]),
        pack(["charge", record_id[:-1], era, bytes(32)]),
        pack(["charge", record_id, 2**53, bytes(32)]),
        pack(["charge", record_id, -1, bytes(32)]),
        pack(["charge", record_id, era, bytes(32), "more"]),
        pack(["charge", record_id, era, bytes(32)]) + b"\0",
        encode_command(Expire(record_id, era)),
    ]
    before = account.seen()
    for seq, command in enumerate(commands, start=1):
        answers = forward(believed, command, seq)
        assert reasons(answers) == ["malformed"] + ["not-leader"] * 3, command
    assert account.seen() == before


def test_forged_commands_that_the_record_refuses_change_nothing(
    scene: Scene, believed: Intruder
) -> None:
    account, made = scene.accounts["full"], scene.made["full"]
    proven = account.guess(2, RIGHT)
    assert account.prove(2, proven).status == 200
    signature = unb64(proven.proof[1]["signature"])
    old_attempt = opaque.attempt_id(made.record_id, proven.login.ke1)
    wrong = account.guess(3, WRONG)
    attempt = opaque.attempt_id(made.record_id, wrong.login.ke1)
    before = account.seen()
    record_id, era, registration = made.record_id, before.era, made.registration_id
    other = account.prepare(2, b"mine", b"mine")
    sealed = bytes(400)
    request, proof_key = unb64(other.start["request"]), unb64(other.start["proof_key"])
    old_request, old_key = unb64(made.start["request"]), unb64(made.start["proof_key"])
    commands = {
        "the last proof again": Prove(record_id, registration, era - 1, old_attempt, signature),
        "its signature in this era": Prove(record_id, registration, era, old_attempt, signature),
        "its signature for another attempt": Prove(
            record_id, registration, era, attempt, signature
        ),
        "no signature": Prove(record_id, registration, era, attempt, bytes(64)),
        "a proof of nobody's": Prove(record_id, other.registration_id, era, attempt, signature),
        "the active one activated": Activate(record_id, registration, bytes(64)),
        "what is not pending": Activate(record_id, other.registration_id, bytes(64)),
        "another seal for the active one": Register(
            record_id, made.era, old_request, old_key, sealed
        ),
        "an era gone by": Register(record_id, era - 1, request, proof_key, sealed),
        "a weak key": Register(record_id, era, request, b"\x01" + bytes(31), sealed),
        "a charge of an era gone by": Charge(record_id, era - 1, os.urandom(32)),
        "a charge of an era to come": Charge(record_id, era + 1, os.urandom(32)),
        "the same charge": Charge(record_id, era, attempt),
        "a deletion of another era": Delete(record_id, era + 1),
        "nothing": Barrier(),
    }
    for seq, (name, command) in enumerate(commands.items(), start=1000):
        answers = forward(believed, encode_command(command), seq)
        assert reasons(answers) == ["accepted"] + ["not-leader"] * 3, name
        assert account.seen() == before, name


def test_forged_charges_spend_the_budget_and_nothing_is_given_beyond_it(
    scene: Scene, believed: Intruder
) -> None:
    account, made = scene.accounts["full"], scene.made["full"]
    assert account.recover(2, RIGHT) == b"full"
    era = account.seen().era
    tries = [opaque.login_start(WRONG).ke1 for _ in range(LIMIT + 2)]
    for seq, ke1 in enumerate(tries, start=2000):
        charge = Charge(made.record_id, era, opaque.attempt_id(made.record_id, ke1))
        assert reasons(forward(believed, encode_command(charge), seq))[0] == "accepted"
    for number, ke1 in enumerate(tries):
        answers = believed.ask(HONEST, attempt_ask(made.record_id, era, ke1))
        if number >= LIMIT:  # full, or locked by now
            refused_and_witnessed(scene, AttemptAsk(0, made.record_id, era, ke1), answers)
            said = {answer.reason for answer in answers.values()}
            assert said <= {Reason.REFUSED, Reason.LATER_ERA}
    evaluated = witness.read(scene.vault.witnesses).evaluated()
    assert len(evaluated.get((made.registration_id.hex(), era), set())) <= LIMIT
    wait_until(lambda: account.look(2).state == "locked", "locked after its grace", 20)


APPEND, APPEND_RESPONSE, VOTE, HEARTBEAT = 3, 4, 5, 8


def test_host_frames_that_are_none_cut_the_link_and_nothing_else(
    scene: Scene, believed: Intruder
) -> None:
    account = scene.accounts["open"]
    before = account.seen()
    groups = {node: status(scene, node)["groups"][0] for node in HONEST}
    far = 1_000_000
    frames = {
        "nothing": lambda _to, _other: b"",
        "noise": lambda _to, _other: os.urandom(300),
        "another version": lambda _to, _other: msgspec.msgpack.encode([2, 1, []]),
        "text that is not UTF-8": lambda _to, _other: believed.frame(
            SnapshotProgress(0, "a", "going")
        ).replace(b"going", b"\xa5oing"),
        "entries behind an index of no term": lambda to, _other: raft(
            raft_message(APPEND, to, 1, 99, index=far, commit=far)
        ),
        "an unknown item": lambda _to, _other: msgspec.msgpack.encode([1, 1, [[99, 1]]]),
        "a shard that is none": lambda _to, _other: believed.frame(Forward(200, [])),
        "no message": lambda _to, _other: raft(b"\xff\xff"),
        "a message of a shard that is none": lambda to, _other: believed.frame(
            RaftMessages([(9, raft_message(HEARTBEAT, to, 1, 99))])
        ),
        "a vote in another's name": lambda to, other: raft(raft_message(VOTE, to, other, 99)),
        "a heartbeat in another's name": lambda to, other: raft(
            raft_message(HEARTBEAT, to, other, 99, commit=far)
        ),
        "an acknowledgement in another's name": lambda to, other: raft(
            raft_message(APPEND_RESPONSE, to, other, groups[to]["term"], index=far)
        ),
        "entries in the node's own name": lambda to, _other: raft(raft_message(APPEND, to, to, 99)),
        "a message to another node": lambda _to, other: raft(raft_message(VOTE, other, 1, 99)),
        "a message of no term": lambda to, _other: raft(raft_message(HEARTBEAT, to, 1, 0)),
        "another cluster's greeting": lambda _to, _other: believed.frame(
            Hello(bytes(16), 2_000_000, bytes(16))
        ),
    }

    def raft(message: bytes) -> bytes:
        return believed.frame(RaftMessages([(0, message)]))

    for name, make in frames.items():
        cuts = dict(believed.cuts)
        for node, other in zip(HONEST, HONEST[1:] + HONEST[:1], strict=True):
            believed.send(node, HOST_CHANNEL, make(node, other))
        for node in HONEST:
            believed.until_cut(node, cuts.get(node, 0))
            assert scene.vault.cluster.nodes[node].process.returncode is None, name
    believed.until_heard()
    for node in HONEST:  # nobody's term moved for it
        assert status(scene, node)["groups"][0]["term"] == groups[node]["term"]
    assert account.seen() == before


def test_frames_of_an_earlier_life_and_greetings_of_one_are_not_believed(
    scene: Scene, believed: Intruder
) -> None:
    account, made = scene.accounts["open"], scene.made["open"]
    before = account.seen()
    charge = encode_command(Charge(made.record_id, before.era, os.urandom(32)))
    for node in HONEST:
        old = encode_frame(Frame(1, [Forward(0, [(5000, 1, charge)])]))
        believed.send(node, HOST_CHANNEL, old)
        believed.say(node, Hello(believed.cluster.cluster_id.bytes, 1, os.urandom(16)))
        alarm = "greeted as incarnation 1"
        wait_until(
            lambda n=node, a=alarm: any(a in text for text in status(scene, n)["alarms"]),
            "an alarm about the older copy",
        )
        assert not any(5000 in a.seqs for a in believed.heard(node, Accepted))
    assert account.seen() == before


# ------------------------------------------------------------------ certificates


PEER_PATHS = (LINK_PATH, "/peer/snapshots/out-0-0")


@pytest.mark.parametrize("who", ["operator", "another cluster's node", "an unknown node", "itself"])
async def test_the_peer_port_is_for_peers_of_this_cluster(
    scene: Scene, tmp_path: Path, who: str
) -> None:
    cluster = scene.vault.cluster.cluster_id
    files = {
        "operator": lambda: operator(scene),
        "another cluster's node": lambda: issued(
            scene, tmp_path, "quorumvault://00112233-4455-6677-8899-aabbccddeeff/node/1"
        ),
        "an unknown node": lambda: issued(scene, tmp_path, f"quorumvault://{cluster}/node/6"),
        "itself": lambda: node_files(scene, 2),
    }[who]()
    assert await link(scene, 2, files) == 403
    for path in PEER_PATHS:
        assert (await get(scene, 2, "peer", path, files))[0] == 403


@pytest.mark.parametrize("listener", ["peer", "admin"])
async def test_without_a_certificate_of_this_authority_nothing_is_said(
    scene: Scene, tmp_path: Path, listener: str
) -> None:
    cluster = scene.vault.cluster.cluster_id
    stranger = issued(scene, tmp_path, f"quorumvault://{cluster}/node/1", by_others=True)
    path = {"peer": LINK_PATH, "admin": "/v1/status"}[listener]
    for files in (None, stranger):
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await get(scene, 2, listener, path, files)


async def test_the_admin_port_is_not_for_nodes(scene: Scene, tmp_path: Path) -> None:
    uri = "quorumvault://00112233-4455-6677-8899-aabbccddeeff/operator/eve"
    foreign = issued(scene, tmp_path, uri)
    for files in (node_files(scene, 1), node_files(scene, 2), foreign):
        code, text = await get(scene, 2, "admin", "/v1/status", files)
        assert code == 403, text
        assert "groups" not in text
    assert (await get(scene, 2, "admin", "/v1/status", operator(scene)))[0] == 200


# ------------------------------------------------------------------ a forged log


def stored(made: Registration) -> StoredRegistration:
    """A registration as a record keeps it; the seal does not matter to a liar."""
    return StoredRegistration(
        made.registration_id,
        made.era,
        unb64(made.start["request"]),
        unb64(made.start["proof_key"]),
        bytes(400),
    )


def alive(record: Record, made: Registration) -> Record:
    """The record with this registration active again, unlocked and with an empty list."""
    return Record(record.version + 2, record.era + 2, stored(made), None, (), None, False)


def test_a_forged_log_never_gets_more_than_the_limit_out_of_an_honest_ledger(
    scene: Scene, believed: Intruder
) -> None:
    """Elected by a lie, one owned node installs records that never were and charges at will."""
    records = {
        bytes.fromhex(key): bytes.fromhex(value) for key, value in scene.owned["records"].items()
    }
    ids = {name: made.record_id for name, made in scene.made.items()}
    old = {name: decode_record(records[each]) for name, each in ids.items()}
    emptied, proof = old["emptied"], old["forged-proof"]
    first = proof.attempts[0]
    lies = {
        "emptied": msgspec.structs.replace(emptied, attempts=()),
        "forged-proof": msgspec.structs.replace(
            proof,
            version=proof.version + 1,
            era=proof.era + 1,
            attempts=(),
            last_proof=LastProof(first, proof.era, os.urandom(64)),
        ),
        "replaced": alive(old["replaced"], scene.made["replaced"]),
        "deleted": alive(old["deleted"], scene.made["deleted"]),
        "locked": alive(old["locked"], scene.made["locked"]),
    }
    for name, lie in lies.items():
        records[ids[name]] = encode_record(lie)
    groups = [status(scene, node)["groups"][0] for node in HONEST]
    term = max(group["term"] for group in groups) + 5
    index = max(group["last_index"] for group in groups) + 1000
    leader = ForgedLeader(believed, term, index, records)
    room = {"emptied": 1, "forged-proof": 1, "replaced": 0, "deleted": 0, "locked": 0}
    why = {
        "emptied": "ledger-full",
        "forged-proof": "ledger-full",
        "replaced": "not-current",
        "deleted": "not-current",
        "locked": "not-current",
    }
    for name, lie in lies.items():
        tries = [opaque.login_start(RIGHT).ke1 for _ in range(LIMIT)]
        leader.commit(
            *(Charge(ids[name], lie.era, opaque.attempt_id(ids[name], ke1)) for ke1 in tries)
        )
        for number, ke1 in enumerate(tries):
            ask = AttemptAsk(0, ids[name], lie.era, ke1)
            answers = believed.ask(HONEST, attempt_ask(ask.record_id, ask.era, ask.ke1))
            if number < room[name]:
                assert all(isinstance(each, AttemptShare) for each in answers.values()), answers
                continue
            refused_and_witnessed(scene, ask, answers)
            for node in HONEST:
                last = [line for line in lines(scene, node) if line["result"] == "refused"][-1]
                assert why[name] in last["reason"], (name, last)
    for node in HONEST:
        alarms = "\n".join(status(scene, node)["alarms"])
        for text in (
            "beyond the limit",
            "does not verify with the ledger",
            "before this account's",
        ):
            assert text in alarms, (node, alarms)
    leader.end()
    testimony = witness.read(scene.vault.witnesses)
    for name in lies:
        registration = scene.made[name].registration_id.hex()
        evaluated = set[str]().union(
            *(ids for (each, _), ids in testimony.evaluated().items() if each == registration)
        )
        assert len(evaluated) <= LIMIT, name


# ------------------------------------------------------------------ two data centers owned


def test_two_seats_cannot_guess_with_everything_that_they_have_and_any_three_can(
    scene: Scene, intruder: Intruder
) -> None:
    """The vault is over: its machines are opened one by one, PIN and all."""
    made, server = scene.made["open"], server_key(scene)
    intruder.close()
    scene.vault.kill(*HONEST)
    scene.over = True
    seats = {n: seat_state(scene.vault, n, [made.registration_id]) for n in scene.vault.ids}
    record = unb64(made.upload["record"])
    for state in seats.values():  # what `seal` hides is known to each of them
        assert state["contents"][made.record_id.hex()]["record"] == record.hex()
    secret = {
        seat: {
            bytes.fromhex(group): two_seats.subset_scalar(bytes.fromhex(prf))
            for group, prf in state["prfs"][made.registration_id.hex()]
        }
        for seat, state in seats.items()
    }
    assert {len(sets) for sets in secret.values()} == {6}

    def known(owned: tuple[int, ...]) -> dict[bytes, int]:
        sets: dict[bytes, int] = {}
        for seat in owned:
            sets |= secret[seat]
        return sets

    for owned in combinations(secret, 2):
        assert len(known(owned)) == 9
        assert not two_seats.guess(known(owned), record, server, RIGHT), owned
    for owned in combinations(secret, 3):
        assert len(known(owned)) == 10
        assert two_seats.guess(known(owned), record, server, RIGHT), owned
        assert not two_seats.guess(known(owned), record, server, WRONG), owned
