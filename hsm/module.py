"""One loaded PKCS#11 library: its lane, its life cycle, and the few calls python-pkcs11 lacks.

python-pkcs11 initialises a library without CKF_OS_LOCKING_OK, cannot initialise a token, and lets
go of the interpreter lock twice per signature. Under a busy event loop each of these hand-overs
waits for up to 5 ms: 150 HMACs a second instead of 30,000. So those few functions are taken from
the library's own function list (PKCS#11 2.40, CK_FUNCTION_LIST) through ctypes, and a device that
answers in microseconds is called with the interpreter lock held.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Final, TypeVar

import pkcs11
from pkcs11.exceptions import (
    GeneralError,
    PKCS11Error,
    TokenNotPresent,
    TokenNotRecognised,
)
from pkcs11.mechanisms import Mechanism

from hsm.errors import HsmAway, LoadedBeforeFork, ModuleDown, ModuleMissing
from hsm.lane import Lane
from hsm.prf import PRF_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")

_CKR_OK: Final = 0
_CKF_OS_LOCKING_OK: Final = 2
_TOKEN_LABEL_BYTES: Final = 32

# Positions in CK_FUNCTION_LIST, after its version (PKCS#11 2.40, pkcs11f.h).
_C_INITIALIZE: Final = 0
_C_FINALIZE: Final = 1
_C_INIT_TOKEN: Final = 9
_C_SIGN_INIT: Final = 42
_C_SIGN: Final = 43
_FUNCTIONS: Final = 68


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * _FUNCTIONS))


class _InitializeArgs(ctypes.Structure):
    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _Mechanism(ctypes.Structure):
    _fields_ = (
        ("mechanism", ctypes.c_ulong),
        ("parameter", ctypes.c_void_p),
        ("parameter_len", ctypes.c_ulong),
    )


_RV: Final = ctypes.c_ulong
_ULONG: Final = ctypes.c_ulong
_POINTER: Final = ctypes.c_void_p
_SIGN_INIT_ARGS: Final = (_ULONG, _POINTER, _ULONG)
_SIGN_ARGS: Final = (_ULONG, ctypes.c_char_p, _ULONG, _POINTER, _POINTER)


class Module:
    """A PKCS#11 library as loaded by this process. Everything but `get` runs in its lane."""

    def __init__(self, path: Path, lane: Lane) -> None:
        self.path = path
        self.lane = lane
        self.generation = 0
        """Grows with each C_Initialize; whatever was opened under an older one is void."""
        self.sessions = 0
        """Open sessions of this generation."""
        self._pid = os.getpid()
        self._library: pkcs11._pkcs11.lib
        self._functions: ctypes.Array[ctypes.c_void_p]

    def call(self, function: Callable[[], _T]) -> _T:
        """Run `function` in the lane and wait.

        Raises:
            LoadedBeforeFork: this process is a child of the one that loaded the library.

        """
        self.check_process()
        return self.lane.call(function)

    def check_process(self) -> None:
        """Raises LoadedBeforeFork in a forked child, where neither lane nor sessions exist."""
        if os.getpid() != self._pid:
            raise LoadedBeforeFork(self.path)

    def load(self) -> None:
        """Load and initialise the library; raises ModuleMissing, ModuleDown."""
        if not self.path.is_file():
            raise ModuleMissing(self.path, "no such file")
        try:
            self._library = pkcs11.lib(str(self.path))
        except PKCS11Error as error:
            if type(error) is PKCS11Error:  # the dynamic linker's words, not the device's
                raise ModuleMissing(self.path, str(error)) from error
            raise ModuleDown(self.path, f"C_Initialize: {type(error).__name__}") from error
        try:
            # The handle that python-pkcs11 holds already: the same library, not a second one.
            library = ctypes.CDLL(str(self.path))
            listing = ctypes.POINTER(_FunctionList)()
            rv = library.C_GetFunctionList(ctypes.byref(listing))
        except (OSError, AttributeError) as error:
            raise ModuleMissing(self.path, "not a PKCS#11 library") from error
        if rv != _CKR_OK:
            raise ModuleMissing(self.path, f"C_GetFunctionList answered {rv:#x}")
        self._functions = listing.contents.functions
        self.reinitialise()

    def reinitialise(self) -> None:
        """Forget all sessions and look for slots and tokens anew.

        Raises:
            ModuleDown: the library does not come up again.

        """
        finalize = ctypes.CFUNCTYPE(_RV, _POINTER)(self._address(_C_FINALIZE))
        initialize = ctypes.CFUNCTYPE(_RV, _POINTER)(self._address(_C_INITIALIZE))
        self.generation += 1
        self.sessions = 0
        finalize(None)  # not initialised is what we want
        rv = initialize(ctypes.byref(_InitializeArgs(flags=_CKF_OS_LOCKING_OK)))
        if rv != _CKR_OK:
            raise ModuleDown(self.path, f"C_Initialize answered {rv:#x}")

    def tokens(self, label: str) -> list[pkcs11.Token]:
        """The initialised tokens of that label in the library's present view."""
        return [token for token in self._present() if token.label == label]

    def blank_slot(self) -> int | None:
        """The id of a slot whose token is not initialised, or None."""
        for token in self._present():
            if not token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED:
                return int(token.slot.slot_id)
        return None

    def _present(self) -> list[pkcs11.Token]:
        found: list[pkcs11.Token] = []
        for slot in self._library.get_slots(token_present=True):
            try:
                found.append(slot.get_token())
            except (TokenNotPresent, TokenNotRecognised, GeneralError):
                continue  # a token taken away since the library looked
        return found

    def init_token(self, slot_id: int, so_pin: str, label: str) -> int:
        """C_InitToken; its return value."""
        function = ctypes.CFUNCTYPE(_RV, _ULONG, ctypes.c_char_p, _ULONG, ctypes.c_char_p)(
            self._address(_C_INIT_TOKEN)
        )
        pin = so_pin.encode()
        return int(function(slot_id, pin, len(pin), label.encode().ljust(_TOKEN_LABEL_BYTES)))

    def signer(self, session: int, *, hold_lock: bool) -> Callable[[int, bytes], bytes]:
        """HMAC-SHA-512 in `session`: (key handle, message) → 64 bytes.

        Args:
            session: a logged-in session's handle.
            hold_lock: keep the interpreter lock during the calls; right for a device that answers
                in microseconds, wrong for one across a network.

        The result raises HsmAway with the return value when the device refuses.

        """
        make = ctypes.PYFUNCTYPE if hold_lock else ctypes.CFUNCTYPE
        sign_init = make(_RV, *_SIGN_INIT_ARGS)(self._address(_C_SIGN_INIT))
        sign = make(_RV, *_SIGN_ARGS)(self._address(_C_SIGN))
        mechanism = _Mechanism(Mechanism.SHA512_HMAC, None, 0)
        mechanism_ref = ctypes.byref(mechanism)
        out = ctypes.create_string_buffer(PRF_BYTES)
        size = _ULONG(PRF_BYTES)
        size_ref = ctypes.byref(size)

        def hmac_sha512(key: int, message: bytes) -> bytes:
            rv = sign_init(session, mechanism_ref, key)
            if rv != _CKR_OK:
                raise HsmAway(f"C_SignInit answered {rv:#x}")
            size.value = PRF_BYTES
            rv = sign(session, message, len(message), out, size_ref)
            if rv != _CKR_OK or size.value != PRF_BYTES:
                raise HsmAway(f"C_Sign answered {rv:#x} with {size.value} bytes")
            return out.raw

        return hmac_sha512

    def _address(self, position: int) -> int:
        address = self._functions[position]
        if not address:
            raise ModuleMissing(self.path, f"function {position} of CK_FUNCTION_LIST is absent")
        return int(address)


class _Registry:
    """What this process has loaded; one lane serves all of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lane: Lane | None = None
        self.modules: dict[Path, Module] = {}


_registry: Final = _Registry()


def get_module(path: Path) -> Module:
    """The process's one Module of this path, loaded at first use.

    Raises:
        ModuleMissing: no such file, not loadable, or not PKCS#11.
        ModuleDown: its device or token directory is not there.
        LoadedBeforeFork: loaded by the parent of this process.

    """
    with _registry.lock:
        module = _registry.modules.get(path)
        if module is not None:
            module.check_process()
            return module
        if _registry.lane is None:
            _registry.lane = Lane("hsm")
        module = Module(path, _registry.lane)
        module.call(module.load)
        _registry.modules[path] = module
        return module
