"""No key leaves its token through PKCS#11, whatever a logged-in session tries."""

from __future__ import annotations

import pytest
from pkcs11 import KeyType, Mechanism
from pkcs11.constants import Attribute
from pkcs11.exceptions import PKCS11Error

from hsm.names import held_names

NAMES = [*held_names(2, 5, 3), "node"]


@pytest.mark.parametrize("name", NAMES)
def test_reading_copying_weakening_and_wrapping_all_fail(ground, name):
    settings = ground.ready()

    def attack(token):
        key = token.find_key(name)
        with pytest.raises(PKCS11Error):
            key[Attribute.VALUE]
        for weaker in ({Attribute.EXTRACTABLE: True}, {Attribute.SENSITIVE: False}):
            with pytest.raises(PKCS11Error):
                key.copy({Attribute.TOKEN: False, **weaker})
            for attribute, value in weaker.items():
                with pytest.raises(PKCS11Error):
                    key[attribute] = value
        copy = token.session_copy(key)
        assert copy[Attribute.TOKEN] is False
        wrapper = token.session.generate_key(KeyType.AES, 256)
        for victim in (key, copy):
            with pytest.raises(PKCS11Error):
                victim[Attribute.VALUE]
            with pytest.raises(PKCS11Error):
                wrapper.wrap_key(victim, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        token.check_guarded(name, key)

    ground.on_token(settings, attack)


def test_no_key_is_in_the_clear_in_the_token_files(ground, monkeypatch):
    seen = []
    import hsm.token as token_module

    real = token_module.OpenToken.import_key

    def watched(self, name, value, *, on_token):
        seen.append(value)
        return real(self, name, value, on_token=on_token)

    monkeypatch.setattr(token_module.OpenToken, "import_key", watched)
    ground.ready()
    stored = b"".join(path.read_bytes() for path in ground.tokens.rglob("*") if path.is_file())
    assert len(seen) >= 8
    for value in seen:
        assert value not in stored
