"""OPAQUE over threshold shares: a whole life of a password, and what is refused on the way."""

from __future__ import annotations

import threading
import time

import pytest
import sodium_client
from bad_elements import BAD_ELEMENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from table_vault import TableVault

from engines import _engines

VAULT = TableVault()
PASSWORD = "pässword".encode()
STATE, REQUEST = _engines.opaque_registration_start(PASSWORD)
RESPONSE = VAULT.registration_response(REQUEST)
RECORD, EXPORT_KEY, SERVER_KEY = _engines.opaque_registration_finish(
    STATE, PASSWORD, RESPONSE, hazmat_identity_ksf=True
)
LOGIN_STATE, KE1 = _engines.opaque_login_start(PASSWORD)
KE2 = VAULT.ke2(KE1, RECORD)


def open_ke2(ke2: bytes, password: bytes = PASSWORD) -> tuple[bytes, bytes]:
    return _engines.opaque_login_finish(LOGIN_STATE, password, ke2, hazmat_identity_ksf=True)


def test_messages_have_their_exact_lengths() -> None:
    sizes = [len(m) for m in (REQUEST, RESPONSE, RECORD, EXPORT_KEY, SERVER_KEY, KE1, KE2)]
    assert sizes == [32, 64, 192, 64, 32, 96, 320]
    assert (len(STATE), len(LOGIN_STATE)) == (64, 192)


def test_the_right_password_brings_the_export_key_back_under_argon2id() -> None:
    state, request = _engines.opaque_registration_start(PASSWORD)
    response = VAULT.registration_response(request)
    record, export_key, server = _engines.opaque_registration_finish(state, PASSWORD, response)
    ke2 = VAULT.ke2(KE1, record)
    opened = _engines.opaque_login_finish(LOGIN_STATE, PASSWORD, ke2)
    assert opened == (export_key, server) == (export_key, VAULT.ake[1])
    with pytest.raises(_engines.OpaqueOpenError):  # the load clients' profile is another one
        open_ke2(ke2)


@pytest.mark.parametrize("seats", [(1, 2, 3), (2, 4, 5), (5, 1, 4)])
def test_ke2_opens_whichever_three_seats_gave_shares(seats: tuple[int, ...]) -> None:
    assert open_ke2(VAULT.ke2(KE1, RECORD, seats)) == (EXPORT_KEY, SERVER_KEY)


def test_every_ke2_is_fresh_but_evaluates_the_same_element() -> None:
    again = VAULT.ke2(KE1, RECORD)
    assert again[:32] == KE2[:32]
    assert again[32:] != KE2[32:]
    assert open_ke2(again) == open_ke2(KE2)


@pytest.mark.parametrize("wrong", [b"", b"password", PASSWORD + b"\0", PASSWORD[:-1]])
def test_a_wrong_password_does_not_open(wrong: bytes) -> None:
    with pytest.raises(_engines.OpaqueOpenError, match="does not open"):
        open_ke2(KE2, wrong)


def test_a_wrong_share_looks_like_a_wrong_password() -> None:
    other = sodium_client.hash_to_group(b"a liar's share")
    shares = [(1, VAULT.share(1, KE1[:32])), (2, VAULT.share(2, KE1[:32])), (3, other)]
    evaluated = _engines.threshold_combine(shares)
    with pytest.raises(_engines.OpaqueOpenError):
        open_ke2(_engines.opaque_ke2(KE1, RECORD, evaluated, *VAULT.ake))


def test_another_servers_key_does_not_open() -> None:
    impostor = _engines.opaque_derive_key_pair(b"\xaa" * 32)
    ke2 = _engines.opaque_ke2(KE1, RECORD, VAULT.evaluate(KE1[:32]), *impostor)
    with pytest.raises(_engines.OpaqueOpenError):
        open_ke2(ke2)


def test_a_ke2_for_another_ke1_does_not_open() -> None:
    _, other = _engines.opaque_login_start(PASSWORD)
    with pytest.raises(_engines.OpaqueOpenError):
        open_ke2(VAULT.ke2(KE1[:32] + other[32:], RECORD))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 320 * 8 - 1))
def test_no_flipped_bit_of_ke2_opens(bit: int) -> None:
    changed = bytearray(KE2)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises((_engines.OpaqueOpenError, ValueError)):
        open_ke2(bytes(changed))


def test_an_open_error_is_no_value_error() -> None:
    assert not issubclass(_engines.OpaqueOpenError, ValueError)


def test_blinding_hides_equal_passwords() -> None:
    requests = {_engines.opaque_registration_start(PASSWORD)[1] for _ in range(4)}
    assert len(requests) == 4
    assert all(_engines.element_is_valid(request) for request in requests)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("bad", BAD_ELEMENTS.values(), ids=BAD_ELEMENTS)
def test_a_bad_element_is_refused_at_every_place(bad: bytes) -> None:
    evaluated, (private, public) = KE2[:32], VAULT.ake
    for arguments in (
        (bad + KE1[32:], RECORD, evaluated, private, public),
        (KE1[:64] + bad, RECORD, evaluated, private, public),
        (KE1, bad + RECORD[32:], evaluated, private, public),
        (KE1, RECORD, bad, private, public),
        (KE1, RECORD, evaluated, private, bad),
    ):
        with pytest.raises(ValueError, match="must be"):
            _engines.opaque_ke2(*arguments)
    for response in ((bad, public), (evaluated, bad)):
        with pytest.raises(ValueError, match="must be"):
            _engines.opaque_registration_response(*response)
        with pytest.raises(ValueError):
            _engines.opaque_registration_finish(STATE, PASSWORD, b"".join(response))
    with pytest.raises(ValueError):
        open_ke2(bad + KE2[32:])
    with pytest.raises(ValueError):
        open_ke2(KE2[:224] + bad + KE2[256:])


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda _: b""])
def test_every_message_has_its_exact_length(change) -> None:
    private, public = VAULT.ake
    whole = [KE1, RECORD, KE2[:32], private, public]
    for i in range(len(whole)):
        arguments = [*whole[:i], change(whole[i]), *whole[i + 1 :]]
        with pytest.raises(ValueError, match="bytes"):
            _engines.opaque_ke2(*arguments)
    with pytest.raises(ValueError, match="bytes"):
        _engines.opaque_derive_key_pair(change(bytes(32)))
    for finish, state, message in (
        (_engines.opaque_registration_finish, STATE, RESPONSE),
        (_engines.opaque_login_finish, LOGIN_STATE, KE2),
    ):
        with pytest.raises(ValueError, match="state must be"):
            finish(change(state), PASSWORD, message)
        with pytest.raises(ValueError, match="must be"):
            finish(state, PASSWORD, change(message))


@pytest.mark.parametrize("private", [bytes(32), b"\xff" * 32], ids=["zero", "not canonical"])
def test_a_private_key_is_a_canonical_scalar_other_than_zero(private: bytes) -> None:
    with pytest.raises(ValueError, match="server private key"):
        _engines.opaque_ke2(KE1, RECORD, KE2[:32], private, SERVER_KEY)


def test_a_damaged_state_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="state"):
        _engines.opaque_login_finish(b"\xff" * 192, PASSWORD, KE2)
    with pytest.raises(ValueError, match="state"):
        _engines.opaque_registration_finish(b"\xff" * 64, PASSWORD, RESPONSE)


def test_a_reflected_element_is_refused() -> None:
    with pytest.raises(ValueError, match="registration response"):
        _engines.opaque_registration_finish(STATE, PASSWORD, REQUEST + SERVER_KEY)
    reflected = _engines.opaque_ke2(KE1, RECORD, KE1[:32], *VAULT.ake)
    with pytest.raises(_engines.OpaqueOpenError):
        open_ke2(reflected)


def test_a_password_beyond_the_protocols_limit_is_refused() -> None:
    for start in (_engines.opaque_registration_start, _engines.opaque_login_start):
        start(b"x" * 65_535)
        with pytest.raises(ValueError, match="password"):
            start(b"x" * 65_536)


def test_errors_quote_no_secret() -> None:
    secret = b"correct horse battery staple"
    for call in (
        lambda: _engines.opaque_login_finish(secret, secret, secret),
        lambda: _engines.opaque_registration_finish(STATE, secret, secret),
        lambda: _engines.opaque_derive_key_pair(secret),
        lambda: _engines.ed25519_sign(secret, b""),
        lambda: open_ke2(KE2, secret),
    ):
        with pytest.raises((ValueError, _engines.OpaqueOpenError)) as caught:
            call()
        assert secret.decode() not in str(caught.value)
        assert secret.hex() not in str(caught.value)


def test_argon2id_runs_without_the_interpreter_lock() -> None:
    def finish() -> None:
        _engines.opaque_registration_finish(STATE, PASSWORD, RESPONSE)

    worker = threading.Thread(target=finish)
    all_began, ours_began = time.process_time(), time.thread_time()
    worker.start()
    while worker.is_alive():  # this thread works, too, and gets a processor as often as that one
        pass
    worker.join()
    ours = time.thread_time() - ours_began
    assert ours > (time.process_time() - all_began) / 10
