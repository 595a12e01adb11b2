"""What a node must know to open its token. The PIN hides itself (I11)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

_PROCESS_SALT: Final = secrets.token_bytes(32)


class Pin:
    """A PIN that shows itself only when asked: not in repr, str, format, pickles or traces."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Raises ValueError for an empty PIN."""
        if not text:
            raise ValueError("PIN is empty: set hsm.pin or hsm.pin_file")
        self._text = text

    def reveal(self) -> str:
        """The PIN itself, for the one call that logs in."""
        return self._text

    def fingerprint(self) -> bytes:
        """Equal for equal PINs within this process, meaningless outside it."""
        return hashlib.sha256(_PROCESS_SALT + self._text.encode()).digest()

    def __repr__(self) -> str:
        return "Pin(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pin is not written anywhere")


@dataclass(frozen=True, slots=True)
class HsmSettings:
    """Where the keys are: the PKCS#11 library, the token's label and its user PIN.

    SoftHSM finds its own configuration through SOFTHSM2_CONF, one per process.
    """

    module: Path
    token_label: str
    pin: Pin
