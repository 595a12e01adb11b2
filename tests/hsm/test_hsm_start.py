"""Whatever is wrong with a token, start() says so in one line that names it and the next step."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from pkcs11.constants import Attribute, TokenFlag

import hsm
from hsm import errors, stamps
from hsm.names import LABEL_PREFIX, held_names
from hsm.probe import check_answer
from hsm.token import _SECRET

SEAT_2 = ["oprf/123", "oprf/124", "oprf/125", "oprf/234", "oprf/235", "oprf/245"]


def refusal(made, kind):
    with pytest.raises(kind) as caught:
        made.start()
    message = str(caught.value)
    assert "\n" not in message
    assert "correct-pin" not in message
    assert not made.healthy
    return message


def test_a_provisioned_token_starts_and_holds_the_derived_keys(ground):
    made = ground.started()
    assert made.healthy
    assert made.reason == ""
    assert {len(made.record_key), len(made.ake_seed), len(made.state_key)} == {32}
    assert made.read_stamp() == b"node 2, incarnation 0"


def test_seats_share_identity_and_never_the_node_key(ground):
    one, two = ground.started(1), ground.started(2)
    assert one.record_key == two.record_key
    assert one.ake_seed == two.ake_seed
    assert one.state_key != two.state_key


@pytest.mark.parametrize("content", [None, b"no library at all"])
def test_a_file_that_is_no_library_is_named(ground, content):
    path = ground.root / "module.so"
    if content is not None:
        path.write_bytes(content)
    message = refusal(ground.hsm(hsm.HsmSettings(path, "x", hsm.Pin("1"))), errors.ModuleMissing)
    assert str(path) in message


def test_a_library_that_is_not_pkcs11_is_named(ground):
    libc = next(Path("/lib").glob("*-linux-gnu/libm.so.6"))
    message = refusal(ground.hsm(hsm.HsmSettings(libc, "x", hsm.Pin("1"))), errors.ModuleMissing)
    assert str(libc) in message


def test_a_library_whose_token_directory_is_gone_says_so(ground):
    settings = ground.ready()
    ground.tokens.rename(ground.root / "away")
    made = ground.hsm(settings)
    assert "SOFTHSM2_CONF" in refusal(made, errors.ModuleDown)
    (ground.root / "away").rename(ground.tokens)
    made.start()


def test_a_missing_token_is_named(ground):
    ground.ready()
    settings = replace(ground.blank(), token_label="nowhere")
    assert "'nowhere'" in refusal(ground.hsm(settings), errors.TokenMissing)


def test_two_tokens_of_one_label_are_refused(ground):
    settings = ground.ready()
    twin = ground.root / "elsewhere"
    twin.mkdir()
    token = next(ground.tokens.iterdir())
    token.rename(twin / token.name)
    hsm.init_token(
        settings.module, token_label=settings.token_label, so_pin=hsm.Pin("12345"), pin=settings.pin
    )
    (twin / token.name).rename(token)
    refusal(ground.hsm(settings), errors.TokenAmbiguous)


def token_flags(ground, settings):
    def look():
        module = ground.module()
        module.reinitialise()
        return module.tokens(settings.token_label)[0].flags

    return ground.module().call(look)


def test_a_wrong_pin_is_tried_once_and_never_again(ground):
    settings = ground.ready()
    wrong = replace(settings, pin=hsm.Pin("wrong-pin"))
    made = ground.hsm(wrong)
    refusal(made, errors.PinWrong)
    assert token_flags(ground, settings) & TokenFlag.USER_PIN_COUNT_LOW
    ground.on_token(settings, lambda _: None)  # a right login: the token forgets the failure
    assert not token_flags(ground, settings) & TokenFlag.USER_PIN_COUNT_LOW
    for again in (
        made,
        made,
        ground.hsm(wrong),
        ground.hsm(replace(wrong, pin=hsm.Pin("wrong-pin"))),
    ):
        refusal(again, errors.PinWrong)
    assert not token_flags(ground, settings) & TokenFlag.USER_PIN_COUNT_LOW
    ground.hsm(settings).start()


def test_a_token_without_a_user_pin_is_named(ground):
    settings = ground.blank()
    module = ground.module()

    def without_user_pin():
        module.reinitialise()
        slot = module.blank_slot()
        assert module.init_token(slot, "12345678", "unset") == 0

    module.call(without_user_pin)
    refusal(ground.hsm(replace(settings, token_label="unset")), errors.PinLocked)


@pytest.mark.parametrize("name", [*SEAT_2, "identity", "seal/1", "node"])
def test_a_missing_key_is_named(ground, name):
    settings = ground.ready()
    ground.on_token(settings, lambda token: token.destroy(token.find_key(name)))
    made = ground.hsm(settings)
    assert f"key {name} " in refusal(made, errors.KeyMissing)


def test_a_key_that_is_there_twice_is_named(ground):
    settings = ground.ready()
    ground.on_token(settings, lambda token: token.import_key("seal/1", bytes(64), on_token=True))
    assert "key seal/1 " in refusal(ground.hsm(settings), errors.KeyAmbiguous)


@pytest.mark.parametrize("name", held_names(2, 5, 3))
def test_a_key_that_differs_from_its_check_value_is_named(ground, name):
    made = ground.hsm(
        ground.ready(), check_values={**ground.ceremony.check_values, name: b"another!"}
    )
    assert f"key {name} " in refusal(made, errors.KeyMismatch)


def test_the_keys_of_another_seat_are_refused(ground):
    made = ground.hsm(ground.ready(seat=3), seat=2)
    assert "key oprf/124 " in refusal(made, errors.KeyMissing)


@pytest.mark.parametrize(
    "weakness", [{Attribute.EXTRACTABLE: True}, {Attribute.SENSITIVE: False}], ids=str
)
def test_a_key_that_could_leave_the_token_is_refused(ground, weakness):
    settings = ground.ready()

    def weaken(token):
        token.destroy(token.find_key("node"))
        token.session.create_object(
            {
                **_SECRET,
                Attribute.TOKEN: True,
                Attribute.LABEL: LABEL_PREFIX + "node",
                Attribute.VALUE: bytes(64),
                **weakness,
            }
        )

    ground.on_token(settings, weaken)
    assert "key node " in refusal(ground.hsm(settings), errors.KeyExposed)


@pytest.mark.parametrize(
    ("offered", "missing"),
    [
        ("CKM_GENERIC_SECRET_KEY_GEN,CKM_MD5", "CKM_SHA512_HMAC"),
        ("CKM_SHA512_HMAC,CKM_MD5", "CKM_GENERIC_SECRET_KEY_GEN"),
    ],
)
def test_a_missing_mechanism_is_named(ground, offered, missing):
    settings = ground.ready()
    ground.configure(**{"slots.mechanisms": offered})
    assert missing in refusal(ground.hsm(settings), errors.MechanismMissing)


def test_a_token_without_a_stamp_is_refused(ground):
    settings = ground.ready()
    ground.on_token(settings, stamps.destroy)
    refusal(ground.hsm(settings), errors.StampMissing)


def test_a_device_that_computes_wrongly_fails_its_self_test():
    with pytest.raises(errors.SelfTestFailed, match="'t' failed its self-test"):
        check_answer(bytes(64), "t")


def test_an_absent_check_value_is_refused_before_the_token_is_touched(ground):
    values = dict(ground.ceremony.check_values)
    del values["oprf/124"]
    with pytest.raises(ValueError, match="oprf/124"):
        ground.hsm(ground.blank(), check_values=values)


def test_a_child_forked_after_loading_is_told_so(ground):
    settings = ground.ready()
    child = os.fork()
    if child == 0:
        try:
            ground.hsm(settings).start()
        except errors.LoadedBeforeFork:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_pin_shows_itself_nowhere(ground):
    settings = ground.blank()
    for text in (
        repr(settings),
        str(settings.pin),
        f"{settings.pin}",
        repr(vars(ground.hsm(settings))),
    ):
        assert "correct-pin" not in text
    with pytest.raises(ValueError, match="empty"):
        hsm.Pin("")


def test_a_token_is_initialised_only_when_its_label_is_free(ground):
    settings = ground.blank()
    with pytest.raises(errors.TokenExists, match=settings.token_label):
        hsm.init_token(
            settings.module,
            token_label=settings.token_label,
            so_pin=hsm.Pin("1234"),
            pin=hsm.Pin("1234"),
        )
