"""An independent client of the vault's cryptography, written from RFC 9807 and crypto.md alone.

It exists to disagree with us: the group is libsodium's, the hashing Python's, Argon2id and
AES-GCM are OpenSSL's, the signatures PyNaCl's, and the encoding is its own; it imports nothing
of the packages under test. Tests and the system tests use it as "another OPAQUE package".

    state, request = registration_start(password)
    made = registration_finish(state, password, response)   # record, export_key, server key
    state = login_start(password)                            # state.ke1
    opened = login_finish(state, password, ke2)              # raises DoesNotOpenError
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from nacl.signing import SigningKey

OPRF_CONTEXT = b"OPRFV1-\x00-ristretto255-SHA512"
Ksf = Callable[[bytes], bytes]


class DoesNotOpenError(Exception):
    """The envelope, the server's MAC or a box did not verify under this password."""


# ------------------------------------------------------------------ the group, by libsodium


def _load_libsodium() -> ctypes.CDLL:
    name = ctypes.util.find_library("sodium") or "libsodium.so.23"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        message = f"{name}: install libsodium (Debian: apt-get install libsodium23)"
        raise RuntimeError(message) from error
    if library.sodium_init() < 0:
        raise RuntimeError("libsodium does not initialise")
    library.crypto_core_ristretto255_scalar_random.restype = None
    library.crypto_core_ristretto255_scalar_reduce.restype = None
    return library


_SODIUM = _load_libsodium()


def _call(function: str, *inputs: bytes, size: int = 32) -> bytes:
    out = ctypes.create_string_buffer(size)
    if getattr(_SODIUM, function)(out, *inputs) == -1:
        raise ValueError(f"{function}: not an element, or the result is the identity")
    return out.raw


def _sized(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError(f"{name}: {size} bytes, not {len(value)}")
    return value


def element(value: bytes) -> bytes:
    """`value` when it is a canonical element other than the identity; else ValueError."""
    valid = _SODIUM.crypto_core_ristretto255_is_valid_point(_sized("element", value, 32))
    if valid != 1 or value == bytes(32):
        raise ValueError("not a canonical element other than the identity")
    return value


def multiply(scalar: bytes, point: bytes) -> bytes:
    """scalar·point; ValueError when point is no element or the result is the identity."""
    return _call("crypto_scalarmult_ristretto255", _sized("scalar", scalar, 32), element(point))


def multiply_base(scalar: bytes) -> bytes:
    """scalar·G."""
    return _call("crypto_scalarmult_ristretto255_base", _sized("scalar", scalar, 32))


def add(first: bytes, second: bytes) -> bytes:
    """first + second."""
    return _call("crypto_core_ristretto255_add", element(first), element(second))


def random_scalar() -> bytes:
    """A uniform scalar other than zero."""
    return _call("crypto_core_ristretto255_scalar_random")


def reduce_wide(value: bytes) -> bytes:
    """64 little-endian bytes modulo the group order."""
    return _call("crypto_core_ristretto255_scalar_reduce", _sized("wide scalar", value, 64))


def expand_message_xmd(message: bytes, tag: bytes) -> bytes:
    """RFC 9380 section 5.3.1 with SHA-512, 64 bytes out."""
    suffix = tag + bytes((len(tag),))
    first = hashlib.sha512(bytes(128) + message + (64).to_bytes(2, "big") + b"\0" + suffix)
    return hashlib.sha512(first.digest() + b"\1" + suffix).digest()


def hash_to_group(message: bytes) -> bytes:
    """RFC 9497 section 4.1."""
    uniform = expand_message_xmd(message, b"HashToGroup-" + OPRF_CONTEXT)
    return _call("crypto_core_ristretto255_from_hash", uniform)


def derive_key_pair(seed: bytes, info: bytes) -> tuple[bytes, bytes]:
    """RFC 9497 section 3.2.1: (private, public)."""
    derive_input = seed + len(info).to_bytes(2, "big") + info
    for counter in range(256):
        uniform = expand_message_xmd(
            derive_input + bytes((counter,)), b"DeriveKeyPair" + OPRF_CONTEXT
        )
        scalar = reduce_wide(uniform)
        if scalar != bytes(32):
            return scalar, multiply_base(scalar)
    raise ValueError("no key for this seed")


def derive_dh_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """RFC 9807's DeriveDiffieHellmanKeyPair."""
    return derive_key_pair(seed, b"OPAQUE-DeriveDiffieHellmanKeyPair")


def oprf_blind(message: bytes, blind: bytes) -> bytes:
    """RFC 9497 Blind under a given blind."""
    return multiply(blind, hash_to_group(message))


def oprf_finalize(message: bytes, blind: bytes, evaluated: bytes) -> bytes:
    """RFC 9497 Finalize, 64 bytes."""
    unblinded = multiply(_call("crypto_core_ristretto255_scalar_invert", blind), evaluated)
    sized = len(message).to_bytes(2, "big") + message + (32).to_bytes(2, "big") + unblinded
    return hashlib.sha512(sized + b"Finalize").digest()


# ------------------------------------------------------------------ hashing and stretching


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha512")


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-512."""
    out, block = b"", b""
    for counter in range(1, -(-length // 64) + 1):
        block = _mac(key, block + info + bytes((counter,)))
        out += block
    return out[:length]


def argon2id(iterations: int = 3, memory_kib: int = 65_536, lanes: int = 4) -> Ksf:
    """Argon2id 0x13 over a zero salt of 16 bytes, 64 bytes out; the vault's profile by default."""

    def stretch(value: bytes) -> bytes:
        return Argon2id(
            salt=bytes(16),
            length=64,
            iterations=iterations,
            lanes=lanes,
            memory_cost=memory_kib,
        ).derive(value)

    return stretch


def identity_ksf(value: bytes) -> bytes:
    """No stretching: RFC vectors and load only."""
    return value


PROFILE_KSF: Ksf = argon2id()


# ------------------------------------------------------------------ OPAQUE-3DH, RFC 9807


@dataclass(frozen=True)
class Setting:
    """What both sides agree on beforehand; the vault leaves all of it empty."""

    context: bytes = b""
    client_identity: bytes | None = None
    server_identity: bytes | None = None


VAULT = Setting()


@dataclass(frozen=True, repr=False)
class RegistrationState:
    """Kept between the two registration steps."""

    blind: bytes


@dataclass(frozen=True, repr=False)
class Registration:
    """What a registration makes."""

    record: bytes
    export_key: bytes
    server_public_key: bytes


@dataclass(frozen=True, repr=False)
class LoginState:
    """Kept between the two login steps."""

    blind: bytes
    client_secret: bytes
    ke1: bytes


@dataclass(frozen=True, repr=False)
class Login:
    """What an opened KE2 gives."""

    export_key: bytes
    server_public_key: bytes
    session_key: bytes
    ke3: bytes


def registration_start(
    password: bytes, *, blind: bytes | None = None
) -> tuple[RegistrationState, bytes]:
    """(state, request of 32 bytes)."""
    blind = blind or random_scalar()
    return RegistrationState(blind), oprf_blind(password, blind)


def _randomized_password(password: bytes, blind: bytes, evaluated: bytes, ksf: Ksf) -> bytes:
    output = oprf_finalize(password, blind, evaluated)
    return _mac(b"", output + ksf(output))


def _envelope_keys(randomized: bytes, nonce: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    auth_key = hkdf_expand(randomized, nonce + b"AuthKey", 64)
    export_key = hkdf_expand(randomized, nonce + b"ExportKey", 64)
    private, public = derive_dh_key_pair(hkdf_expand(randomized, nonce + b"PrivateKey", 32))
    return auth_key, export_key, private, public


def _vector16(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _cleartext(setting: Setting, server_public_key: bytes, client_public_key: bytes) -> bytes:
    server = server_public_key if setting.server_identity is None else setting.server_identity
    client = client_public_key if setting.client_identity is None else setting.client_identity
    return server_public_key + _vector16(server) + _vector16(client)


def registration_finish(
    state: RegistrationState,
    password: bytes,
    response: bytes,
    *,
    ksf: Ksf = PROFILE_KSF,
    setting: Setting = VAULT,
    envelope_nonce: bytes | None = None,
) -> Registration:
    """Make the record (192 bytes) from the response (64 bytes)."""
    _sized("registration response", response, 64)
    evaluated, server_public_key = element(response[:32]), element(response[32:])
    randomized = _randomized_password(password, state.blind, evaluated, ksf)
    nonce = envelope_nonce or os.urandom(32)
    auth_key, export_key, _, public = _envelope_keys(randomized, nonce)
    tag = _mac(auth_key, nonce + _cleartext(setting, server_public_key, public))
    masking_key = hkdf_expand(randomized, b"MaskingKey", 64)
    return Registration(public + masking_key + nonce + tag, export_key, server_public_key)


def login_start(
    password: bytes,
    *,
    blind: bytes | None = None,
    client_nonce: bytes | None = None,
    keyshare_seed: bytes | None = None,
) -> LoginState:
    """Blind the password and draw a key share: KE1 (96 bytes) is in the state."""
    blind = blind or random_scalar()
    secret, keyshare = derive_dh_key_pair(keyshare_seed or os.urandom(32))
    ke1 = oprf_blind(password, blind) + (client_nonce or os.urandom(32)) + keyshare
    return LoginState(blind, secret, ke1)


def _expand_label(secret: bytes, label: bytes, context: bytes) -> bytes:
    full = b"OPAQUE-" + label
    info = (64).to_bytes(2, "big") + bytes((len(full),)) + full + bytes((len(context),)) + context
    return hkdf_expand(secret, info, 64)


def login_finish(
    state: LoginState,
    password: bytes,
    ke2: bytes,
    *,
    ksf: Ksf = PROFILE_KSF,
    setting: Setting = VAULT,
) -> Login:
    """Open KE2 (320 bytes).

    Raises:
        ValueError: KE2 is malformed.
        DoesNotOpenError: wrong password or wrong evaluation.

    """
    _sized("KE2", ke2, 320)
    evaluated, masking_nonce, masked = element(ke2[:32]), ke2[32:64], ke2[64:192]
    server_keyshare, server_mac = element(ke2[224:256]), ke2[256:]
    randomized = _randomized_password(password, state.blind, evaluated, ksf)
    masking_key = hkdf_expand(randomized, b"MaskingKey", 64)
    pad = hkdf_expand(masking_key, masking_nonce + b"CredentialResponsePad", 128)
    clear = bytes(a ^ b for a, b in zip(pad, masked, strict=True))
    server_public_key, nonce, tag = clear[:32], clear[32:64], clear[64:]
    auth_key, export_key, private, public = _envelope_keys(randomized, nonce)
    expected = _mac(auth_key, nonce + _cleartext(setting, server_public_key, public))
    if not hmac.compare_digest(tag, expected):
        raise DoesNotOpenError("the envelope does not verify")

    server = server_public_key if setting.server_identity is None else setting.server_identity
    client = public if setting.client_identity is None else setting.client_identity
    preamble = b"OPAQUEv1-" + _vector16(setting.context) + _vector16(client) + state.ke1
    preamble += _vector16(server) + ke2[:256]
    transcript = hashlib.sha512(preamble).digest()
    shared = multiply(state.client_secret, server_keyshare)
    shared += multiply(state.client_secret, server_public_key)
    shared += multiply(private, server_keyshare)
    prk = _mac(b"", shared)
    handshake = _expand_label(prk, b"HandshakeSecret", transcript)
    if not hmac.compare_digest(
        server_mac, _mac(_expand_label(handshake, b"ServerMAC", b""), transcript)
    ):
        raise DoesNotOpenError("the server's MAC does not verify")
    ke3 = _mac(
        _expand_label(handshake, b"ClientMAC", b""),
        hashlib.sha512(preamble + server_mac).digest(),
    )
    session_key = _expand_label(prk, b"SessionKey", transcript)
    return Login(export_key, server_public_key, session_key, ke3)


# ------------------------------------------------------------------ the vault's own bytes


def encode(label: str, *fields: bytes) -> bytes:
    """crypto.md's enc, written a second time."""
    full = ("quorumvault/v1/" + label).encode("ascii")
    out = bytearray((len(full),)) + full + bytes((len(fields),))
    for field in fields:
        out += len(field).to_bytes(4, "big") + field
    return bytes(out)


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def registration_id(record_id: bytes, era: int, request: bytes, proof_key: bytes) -> bytes:
    """32 bytes that bind a registration to its birth."""
    fields = (record_id, _u64(era), request, proof_key)
    return hashlib.sha256(encode("registration-id", *fields)).digest()


def attempt_id(record_id: bytes, ke1: bytes) -> bytes:
    """32 bytes that name one guess."""
    return hashlib.sha256(encode("attempt-id", record_id, ke1)).digest()


def content_hash(registration: bytes, record: bytes, proof_box: bytes, wrapped_key: bytes) -> bytes:
    """What three seats have to answer alike after activation."""
    return hashlib.sha256(encode("content", registration, record, proof_box, wrapped_key)).digest()


def proof_public_key(seed: bytes) -> bytes:
    """The public half that goes into registration_id."""
    return bytes(SigningKey(seed).verify_key)


def sign_activation(seed: bytes, cluster_id: bytes, registration: bytes) -> bytes:
    """64 bytes; cluster_id as the UUID's 16 bytes."""
    return SigningKey(seed).sign(encode("activate", cluster_id, registration)).signature


def sign_prove(
    seed: bytes, cluster_id: bytes, registration: bytes, era: int, attempt: bytes
) -> bytes:
    """64 bytes; cluster_id as the UUID's 16 bytes."""
    message = encode("prove", cluster_id, registration, _u64(era), attempt)
    return SigningKey(seed).sign(message).signature


def _box(
    export_key: bytes,
    purpose: str,
    registration: bytes,
) -> tuple[AESGCM, bytes]:
    key = hkdf_expand(_mac(b"", export_key), encode(f"wrap-{purpose}"), 32)
    aad = "proof-aad" if purpose == "proof" else "wrap-aad"
    return AESGCM(key), encode(aad, registration)


def _close(
    export_key: bytes, purpose: str, registration: bytes, plain: bytes, nonce: bytes | None
) -> bytes:
    aead, aad = _box(export_key, purpose, registration)
    nonce = nonce or os.urandom(12)
    return b"\x01" + nonce + aead.encrypt(nonce, plain, aad)


def _open(export_key: bytes, purpose: str, registration: bytes, box: bytes) -> bytes:
    if box[:1] != b"\x01" or len(box) < 29:
        raise ValueError(f"{purpose} box: not version 1, or too short")
    aead, aad = _box(export_key, purpose, registration)
    try:
        return aead.decrypt(box[1:13], box[13:], aad)
    except InvalidTag as error:
        raise DoesNotOpenError(f"the {purpose} box does not open") from error


def seal_proof_seed(
    export_key: bytes, registration: bytes, seed: bytes, *, nonce: bytes | None = None
) -> bytes:
    """proof_box, 61 bytes."""
    return _close(export_key, "proof", registration, _sized("seed", seed, 32), nonce)


def open_proof_seed(export_key: bytes, registration: bytes, proof_box: bytes) -> bytes:
    """The Ed25519 seed of 32 bytes."""
    return _open(export_key, "proof", registration, _sized("proof_box", proof_box, 61))


def seal_backup_key(
    export_key: bytes, registration: bytes, backup_key: bytes, *, nonce: bytes | None = None
) -> bytes:
    """wrapped_key, 29 bytes longer than the key."""
    return _close(export_key, "key", registration, backup_key, nonce)


def open_backup_key(export_key: bytes, registration: bytes, wrapped_key: bytes) -> bytes:
    """The backup key."""
    return _open(export_key, "key", registration, wrapped_key)
