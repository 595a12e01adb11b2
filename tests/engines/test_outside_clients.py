"""OPAQUE clients that are not ours against our server over threshold shares.

The KSF runs in the client alone, so a client with another one still registers and logs in here;
but its records open only for clients with the same KSF. `opaque-snake` (opaque-ke 4.1) and
`opaquepy` (opaque-ke 3) offer no choice: both speak OPAQUE-3DH, ristretto255-SHA512, with the
argon2 crate's default parameters (19,456 KiB, two passes, one lane) instead of the profile's.
So what is interoperable is all of OPAQUE but the KSF; the independent client, which speaks any
KSF, shows that nothing else differs. A client of the vault proper has to set the profile's KSF.
"""

from __future__ import annotations

import opaque_snake
import opaquepy.lib as opaquepy
import pytest
import sodium_client
from table_vault import TableVault

from engines import _engines
from engines.encoding import b64u_decode, b64u_encode

VAULT = TableVault()
PASSWORD = "correct horse battery stäple"
LIBRARY_KSF = sodium_client.argon2id(iterations=2, memory_kib=19_456, lanes=1)


def snake_register() -> tuple[bytes, bytes]:
    client = opaque_snake.OpaqueClient()
    request, state = client.start_registration(PASSWORD)
    answer = VAULT.registration_response(request.to_bytes())
    response = opaque_snake.RegistrationResponse.from_bytes(answer)
    result = client.finish_registration(response, state, PASSWORD)
    assert bytes(result.server_s_pk) == VAULT.ake[1]
    return bytes(result.upload.to_bytes()), bytes(result.export_key)


def snake_login(record: bytes, password: str = PASSWORD) -> bytes:
    client = opaque_snake.OpaqueClient()
    request, state = client.start_login(password)
    answer = VAULT.ke2(bytes(request.to_bytes()), record)
    response = opaque_snake.CredentialResponse.from_bytes(answer)
    keys = client.finish_login(response, state, password).session_keys
    assert keys.export_key is not None
    return bytes(keys.export_key)


def opaquepy_register() -> bytes:
    request, state = opaquepy.register_client(PASSWORD)
    response = VAULT.registration_response(b64u_decode(request, 32))
    upload = opaquepy.register_client_finish(state, PASSWORD, b64u_encode(response))
    return b64u_decode(upload, 192)


def opaquepy_login(record: bytes, password: str = PASSWORD) -> None:
    request, state = opaquepy.login_client(password)
    ke2 = VAULT.ke2(b64u_decode(request, 96), record)
    opaquepy.login_client_finish(state, password, b64u_encode(ke2))


def sodium_register(ksf: sodium_client.Ksf) -> sodium_client.Registration:
    state, request = sodium_client.registration_start(PASSWORD.encode())
    response = VAULT.registration_response(request)
    return sodium_client.registration_finish(state, PASSWORD.encode(), response, ksf=ksf)


def sodium_login(
    record: bytes, ksf: sodium_client.Ksf, password: str = PASSWORD
) -> sodium_client.Login:
    state = sodium_client.login_start(password.encode())
    ke2 = VAULT.ke2(state.ke1, record)
    return sodium_client.login_finish(state, password.encode(), ke2, ksf=ksf)


def our_register() -> tuple[bytes, bytes]:
    state, request = _engines.opaque_registration_start(PASSWORD.encode())
    response = VAULT.registration_response(request)
    return _engines.opaque_registration_finish(state, PASSWORD.encode(), response)[:2]


def our_login(record: bytes) -> tuple[bytes, bytes]:
    state, ke1 = _engines.opaque_login_start(PASSWORD.encode())
    return _engines.opaque_login_finish(state, PASSWORD.encode(), VAULT.ke2(ke1, record))


def test_opaque_snake_registers_and_logs_in() -> None:
    record, export_key = snake_register()
    assert snake_login(record) == export_key
    with pytest.raises(opaque_snake.AuthenticationError):
        snake_login(record, "wrong")


def test_opaquepy_registers_and_logs_in() -> None:
    record = opaquepy_register()
    opaquepy_login(record)
    with pytest.raises(ValueError, match="InvalidLogin"):
        opaquepy_login(record, "wrong")


def test_the_independent_client_registers_and_logs_in_with_the_profile() -> None:
    made = sodium_register(sodium_client.PROFILE_KSF)
    opened = sodium_login(made.record, sodium_client.PROFILE_KSF)
    assert opened.export_key == made.export_key
    assert opened.server_public_key == made.server_public_key == VAULT.ake[1]
    with pytest.raises(sodium_client.DoesNotOpenError):
        sodium_login(made.record, sodium_client.PROFILE_KSF, "wrong")


def test_our_client_opens_what_the_independent_one_registered() -> None:
    made = sodium_register(sodium_client.PROFILE_KSF)
    assert our_login(made.record) == (made.export_key, VAULT.ake[1])


def test_the_independent_client_opens_what_ours_registered() -> None:
    record, export_key = our_register()
    assert sodium_login(record, sodium_client.PROFILE_KSF).export_key == export_key


def test_the_outside_libraries_differ_from_the_profile_in_the_ksf_alone() -> None:
    record, export_key = snake_register()
    assert sodium_login(record, LIBRARY_KSF).export_key == export_key
    opaquepy_login(record)
    snake_login(opaquepy_register())
    made = sodium_register(LIBRARY_KSF)
    assert snake_login(made.record) == made.export_key
    opaquepy_login(made.record)


def test_a_record_of_another_ksf_does_not_open_under_the_profile() -> None:
    for record in (snake_register()[0], opaquepy_register()):
        with pytest.raises(_engines.OpaqueOpenError):
            our_login(record)
