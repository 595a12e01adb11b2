"""An open, logged-in session on the vault's token (design section 4; keeps I9 and I11).

Thin: find, import, generate, copy, sign, small data objects. Everything runs in the module's lane.
Whatever the device says that is not one of the named failures becomes HsmAway: in doubt the token
counts as gone, and reopening decides.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING, Final

from pkcs11.constants import Attribute, ObjectClass, TokenFlag
from pkcs11.exceptions import (
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PKCS11Error,
    UserAlreadyLoggedIn,
    UserPinNotInitialized,
)
from pkcs11.exceptions import PinLocked as DevicePinLocked
from pkcs11.mechanisms import KeyType, Mechanism

from hsm.errors import (
    HsmAway,
    KeyAmbiguous,
    KeyExposed,
    KeyMissing,
    MechanismMissing,
    PinLocked,
    PinWrong,
    TokenAmbiguous,
    TokenMissing,
)
from hsm.names import KEY_BYTES, LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pkcs11

    from hsm.module import Module
    from hsm.settings import HsmSettings

HOLD_LOCK_BELOW_S: Final = 0.0005
"""A device that signs faster than this is called with the interpreter lock held."""
_TIMING_ROUNDS: Final = 9
_REQUIRED: Final = (Mechanism.SHA512_HMAC, Mechanism.GENERIC_SECRET_KEY_GEN)

_SECRET: Final[dict[Attribute, object]] = {
    Attribute.CLASS: ObjectClass.SECRET_KEY,
    Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
    Attribute.VERIFY: False,
    Attribute.ENCRYPT: False,
    Attribute.DECRYPT: False,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
    Attribute.DERIVE: False,
}
_refused_pins: Final[set[tuple[str, str, bytes]]] = set()
"""(module, label, PIN fingerprint) that a token refused in this process: never tried again."""


@contextlib.contextmanager
def device_errors(doing: str) -> Iterator[None]:
    """Turn what python-pkcs11 raises into HsmAway that says what was being done."""
    try:
        yield
    except PKCS11Error as error:
        text = type(error).__name__ + (f": {error}" if str(error) else "")
        raise HsmAway(f"{doing}: {text}") from error


class OpenToken:
    """A session; void as soon as its module is initialised again."""

    def __init__(self, module: Module, token: pkcs11.Token, session: pkcs11.Session) -> None:
        self.module = module
        self.label = token.label
        self.session = session
        self._token = token
        self._generation = module.generation
        self._sign: Callable[[int, bytes], bytes]
        self.holds_lock = True
        self._choose_signer(hold_lock=True)
        module.sessions += 1

    @property
    def is_current(self) -> bool:
        """False once the module was initialised again under this session."""
        return self._generation == self.module.generation

    def close(self) -> None:
        """Log out and close; a session that is gone already is fine."""
        if self.is_current:
            self.module.sessions -= 1
            with contextlib.suppress(PKCS11Error):
                self.session.close()
        self._generation = -1

    def check_mechanisms(self) -> None:
        """Raises MechanismMissing naming the first one that the device lacks."""
        with device_errors("listing mechanisms"):
            offered = self._token.slot.get_mechanisms()
        for mechanism in _REQUIRED:
            if mechanism not in offered:
                raise MechanismMissing(f"CKM_{mechanism.name}", self.label)

    def random(self, count: int) -> bytes:
        """`count` random bytes of the device; also the cheapest sign of life of a session."""
        with device_errors("drawing random bytes"):
            return self.session.generate_random(count * 8)

    def sign(self, key: pkcs11.Object, message: bytes) -> bytes:
        """HMAC-SHA-512 under `key`, 64 bytes; raises HsmAway."""
        return self._sign(key.handle or 0, message)

    def tune(self, key: pkcs11.Object) -> None:
        """Decide by measurement whether calls hold the interpreter lock."""
        times = []
        for _ in range(_TIMING_ROUNDS):
            begun = time.perf_counter()
            self.sign(key, b"how fast are you")
            times.append(time.perf_counter() - begun)
        self._choose_signer(hold_lock=statistics.median(times) < HOLD_LOCK_BELOW_S)

    def find_key(self, name: str) -> pkcs11.Object:
        """The one token key of that name; raises KeyMissing, KeyAmbiguous, HsmAway."""
        found = self._find(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.TOKEN: True,
                Attribute.LABEL: LABEL_PREFIX + name,
            }
        )
        if not found:
            raise KeyMissing(name, self.label)
        if len(found) > 1:
            raise KeyAmbiguous(name, self.label)
        return found[0]

    def check_guarded(self, name: str, key: pkcs11.Object) -> None:
        """Raises KeyExposed unless the key is sensitive and not extractable."""
        with device_errors(f"reading attributes of key {name}"):
            guarded = key[Attribute.SENSITIVE] is True and key[Attribute.EXTRACTABLE] is False
        if not guarded:
            raise KeyExposed(name, self.label)

    def vault_keys(self) -> list[pkcs11.Object]:
        """Every token key that carries the vault's prefix."""
        keys = self._find({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.TOKEN: True})
        with device_errors("reading key labels"):
            return [key for key in keys if str(key[Attribute.LABEL]).startswith(LABEL_PREFIX)]

    def import_key(self, name: str, value: bytes, *, on_token: bool) -> pkcs11.Object:
        """Bring in one 64-byte secret, sensitive and not extractable."""
        template = {
            **_SECRET,
            Attribute.TOKEN: on_token,
            Attribute.LABEL: LABEL_PREFIX + name,
            Attribute.VALUE: value,
        }
        with device_errors(f"importing key {name}"):
            return self.session.create_object(template)

    def generate_key(self, name: str) -> pkcs11.Object:
        """Make one 64-byte secret inside the device; nobody ever sees it."""
        template = dict(_SECRET)
        del template[Attribute.CLASS]  # python-pkcs11 puts it in itself
        with device_errors(f"generating key {name}"):
            return self.session.generate_key(
                KeyType.GENERIC_SECRET,
                KEY_BYTES * 8,
                label=LABEL_PREFIX + name,
                store=True,
                template=template,
            )

    def session_copy(self, key: pkcs11.Object) -> pkcs11.Object:
        """A copy that lives in the session: faster; the key itself where the device makes none."""
        try:
            return key.copy({Attribute.TOKEN: False, Attribute.MODIFIABLE: False})
        except PKCS11Error:
            return key

    def data_objects(self, label: str) -> list[pkcs11.Object]:
        """The private data objects of that label on the token."""
        return self._find(
            {
                Attribute.CLASS: ObjectClass.DATA,
                Attribute.TOKEN: True,
                Attribute.LABEL: LABEL_PREFIX + label,
            }
        )

    def create_data(self, label: str, value: bytes) -> None:
        """Store one private data object."""
        template = {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.LABEL: LABEL_PREFIX + label,
            Attribute.APPLICATION: "quorumvault",
            Attribute.VALUE: value,
        }
        with device_errors(f"writing {label}"):
            self.session.create_object(template)

    def value_of(self, data: pkcs11.Object) -> bytes:
        """The bytes of a data object."""
        with device_errors("reading a data object"):
            return bytes(data[Attribute.VALUE])

    def destroy(self, thing: pkcs11.Object) -> None:
        """Remove one object for good."""
        with device_errors("destroying an object"):
            thing.destroy()

    def _find(self, template: dict[Attribute, object]) -> list[pkcs11.Object]:
        # A search on a dead session would leave an operation that complains when collected; a
        # random draw fails cleanly.
        self.random(8)
        with device_errors("searching objects"):
            return list(self.session.get_objects(template))

    def _choose_signer(self, *, hold_lock: bool) -> None:
        handle: int = getattr(self.session, "handle")  # noqa: B009 - absent from the stubs
        self.holds_lock = hold_lock
        self._sign = self.module.signer(handle, hold_lock=hold_lock)


def open_token(module: Module, settings: HsmSettings) -> OpenToken:
    """Find the token by its label and log in; the PIN is tried once.

    Raises:
        TokenMissing: also after the library looked anew.
        TokenAmbiguous: two tokens of that label.
        PinWrong: refused now, or by an earlier try of this process (then it is not tried again).
        PinLocked: locked or never set.
        HsmAway: the device fails otherwise.

    """
    label = settings.token_label
    attempt = (str(module.path), label, settings.pin.fingerprint())
    if attempt in _refused_pins:
        raise PinWrong(label)
    token = _find_token(module, label)
    with device_errors("reading token flags"):
        flags = token.flags
    if flags & TokenFlag.USER_PIN_LOCKED or not flags & TokenFlag.USER_PIN_INITIALIZED:
        raise PinLocked(label)
    with device_errors("opening a session"):
        try:
            session = token.open(rw=True, user_pin=settings.pin.reveal())
        except (PinIncorrect, PinInvalid, PinLenRange):
            _refused_pins.add(attempt)
            raise PinWrong(label) from None
        except (DevicePinLocked, PinExpired, UserPinNotInitialized):
            raise PinLocked(label) from None
        except UserAlreadyLoggedIn:
            session = token.open(rw=True)  # another Hsm of this process shares its login
    return OpenToken(module, token, session)


def _find_token(module: Module, label: str) -> pkcs11.Token:
    with device_errors("looking for tokens"):
        fresh = module.sessions == 0
        if fresh:
            module.reinitialise()
        found = module.tokens(label)
        if not found and not fresh:
            # SoftHSM looks at its directory only when initialised.
            module.reinitialise()
            found = module.tokens(label)
    if not found:
        raise TokenMissing(label, module.path)
    if len(found) > 1:
        raise TokenAmbiguous(label, module.path)
    return found[0]
