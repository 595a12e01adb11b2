"""The cryptography of docs/mobile.md on libsodium and argon2-cffi, from that page alone.

Pure functions: whatever is random in life is an argument, so that the page's vector can be run.
Nothing here knows the product; what the two have in common is the page.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import hmac
import struct
from dataclasses import dataclass
from uuid import UUID

from argon2.low_level import Type, hash_secret_raw
from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

_sodium = ctypes.CDLL("libsodium.so.23")
if _sodium.sodium_init() < 0:  # pragma: no cover
    raise ImportError("libsodium does not start")


class NotOpened(Exception):  # noqa: N818  (what happened, in the page's words)
    """What came does not open, or is no message of the page at all."""


# ---- bytes


def u16(number: int) -> bytes:
    return struct.pack(">H", number)


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def enc(label: str, *fields: bytes) -> bytes:
    full = b"quorumvault/v1/" + label.encode()
    counted = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return bytes([len(full)]) + full + bytes([len(fields)]) + counted


def to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_text(text: object, length: int | range) -> bytes:
    """The bytes of canonical base64url without padding, or NotOpened."""
    if not isinstance(text, str):
        raise NotOpened("no text where base64url should be")
    try:
        raw = text.encode("ascii")
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise NotOpened("no base64url") from error
    lengths = range(length, length + 1) if isinstance(length, int) else length
    if to_text(data) != text or len(data) not in lengths:
        raise NotOpened(f"{len(data)} bytes of base64url, wanted {length}, in canonical form")
    return data


# ---- building blocks


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha512")


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    out, block, count = b"", b"", 0
    while len(out) < length:
        count += 1
        block = mac(prk, block + info + bytes([count]))
        out += block
    return out[:length]


def hkdf(key: bytes, info: bytes, length: int) -> bytes:
    return expand(mac(b"", key), info, length)


CTX = b"OPRFV1-\x00-ristretto255-SHA512"


def xmd(message: bytes, dst: bytes) -> bytes:
    suffix = dst + bytes([len(dst)])
    b0 = hashlib.sha512(bytes(128) + message + u16(64) + b"\x00" + suffix).digest()
    return hashlib.sha512(b0 + b"\x01" + suffix).digest()


def _element(call: str, *inputs: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    if getattr(_sodium, call)(out, *inputs) != 0 or out.raw == bytes(32):
        raise NotOpened(f"{call} gives no element")
    return out.raw


def element(data: bytes) -> bytes:
    """An element that came from elsewhere: canonical, not the identity."""
    if len(data) != 32 or data == bytes(32):
        raise NotOpened("no element")
    if not _sodium.crypto_core_ristretto255_is_valid_point(data):
        raise NotOpened("no element")
    return data


def times(scalar: bytes, point: bytes) -> bytes:
    return _element("crypto_scalarmult_ristretto255", scalar, point)


def times_generator(scalar: bytes) -> bytes:
    return _element("crypto_scalarmult_ristretto255_base", scalar)


def random_scalar() -> bytes:
    out = ctypes.create_string_buffer(32)
    _sodium.crypto_core_ristretto255_scalar_random(out)
    return out.raw


def _inverse(scalar: bytes) -> bytes:
    return _element("crypto_core_ristretto255_scalar_invert", scalar)


def hash_to_group(message: bytes) -> bytes:
    return _element("crypto_core_ristretto255_from_hash", xmd(message, b"HashToGroup-" + CTX))


def derive_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    info = b"OPAQUE-DeriveDiffieHellmanKeyPair"
    for count in range(256):
        wide = xmd(seed + u16(33) + info + bytes([count]), b"DeriveKeyPair" + CTX)
        secret = ctypes.create_string_buffer(32)
        _sodium.crypto_core_ristretto255_scalar_reduce(secret, wide)
        if secret.raw != bytes(32):
            return secret.raw, times_generator(secret.raw)
    raise AssertionError("256 times zero")


def sign(seed: bytes, message: bytes) -> bytes:
    return SigningKey(seed).sign(message).signature


def sign_key(seed: bytes) -> bytes:
    return bytes(SigningKey(seed).verify_key)


def stretch(password: bytes, blind: bytes, evaluated: bytes) -> bytes:
    """randomized_password; 64 MiB and about a tenth of a second."""
    unblinded = times(_inverse(blind), element(evaluated))
    counted = u16(len(password)) + password + u16(32) + unblinded
    oprf_output = hashlib.sha512(counted + b"Finalize").digest()
    stretched = hash_secret_raw(
        oprf_output,
        bytes(16),
        time_cost=3,
        memory_cost=65536,
        parallelism=4,
        hash_len=64,
        type=Type.ID,
        version=0x13,
    )
    return mac(b"", oprf_output + stretched)


@dataclass(frozen=True)
class EnvelopeKeys:
    auth_key: bytes
    export_key: bytes
    private_key: bytes
    public_key: bytes


def envelope_keys(randomized_password: bytes, nonce: bytes) -> EnvelopeKeys:
    seed = expand(randomized_password, nonce + b"PrivateKey", 32)
    return EnvelopeKeys(
        expand(randomized_password, nonce + b"AuthKey", 64),
        expand(randomized_password, nonce + b"ExportKey", 64),
        *derive_key_pair(seed),
    )


def auth_tag(keys: EnvelopeKeys, nonce: bytes, server_key: bytes) -> bytes:
    cleartext = server_key + u16(32) + server_key + u16(32) + keys.public_key
    return mac(keys.auth_key, nonce + cleartext)


# ---- boxes

_LABELS = {"proof": ("wrap-proof", "proof-aad"), "key": ("wrap-key", "wrap-aad")}


def seal_box(
    export_key: bytes, what: str, nonce: bytes, plain: bytes, registration: bytes
) -> bytes:
    key_label, aad_label = _LABELS[what]
    key, aad = hkdf(export_key, enc(key_label), 32), enc(aad_label, registration)
    sealed = bindings.crypto_aead_aes256gcm_encrypt(plain, aad, nonce, key)
    return b"\x01" + nonce + sealed


def open_box(export_key: bytes, what: str, box: bytes, registration: bytes) -> bytes:
    if len(box) < 29 or box[0] != 1:
        raise NotOpened(f"the box of the {what} is no box")
    key_label, aad_label = _LABELS[what]
    key, aad = hkdf(export_key, enc(key_label), 32), enc(aad_label, registration)
    try:
        return bindings.crypto_aead_aes256gcm_decrypt(box[13:], aad, box[1:13], key)
    except CryptoError as error:
        raise NotOpened(f"the box of the {what} does not open") from error


# ---- registration


def registration_id(record_id: bytes, era: int, request: bytes, proof_key: bytes) -> bytes:
    return hashlib.sha256(enc("registration-id", record_id, u64(era), request, proof_key)).digest()


def content(registration: bytes, record: bytes, proof_box: bytes, wrapped_key: bytes) -> bytes:
    return hashlib.sha256(enc("content", registration, record, proof_box, wrapped_key)).digest()


def blinded(password: bytes, blind: bytes) -> bytes:
    return times(blind, hash_to_group(password))


@dataclass(frozen=True)
class Sealed:
    """What a registration stores, and the export key that nobody stores."""

    record: bytes
    proof_box: bytes
    wrapped_key: bytes
    content: bytes
    export_key: bytes


def finish_registration(
    *,
    password: bytes,
    blind: bytes,
    response: bytes,
    registration: bytes,
    backup_key: bytes,
    proof_seed: bytes,
    envelope_nonce: bytes,
    box_nonces: tuple[bytes, bytes],
) -> Sealed:
    evaluated, server_key = element(response[:32]), element(response[32:])
    if evaluated == blinded(password, blind):
        raise NotOpened("the request was reflected")
    randomized = stretch(password, blind, evaluated)
    keys = envelope_keys(randomized, envelope_nonce)
    record = (
        keys.public_key
        + expand(randomized, b"MaskingKey", 64)
        + envelope_nonce
        + auth_tag(keys, envelope_nonce, server_key)
    )
    proof_box = seal_box(keys.export_key, "proof", box_nonces[0], proof_seed, registration)
    wrapped = seal_box(keys.export_key, "key", box_nonces[1], backup_key, registration)
    told = content(registration, record, proof_box, wrapped)
    return Sealed(record, proof_box, wrapped, told, keys.export_key)


def activation_signature(proof_seed: bytes, cluster_id: str, registration: bytes) -> bytes:
    return sign(proof_seed, enc("activate", UUID(cluster_id).bytes, registration))


# ---- login


def make_ke1(password: bytes, blind: bytes, nonce: bytes, seed: bytes) -> tuple[bytes, bytes]:
    """KE1 and the client secret."""
    secret, keyshare = derive_key_pair(seed)
    return blinded(password, blind) + nonce + keyshare, secret


def attempt_id(record_id: bytes, ke1: bytes) -> bytes:
    return hashlib.sha256(enc("attempt-id", record_id, ke1)).digest()


@dataclass(frozen=True)
class Opened:
    server_key: bytes
    export_key: bytes


def _label(secret: bytes, name: bytes, context: bytes) -> bytes:
    head = u16(64) + bytes([7 + len(name)]) + b"OPAQUE-" + name
    return expand(secret, head + bytes([len(context)]) + context, 64)


def open_ke2(password: bytes, blind: bytes, client_secret: bytes, ke1: bytes, ke2: bytes) -> Opened:
    """Opens KE2, or NotOpened: another password, or an answer that nobody should trust."""
    evaluated, masking_nonce, masked = ke2[:32], ke2[32:64], ke2[64:192]
    server_keyshare, server_mac = element(ke2[224:256]), ke2[256:320]
    if element(evaluated) == ke1[:32]:
        raise NotOpened("the request was reflected")
    randomized = stretch(password, blind, evaluated)
    masking_key = expand(randomized, b"MaskingKey", 64)
    pad = expand(masking_key, masking_nonce + b"CredentialResponsePad", 128)
    clear = bytes(left ^ right for left, right in zip(pad, masked, strict=True))
    server_key, envelope_nonce, tag = clear[:32], clear[32:64], clear[64:]
    keys = envelope_keys(randomized, envelope_nonce)
    if not hmac.compare_digest(tag, auth_tag(keys, envelope_nonce, server_key)):
        raise NotOpened("the envelope's tag is another")
    preamble = b"OPAQUEv1-" + u16(0) + u16(32) + keys.public_key + ke1
    preamble += u16(32) + server_key + ke2[:256]
    transcript = hashlib.sha512(preamble).digest()
    shared = (
        times(client_secret, server_keyshare)
        + times(client_secret, element(server_key))
        + times(keys.private_key, server_keyshare)
    )
    handshake = _label(mac(b"", shared), b"HandshakeSecret", transcript)
    if not hmac.compare_digest(server_mac, mac(_label(handshake, b"ServerMAC", b""), transcript)):
        raise NotOpened("the server's MAC is another")
    return Opened(server_key, keys.export_key)


def proof_signature(
    proof_seed: bytes, cluster_id: str, registration: bytes, era: int, attempt: bytes
) -> bytes:
    message = enc("prove", UUID(cluster_id).bytes, registration, u64(era), attempt)
    return sign(proof_seed, message)
