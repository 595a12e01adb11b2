"""What is derived from the backup key: one key per purpose, and every name in the storage.

A storage provider sees names only. Without the key they say nothing: `key_id` links the objects
of one backup key, `chunk_id` shows which contents of that key are equal, and neither can be
recomputed from a guessed content (docs/format.md).
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engines.encoding import enc

__all__ = [
    "BACKUP_ID_BYTES",
    "BACKUP_KEY_BYTES",
    "CHUNK_ID_BYTES",
    "FORMAT_VERSION",
    "KEY_ID_BYTES",
    "MAX_GENERATION",
    "KeyFolder",
    "Keys",
    "Octets",
    "key_id_of",
]

Octets: TypeAlias = bytes | bytearray | memoryview

FORMAT_VERSION: Final = 1
BACKUP_KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
CHUNK_ID_BYTES: Final = 32
BACKUP_ID_BYTES: Final = 16
MAX_GENERATION: Final = 2**63 - 1  # fits the signed 64-bit integer of every language

_FOLDER: Final = re.compile(r"qv([1-9][0-9]{0,8})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The folder of one backup key in a storage; its name is all that is known of it.

    Attributes:
        key_id: 32 hexadecimal digits.
        version: of the format of what is in it; above FORMAT_VERSION: of a later quorumvault.

    """

    START: ClassVar = "qv"
    """How the name of every one begins."""

    key_id: str
    version: int = FORMAT_VERSION

    @classmethod
    def parse(cls, name: str) -> KeyFolder | None:
        """None for what is no key's folder: a stranger's."""
        match = _FOLDER.fullmatch(name)
        return None if match is None else cls(match[2], int(match[1]))

    @property
    def name(self) -> str:
        """As it is called in the storage, relative to its URL; no slash at its end."""
        return f"{self.START}{self.version}-{self.key_id}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one backup key; safe to share among threads.

    Attributes:
        key_id: 16 bytes, public: which key a backup in the storage is of.
        chunk_key: 32 bytes, seals chunks.
        manifest_key: 32 bytes, seals manifests.

    """

    key_id: bytes
    chunk_key: bytes = field(repr=False)
    manifest_key: bytes = field(repr=False)
    _name_key: bytes = field(repr=False)
    _cut_key: bytes = field(repr=False)

    @classmethod
    def of(cls, backup_key: bytes) -> Keys:
        """Derive all of them from the 32-byte `backup_key` (HKDF-SHA-512, RFC 5869).

        Raises:
            ValueError: the key does not have 32 bytes.

        """
        if len(backup_key) != BACKUP_KEY_BYTES:
            raise ValueError(f"a backup key has {BACKUP_KEY_BYTES} bytes, not {len(backup_key)}")
        return cls(
            key_id=key_id_of(backup_key),
            chunk_key=_derive(backup_key, "backup-chunk", 32),
            manifest_key=_derive(backup_key, "backup-manifest", 32),
            _name_key=_derive(backup_key, "backup-chunk-name", 32),
            _cut_key=_derive(backup_key, "backup-cut", 32),
        )

    @property
    def folder(self) -> str:
        """The folder of this key's objects, relative to the storage URL; no slash at its end."""
        return KeyFolder(self.key_id.hex()).name

    def chunk_id(self, content: Octets) -> bytes:
        """32 bytes: HMAC-SHA-256 of the content, before padding."""
        return hmac.digest(self._name_key, content, "sha256")

    def cut_mark(self, data: Octets) -> bytes:
        """32 bytes: HMAC-SHA-256 of what decides whether a pack ends here; shown to nobody.

        Under a key of its own, so that it is never the chunk_id of anything.
        """
        return hmac.digest(self._cut_key, data, "sha256")

    def chunk_name(self, chunk_id: bytes) -> str:
        """The chunk object's name relative to the storage URL."""
        text = _exact(chunk_id, CHUNK_ID_BYTES, "chunk_id").hex()
        return f"{self.folder}/chunks/{text[:2]}/{text}"

    def manifest_name(self, generation: int, backup_id: bytes) -> str:
        """The manifest's name relative to the storage URL.

        Raises:
            ValueError: the generation is not in 1 … 2^63-1, or the id not of 16 bytes.

        """
        if not 1 <= generation <= MAX_GENERATION:
            raise ValueError(f"a generation is 1 … 2^63-1, not {generation}")
        text = _exact(backup_id, BACKUP_ID_BYTES, "backup_id").hex()
        return f"{self.folder}/manifests/{generation:016x}-{text}"


def key_id_of(backup_key: Octets) -> bytes:
    """The public id alone, 16 bytes: for trying many keys.

    Raises:
        ValueError: the key does not have 32 bytes.

    """
    if len(backup_key) != BACKUP_KEY_BYTES:
        raise ValueError(f"a backup key has {BACKUP_KEY_BYTES} bytes, not {len(backup_key)}")
    return _derive(backup_key, "backup-key-id", KEY_ID_BYTES)


def _derive(backup_key: Octets, label: str, length: int) -> bytes:
    return HKDF(algorithm=SHA512(), length=length, salt=b"", info=enc(label)).derive(backup_key)


def _exact(value: bytes, length: int, name: str) -> bytes:
    if len(value) != length:
        raise ValueError(f"{name} has {length} bytes, not {len(value)}")
    return value
