"""The list of docs/mobile.md, "Check your client", for the client that was written from the page.

The vault is a small one with real cryptography behind five TLS listeners; who stands between it and
the client is the test. Against five real nodes: tests/system/test_two_clients.py.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import second_bytes
from honest_vault import Call, HonestVault, Reply
from second_client import SecondClient, WrongPassword
from second_wire import NODE_URI, Failed, Refused, Superseded, Tampered, Unavailable
from served_vault import Served

from quorumvault import Vault

KEY = bytes(range(200, 232))
PASSWORD = "pässword"
STEPS = {
    "start": ("POST", "/v1/registrations"),
    "put": ("PUT", "/v1/registrations/"),
    "activation": ("POST", "/activation"),
    "look": ("GET", "/v1/record"),
    "attempt": ("POST", "/v1/attempts"),
    "proof": ("POST", "/proof"),
    "delete": ("DELETE", "/v1/record?"),
}


def step(call: Call) -> str:
    for name, (method, path) in STEPS.items():
        fits = call.path.startswith(path) if path.endswith(("/", "?")) else call.path.endswith(path)
        if call.method == method and fits:
            return name
    return "hello"


class Phone:
    """A phone's files; every `client()` is the app started anew."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self.state = served, folder / "state"
        self.store: dict[str, bytes] = {}
        self.tokens = 0

    def token(self) -> str:
        self.tokens += 1
        return "a token"

    def client(self, *, first: int = 1) -> SecondClient:
        urls = [self.served.urls[(first + at - 1) % 5 + 1] for at in range(5)]
        return SecondClient(urls, str(self.served.ca), self.token, self.state, self.store)


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(HonestVault(), tmp_path_factory.mktemp("vault"))
    served.start()
    yield served
    served.stop()


@pytest.fixture
def phone(listeners: Served, tmp_path: Path) -> Phone:
    """A new phone and a new vault behind the same listeners."""
    listeners.vault = HonestVault()
    return Phone(listeners, tmp_path)


@pytest.fixture(scope="module")
def after_registration(
    listeners: Served, tmp_path_factory: pytest.TempPathFactory
) -> tuple[HonestVault, Phone]:
    listeners.vault = HonestVault()
    phone = Phone(listeners, tmp_path_factory.mktemp("phone"))
    phone.client().register(PASSWORD, KEY)
    listeners.vault.calls.clear()
    return listeners.vault, phone


@pytest.fixture
def registered(after_registration: tuple[HonestVault, Phone], tmp_path: Path) -> Phone:
    """A phone that has registered; a copy of it and of the vault, for each test."""
    vault, made = after_registration
    made.served.vault = copy.deepcopy(vault)
    phone = Phone(made.served, tmp_path)
    phone.state.write_bytes(made.state.read_bytes())
    phone.state.chmod(0o600)
    phone.store |= made.store
    return phone


def remaining(vault: HonestVault) -> int:
    return int(vault.serve(1, "GET", "/v1/record", None).json()["guesses_remaining"])


def guesses(vault: HonestVault) -> int:
    """How many passwords were evaluated, however often."""
    return len(set(vault.evaluated))


def steps(vault: HonestVault) -> Counter[str]:
    return Counter(step(call) for call in vault.calls)


def once(
    where: str, change: Callable[[Reply], Reply | None]
) -> Callable[[Call, Callable[[], Reply]], Reply | None]:
    """The first answer to that step is another one; the vault has acted."""
    changed: list[Call] = []

    def interfere(call: Call, answer: Callable[[], Reply]) -> Reply | None:
        reply = answer()
        if step(call) != where or changed:
            return reply
        changed.append(call)
        return change(reply)

    return interfere


# ------------------------------------------------------------------ it works


def test_a_new_phone_recovers_through_another_node(registered: Phone, tmp_path: Path) -> None:
    new = Phone(registered.served, tmp_path / "new")
    new.state.parent.mkdir()
    assert new.client(first=4).recover(PASSWORD) == KEY
    assert new.store["backup"] == KEY
    assert remaining(new.served.vault) == 10
    assert registered.served.vault.calls[1].node == 4


def test_it_asks_three_data_centers_where_the_page_says_three(phone: Phone) -> None:
    phone.client().register(PASSWORD, KEY)
    calls = phone.served.vault.calls
    assert {call.node for call in calls if step(call) == "start"} == {1, 2, 3}
    told = steps(phone.served.vault)
    assert told == {"hello": 3, "start": 3, "put": 1, "activation": 1, "look": 6}


def test_a_wrong_password_is_asked_at_two_data_centers_and_counted_once(registered: Phone) -> None:
    with pytest.raises(WrongPassword) as caught:
        registered.client().recover("wrong")
    assert (caught.value.guesses_remaining, caught.value.certain) == (9, True)
    asked = [call for call in registered.served.vault.calls if step(call) == "attempt"]
    assert len({call.node for call in asked}) == 2
    assert len({call.body["ke1"] for call in asked}) == 1
    assert asked[1].body["verify"] is True
    assert remaining(registered.served.vault) == 9


def test_a_new_password_keeps_the_key_and_ends_the_old_one(registered: Phone) -> None:
    registered.client().register("another one", KEY)
    with pytest.raises(WrongPassword):
        registered.client().recover(PASSWORD)
    assert registered.client().recover("another one") == KEY


def test_what_is_deleted_is_gone(registered: Phone) -> None:
    registered.client().delete()
    assert registered.client().status()["state"] == "none"
    with pytest.raises(Refused, match="not-registered"):
        registered.client().recover(PASSWORD)


def test_two_data_centers_that_are_down_change_nothing(served: Served, tmp_path: Path) -> None:
    phone = Phone(served, tmp_path)
    for node in (1, 2):
        served.kill(node)
    phone.client().register(PASSWORD, KEY)
    assert phone.client().recover(PASSWORD) == KEY


def test_the_sdk_and_the_second_client_take_turns_with_one_record(
    phone: Phone, tmp_path: Path
) -> None:
    vault = phone.served.vault
    connection = phone.served.connection_file()
    with Vault.from_connection(connection, "alice", state_file=tmp_path / "sdk.json") as sdk:
        made = sdk.register(PASSWORD)
        assert phone.client().recover(PASSWORD) == made.backup_key
        with pytest.raises(WrongPassword):
            phone.client().recover("wrong")
        assert sdk.status().guesses_remaining == 9
        phone.client().register("the second one's", KEY)
        assert sdk.recover("the second one's") == KEY
    assert remaining(vault) == 10


# ------------------------------------------------------------------ lost answers, kills


@pytest.mark.parametrize("lost", ["start", "put", "activation", "look"])
def test_a_registration_survives_a_lost_answer(lost: str, phone: Phone) -> None:
    phone.served.vault.interfere = once(lost, lambda reply: None)
    phone.client().register(PASSWORD, KEY)
    puts = [call.body for call in phone.served.vault.calls if step(call) == "put"]
    assert all(put == puts[0] for put in puts)
    assert phone.client().recover(PASSWORD) == KEY


@pytest.mark.parametrize("lost", ["attempt", "proof"])
def test_a_recovery_survives_a_lost_answer_and_costs_one_guess(
    lost: str, registered: Phone
) -> None:
    vault = registered.served.vault
    vault.interfere = once(lost, lambda reply: None)
    assert registered.client().recover(PASSWORD) == KEY
    ke1 = {call.body["ke1"] for call in vault.calls if step(call) in ("attempt", "proof")}
    assert (len(ke1), guesses(vault)) == (1, 1)
    assert steps(vault)[lost] == 2


def test_a_delete_survives_a_lost_answer(registered: Phone) -> None:
    registered.served.vault.interfere = once("delete", lambda reply: None)
    registered.client().delete()
    assert registered.client().status()["state"] == "none"


class Killed(BaseException):
    """The app ends here."""


def killed_before(client: SecondClient, where: str) -> SecondClient:
    """The client that is killed when it would send that step's first request."""
    method, path = STEPS[where]
    send = client.wire.exchange

    def exchange(url: str, called: str, target: str, body: bytes | None, *, token: bool):
        if called == method and path in target:
            raise Killed
        return send(url, called, target, body, token=token)

    client.wire.exchange = exchange
    return client


@pytest.mark.parametrize("where", ["put", "activation"])
def test_a_killed_registration_is_finished_by_the_next_start(where: str, phone: Phone) -> None:
    with pytest.raises(Killed):
        killed_before(phone.client(), where).register(PASSWORD, KEY)
    with pytest.raises(Failed, match="unfinished"):
        phone.client().register(PASSWORD, KEY)
    phone.client().finish_registration()
    assert phone.client().recover(PASSWORD) == KEY
    assert steps(phone.served.vault)["start"] == 3


@pytest.mark.parametrize("where", ["attempt", "look", "proof"])
def test_a_killed_recovery_goes_on_with_the_same_guess(where: str, registered: Phone) -> None:
    vault = registered.served.vault
    with pytest.raises(Killed):
        killed_before(registered.client(), where).recover(PASSWORD)
    assert registered.client().recover(PASSWORD) == KEY
    ke1 = {call.body["ke1"] for call in vault.calls if step(call) in ("attempt", "proof")}
    assert len(ke1) == guesses(vault) == 1


def test_another_password_after_a_kill_is_another_guess(registered: Phone) -> None:
    with pytest.raises(Killed):
        killed_before(registered.client(), "proof").recover(PASSWORD)
    with pytest.raises(WrongPassword):
        registered.client().recover("wrong")
    assert registered.client().recover(PASSWORD) == KEY


def test_a_wrong_password_that_is_typed_again_after_a_kill_is_one_guess(
    registered: Phone,
) -> None:
    with pytest.raises(Killed):
        killed_before(registered.client(), "attempt").recover("wrong")
    with pytest.raises(WrongPassword) as caught:
        registered.client().recover("wrong")
    assert caught.value.guesses_remaining == 9
    assert guesses(registered.served.vault) == 1


def test_an_attempt_that_was_never_sent_costs_nothing_when_another_password_is_typed(
    registered: Phone,
) -> None:
    with pytest.raises(Killed):
        killed_before(registered.client(), "attempt").recover("wrong")
    assert registered.client().recover(PASSWORD) == KEY
    assert guesses(registered.served.vault) == 1


def test_nothing_that_must_not_be_kept_is_in_the_state(phone: Phone) -> None:
    """Not even sealed; and the sealed file shows nothing of what may be."""
    for run in (
        lambda: killed_before(phone.client(), "put").register(PASSWORD, KEY),
        lambda: phone.client().finish_registration(),
        lambda: killed_before(phone.client(), "proof").recover(PASSWORD),
    ):
        with suppress(Killed):
            run()
        text = str(phone.client().state.values)
        kept = phone.state.read_bytes()
        for secret in (KEY.hex(), second_bytes.to_text(KEY), PASSWORD, "a token"):
            assert secret not in text
        assert all(value.encode() not in kept for value in ("record_id", PASSWORD))
        assert phone.state.stat().st_mode & 0o777 == 0o600


# ------------------------------------------------------------------ liars


def flipped(field: str) -> Callable[[Reply], Reply]:
    """One bit of one field is another, in canonical base64url."""

    def change(reply: Reply) -> Reply:
        text = reply.json()[field]
        data = second_bytes.from_text(text, range(1, 2000))
        return reply.but(**{field: second_bytes.to_text(bytes([data[0] ^ 2]) + data[1:])})

    return change


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("start", "response"),
        ("start", "registration_id"),
        ("start", "record_id"),
        ("look", "content"),
    ],
)
def test_a_registration_refuses_a_changed_byte(where: str, field: str, phone: Phone) -> None:
    def change(reply: Reply) -> Reply:
        told = reply.json()
        if field in told:
            return flipped(field)(reply)
        assert told["pending"], "the first look is at what is pending"
        inner = flipped(field)(Reply(200, b"{}").but(**told["pending"])).json()
        return reply.but(pending=inner)

    phone.served.vault.interfere = once(where, change)
    with pytest.raises(Tampered):
        phone.client().register(PASSWORD, KEY)
    assert steps(phone.served.vault)["activation"] == 0


@pytest.mark.parametrize("liar", [1, 2, 3])
def test_a_registration_refuses_what_one_of_three_evaluates_otherwise(
    liar: int, phone: Phone
) -> None:
    """With a key of its own, so that it could guess the password later."""

    def interfere(call: Call, answer: Callable[[], Reply]) -> Reply:
        if call.node != liar or step(call) != "start":
            return answer()
        request = second_bytes.from_text(call.body["request"], 32)
        own = second_bytes.times(second_bytes.random_scalar(), request)
        response = own + second_bytes.from_text(answer().json()["response"], 64)[32:]
        return answer().but(response=second_bytes.to_text(response))

    phone.served.vault.interfere = interfere
    with pytest.raises(Tampered, match="different answers"):
        phone.client().register(PASSWORD, KEY)
    assert steps(phone.served.vault)["put"] == 0


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("attempt", "proof_box"),
        ("attempt", "registration_id"),
        ("attempt", "attempt_id"),
        ("attempt", "record_id"),
        ("proof", "wrapped_key"),
        ("proof", "registration_id"),
    ],
)
def test_a_recovery_refuses_a_changed_byte(where: str, field: str, registered: Phone) -> None:
    registered.store.pop("backup")
    registered.served.vault.interfere = once(where, flipped(field))
    with pytest.raises(Tampered):
        registered.client().recover(PASSWORD)
    assert steps(registered.served.vault)["proof"] == (where == "proof")
    assert "backup" not in registered.store


def test_a_ke2_that_one_node_changed_is_asked_for_elsewhere(registered: Phone) -> None:
    """It looks like a wrong password; a second data center shows that it is none."""
    registered.served.vault.interfere = once("attempt", flipped("ke2"))
    assert registered.client().recover(PASSWORD) == KEY
    assert guesses(registered.served.vault) == 1


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("attempt", "era"),
        ("attempt", "receipt"),
        ("attempt", "guesses_remaining"),
        ("proof", "wrapped_key"),
    ],
)
def test_an_answer_that_lacks_a_field_is_none(where: str, field: str, registered: Phone) -> None:
    registered.served.vault.interfere = once(where, lambda reply: reply.but(**{field: None}))
    with pytest.raises(Tampered):
        registered.client().recover(PASSWORD)


@pytest.mark.parametrize("era", [-1, 1])
def test_an_era_that_no_other_data_center_knows_is_not_signed_for(
    era: int, registered: Phone
) -> None:
    vault = registered.served.vault
    vault.interfere = once("attempt", lambda reply: reply.but(era=reply.json()["era"] + era))
    with pytest.raises(Superseded if era < 0 else Tampered):
        registered.client().recover(PASSWORD)
    assert steps(vault)["proof"] == 0


def test_an_older_receipt_ends_it(registered: Phone) -> None:
    def older(reply: Reply) -> Reply:
        receipt = reply.json()["receipt"]
        return reply.but(receipt=receipt | {"index": 0})

    registered.served.vault.interfere = once("attempt", older)
    with pytest.raises(Tampered, match="back in time"):
        registered.client().recover(PASSWORD)


@pytest.mark.parametrize("code", ["locked", "exhausted", "not-registered"])
def test_a_node_that_alone_says_that_all_is_lost_is_not_believed(
    code: str, registered: Phone
) -> None:
    refusal = Reply(423, b"{}").but(code=code, charged="no")

    def interfere(call: Call, answer: Callable[[], Reply]) -> Reply:
        return refusal if call.node == 1 and step(call) == "attempt" else answer()

    registered.served.vault.interfere = interfere
    assert registered.client().recover(PASSWORD) == KEY


def test_two_data_centers_that_say_locked_are_believed(registered: Phone) -> None:
    refusal = Reply(423, b"{}").but(code="locked", charged="no")

    def interfere(call: Call, answer: Callable[[], Reply]) -> Reply:
        return refusal if call.node < 3 and step(call) == "attempt" else answer()

    registered.served.vault.interfere = interfere
    with pytest.raises(Refused, match="locked"):
        registered.client().recover(PASSWORD)
    assert [call.node for call in registered.served.vault.calls if step(call) == "attempt"] == [
        1,
        2,
    ]


# ------------------------------------------------------------------ who is it


@pytest.mark.parametrize(
    ("name", "value"),
    [("opaque_public_key", second_bytes.to_text(KEY)), ("suite", "a"), ("ksf", "b")],
)
def test_another_opaque_key_or_suite_gets_no_token(
    name: str, value: str, registered: Phone
) -> None:
    tokens = registered.tokens

    def interfere(call: Call, answer: Callable[[], Reply]) -> Reply:
        return answer().but(**{name: value}) if step(call) == "hello" else answer()

    registered.served.vault.interfere = interfere
    with pytest.raises(Tampered):
        registered.client().recover(PASSWORD)
    assert registered.tokens == tokens


@pytest.mark.parametrize(("name", "value"), [("node", 2), ("cluster_id", "0" * 36), ("nodes", [])])
def test_a_node_whose_table_is_not_that_of_its_certificate_is_left_out(
    name: str, value: object, registered: Phone
) -> None:
    def interfere(call: Call, answer: Callable[[], Reply]) -> Reply:
        hello = step(call) == "hello" and call.node == 1
        return answer().but(**{name: value}) if hello else answer()

    registered.served.vault.interfere = interfere
    assert registered.client().recover(PASSWORD) == KEY
    assert {call.node for call in registered.served.vault.calls if step(call) != "hello"} == {2, 3}


def test_another_node_at_a_known_url_gets_no_token(registered: Phone) -> None:
    client = registered.client()
    client.wire.known[registered.served.urls[1]][1] = 5
    assert client.recover(PASSWORD) == KEY
    assert 1 not in {call.node for call in registered.served.vault.calls}


def test_another_authority_gets_no_token(
    registered: Phone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Served(HonestVault(), tmp_path_factory.mktemp("other"))
    other.start()
    client, tokens = registered.client(), registered.tokens
    try:
        client.wire.ca_file = str(other.ca)
        with pytest.raises(Unavailable):
            client.wire.ask("GET", "/v1/record", rounds=1)
    finally:
        other.stop()
    assert registered.tokens == tokens
    assert registered.served.vault.calls == []


@pytest.mark.parametrize(
    "uri",
    [
        "quorumvault://00112233-4455-6677-8899-aabbccddeeff/node/01",
        "quorumvault://00112233-4455-6677-8899-aabbccddeeff/node/0",
        "quorumvault://00112233-4455-6677-8899-aabbccddeeff/node/1/",
        "https://00112233-4455-6677-8899-aabbccddeeff/node/1",
    ],
)
def test_a_uri_that_names_no_node_is_refused(uri: str) -> None:
    assert NODE_URI.fullmatch(uri) is None


def test_a_password_that_is_no_unicode_is_refused_before_anything_is_sent(phone: Phone) -> None:
    for password in ("\ud800", "", "x" * 4097):
        with pytest.raises(Failed):
            phone.client().recover(password)
    assert phone.served.vault.calls == []
