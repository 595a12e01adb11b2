"""Making a token ready: initialise, import a seat's keys, enrol; and take all of it away again.

A token is provisioned wholly or not at all: the stamp is written last, a failure destroys what was
imported, and a second provisioning is refused, because it would mix two enrolments (design
section 6). Keys go in sensitive and not extractable; the node's own key is made inside and is
never seen by anyone.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from pkcs11.exceptions import PKCS11Error

from hsm import stamps
from hsm.ceremony import join_seat_key
from hsm.errors import (
    AlreadyProvisioned,
    HsmAway,
    HsmError,
    KeyMismatch,
    PackageBroken,
    TokenExists,
    TokenMissing,
)
from hsm.module import get_module
from hsm.names import NODE
from hsm.package import open_package, read_header
from hsm.prf import check_value
from hsm.probe import Seat, check_device, open_keys
from hsm.token import OpenToken, device_errors, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from hsm.module import Module
    from hsm.settings import HsmSettings, Pin

MAX_LABEL_BYTES: Final = 32
"""CK_TOKEN_INFO.label."""


def init_token(module: Path, *, token_label: str, so_pin: Pin, pin: Pin) -> None:
    """Initialise a blank token with its security officer's and user PIN; blocking.

    Raises:
        ValueError: the label is empty or longer than 32 bytes.
        TokenExists: there is one of that label.
        TokenMissing: the device has no blank token.
        ModuleMissing, HsmAway.

    """
    if not 1 <= len(token_label.encode()) <= MAX_LABEL_BYTES:
        raise ValueError(f"token label {token_label!r}: must be 1 to {MAX_LABEL_BYTES} bytes")
    loaded = get_module(module)
    loaded.call(partial(_init_token, loaded, token_label, so_pin, pin))


def provision(
    settings: HsmSettings,
    *,
    package: bytes,
    words: Sequence[str],
    cluster_id: UUID,
    seat: int,
    check_values: Mapping[str, bytes],
    enrolment: bytes,
    threshold: int = 3,
    seats: int = 5,
    first: Callable[[], None] | None = None,
) -> None:
    """Import a seat's package, make the node key, write the enrolment as first stamp; blocking.

    Args:
        settings: an initialised token that holds nothing of the vault.
        package: the seat package file.
        words: exactly three of the seat's five mnemonics.
        cluster_id: of cluster.json; the package must say the same.
        seat: likewise.
        check_values: of cluster.json, by key name.
        enrolment: first stamp; at most stamps.MAX_STAMP_BYTES.
        threshold: of cluster.json.
        seats: of cluster.json.
        first: called when package and words are good, before the token is opened: makes it.

    Raises:
        PackageBroken, WordsWrong, KeyMismatch: nothing was touched.
        AlreadyProvisioned: nothing was touched.
        HsmError: the token or device; nothing is left behind, or the message says so.

    """
    wanted = Seat(seat, seats, threshold, dict(check_values))
    stamps.pack(1, enrolment)  # refuses one that is too long before anything is touched
    header = read_header(package)
    if header.cluster_id != cluster_id:
        raise PackageBroken(
            f"it is of cluster {header.cluster_id}, not {cluster_id}: use the one of this cluster"
        )
    if header.seat != seat:
        raise PackageBroken(f"it is of seat {header.seat}, not {seat}: use the one of seat {seat}")
    if (header.seats, header.threshold) != (seats, threshold):
        raise PackageBroken(
            f"it is for {header.threshold} of {header.seats} seats, not {threshold} of {seats}"
        )
    keys = open_package(package, join_seat_key(words))
    for name, key in keys.items():
        if check_value(key) != wanted.check_values[name]:
            raise KeyMismatch(name, f"in the package of seat {seat}")
    if first is not None:
        first()
    _with_token(settings, partial(_import, keys=keys, seat=wanted, enrolment=enrolment))


def destroy(settings: HsmSettings) -> int:
    """Destroy every vault key and stamp on the token, before its seat is reused; how many.

    Raises:
        HsmError: the token or device; run it again, it goes on where it stopped.

    """
    removed: list[int] = []
    _with_token(settings, lambda token: removed.append(_destroy_all(token)))
    return sum(removed)


def _with_token(settings: HsmSettings, work: Callable[[OpenToken], None]) -> None:
    module = get_module(settings.module)

    def run() -> None:
        token = open_token(module, settings)
        try:
            work(token)
        finally:
            token.close()

    module.call(run)


def _import(token: OpenToken, *, keys: Mapping[str, bytes], seat: Seat, enrolment: bytes) -> None:
    stamped = stamps.exists(token)
    if stamped or token.vault_keys():
        raise AlreadyProvisioned(token.label, finished=stamped)
    try:
        check_device(token)
        for name, key in keys.items():
            token.import_key(name, key, on_token=True)
        token.generate_key(NODE)
        open_keys(token, seat)
        stamps.write(token, enrolment)
    except HsmError:
        with contextlib.suppress(HsmError):  # the first failure is the one to tell
            _destroy_all(token)
        raise


def _destroy_all(token: OpenToken) -> int:
    """Keys first: a token with a stamp and no keys is refused, one with keys alone might not be."""
    keys = token.vault_keys()
    for key in keys:
        token.destroy(key)
    return len(keys) + stamps.destroy(token)


def _init_token(module: Module, label: str, so_pin: Pin, pin: Pin) -> None:
    module.reinitialise()
    with device_errors("looking for a blank token"):
        if module.tokens(label):
            raise TokenExists(label, module.path)
        slot = module.blank_slot()
    if slot is None:
        raise TokenMissing("(a blank one)", module.path)
    rv = module.init_token(slot, so_pin.reveal(), label)
    if rv != 0:
        raise HsmAway(f"C_InitToken answered {rv:#x}")
    module.reinitialise()  # SoftHSM gives the new token another slot
    with device_errors(f"setting the user PIN of {label!r}"):
        found = module.tokens(label)
        if len(found) != 1:
            raise TokenMissing(label, module.path)
        session = found[0].open(rw=True, so_pin=so_pin.reveal())
        try:
            session.init_pin(pin.reveal())
        finally:
            with contextlib.suppress(PKCS11Error):
                session.close()
