"""The format once more, from the rules of docs/format.md: no line of the product is used here.

Slow and whole in memory, as a page's reader would write it first. Run as a program it prints the
vectors that format_vectors.json holds, with their fixed salt.
"""

import hashlib
import hmac
import json
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEGMENT = 1_048_576


def enc(label, *fields):
    label = b"quorumvault/v1/" + label
    return (
        struct.pack("B", len(label))
        + label
        + struct.pack("B", len(fields))
        + b"".join(struct.pack(">I", len(field)) + field for field in fields)
    )


def hkdf(digest, ikm, salt, info, length):
    size = hashlib.new(digest).digest_size
    key = hmac.digest(salt or bytes(size), ikm, digest)
    out = block = b""
    number = 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([number]), digest)
        out += block
        number += 1
    return out[:length]


def derive(backup_key, label, length):
    return hkdf("sha512", backup_key, b"", enc(label), length)


def padme(size):
    if size < 2:
        return size
    e = 0
    while 2 ** (e + 1) <= size:
        e += 1
    s = 0
    while 2**s <= e:
        s += 1
    unit = 2 ** (e - s)
    return -(-size // unit) * unit


def pad(plain):
    return plain + bytes(max(4096, padme(len(plain))) - len(plain))


def stream_seal(key, aad, plain, salt, prefix):
    cipher = AESGCM(hkdf("sha256", key, salt, aad, 32))
    cuts = [0]
    room = SEGMENT - 40 - 16
    while cuts[-1] + room < len(plain):
        cuts.append(cuts[-1] + room)
        room = SEGMENT - 16
    out = b"\x28" + salt + prefix
    for number, start in enumerate(cuts):
        last = number == len(cuts) - 1
        end = len(plain) if last else cuts[number + 1]
        nonce = prefix + struct.pack(">IB", number, last)
        out += cipher.encrypt(nonce, plain[start:end], b"")
    return out


def stream_open(key, aad, sealed):
    assert sealed[0] == 0x28
    salt, prefix = sealed[1:33], sealed[33:40]
    cipher = AESGCM(hkdf("sha256", key, salt, aad, 32))
    out, start, number = b"", 40, 0
    while True:
        end = min(len(sealed), (number + 1) * SEGMENT)
        last = end == len(sealed)
        out += cipher.decrypt(prefix + struct.pack(">IB", number, last), sealed[start:end], b"")
        if last:
            return out
        start, number = end, number + 1


class Reference:
    """One backup key's names and objects."""

    def __init__(self, backup_key):
        self.key_id = derive(backup_key, b"backup-key-id", 16)
        self.name_key = derive(backup_key, b"backup-chunk-name", 32)
        self.chunk_key = derive(backup_key, b"backup-chunk", 32)
        self.manifest_key = derive(backup_key, b"backup-manifest", 32)
        self.folder = "qv1-" + self.key_id.hex()

    def chunk_id(self, content):
        return hmac.digest(self.name_key, content, "sha256")

    def chunk_name(self, chunk_id):
        return f"{self.folder}/chunks/{chunk_id.hex()[:2]}/{chunk_id.hex()}"

    def manifest_name(self, generation, backup_id):
        return f"{self.folder}/manifests/{struct.pack('>Q', generation).hex()}-{backup_id.hex()}"

    def chunk_object(self, content, salt, prefix):
        aad = enc(b"backup-chunk", self.key_id, self.chunk_id(content))
        plain = pad(struct.pack(">I", len(content)) + content)
        return b"QVB\x01\x01" + stream_seal(self.chunk_key, aad, plain, salt, prefix)

    def content(self, chunk_id, obj):
        assert obj[:5] == b"QVB\x01\x01"
        plain = stream_open(self.chunk_key, enc(b"backup-chunk", self.key_id, chunk_id), obj[5:])
        (length,) = struct.unpack(">I", plain[:4])
        assert plain == pad(plain[: 4 + length])
        return plain[4 : 4 + length]

    def manifest_object(self, generation, backup_id, plain, salt, prefix):
        aad = enc(b"backup-manifest", self.key_id, struct.pack(">Q", generation), backup_id)
        return b"QVB\x01\x02" + stream_seal(self.manifest_key, aad, plain, salt, prefix)

    def frames(self, generation, backup_id, obj):
        assert obj[:5] == b"QVB\x01\x02"
        aad = enc(b"backup-manifest", self.key_id, struct.pack(">Q", generation), backup_id)
        plain = stream_open(self.manifest_key, aad, obj[5:])
        frames, position = [], 0
        while not frames or frames[-1][0] != 6:
            (length,) = struct.unpack(">I", plain[position : position + 4])
            value, rest = unpack(plain[position + 4 : position + 4 + length])
            assert rest == b""
            frames.append(value)
            position += 4 + length
        assert plain == pad(plain[:position])
        return frames


def framed(frames):
    """The plaintext of a manifest."""
    packed = [pack(frame) for frame in frames]
    return pad(b"".join(struct.pack(">I", len(data)) + data for data in packed))


def pack(value):
    """The part of msgpack that the format needs, shortest forms only."""
    if isinstance(value, int):
        if -32 <= value < 128:
            return struct.pack(">b" if value < 0 else "B", value)
        kinds = ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"))
        if value < 0:
            kinds = ((0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q"))
        for code, form in kinds:
            try:
                return bytes([code]) + struct.pack(form, value)
            except struct.error:
                continue
    if isinstance(value, bytes):
        return _head(len(value), None, 0xC4, 0xC5) + value
    if isinstance(value, str):
        data = value.encode()
        return _head(len(data), (0xA0, 32), 0xD9, 0xDA) + data
    return _head(len(value), (0x90, 16), None, 0xDC) + b"".join(map(pack, value))


def _head(size, short, one, two):
    if short and size < short[1]:
        return bytes([short[0] + size])
    if one and size < 256:
        return bytes([one, size])
    return struct.pack(">BH", two, size)


def unpack(data):
    """One value and what follows it."""
    code, rest = data[0], data[1:]
    if code < 0x80:
        return code, rest
    if code >= 0xE0:
        return code - 256, rest
    if 0x90 <= code < 0xA0:
        return _array(code - 0x90, rest)
    if code == 0xDC:
        return _array(int.from_bytes(rest[:2], "big"), rest[2:])
    if 0xA0 <= code < 0xC0:
        return rest[: code - 0xA0].decode(), rest[code - 0xA0 :]
    if code in {0xD9, 0xC4, 0xC5}:
        wide = 2 if code == 0xC5 else 1
        size = int.from_bytes(rest[:wide], "big")
        raw, rest = rest[wide : wide + size], rest[wide + size :]
        return (raw.decode() if code == 0xD9 else raw), rest
    width = 1 << (code - 0xCC) % 4
    assert 0xCC <= code <= 0xD3
    return int.from_bytes(rest[:width], "big", signed=code >= 0xD0), rest[width:]


def _array(count, rest):
    values = []
    for _ in range(count):
        value, rest = unpack(rest)
        values.append(value)
    return values, rest


# ------------------------------------------------------------------------------ vectors

BACKUP_KEY = bytes(range(32))
SALT = bytes(range(0x40, 0x60))
PREFIX = bytes(range(0x70, 0x77))
BACKUP_ID = bytes(range(0xB0, 0xC0))
GENERATION = 3


def counted(size):
    """Content that any language makes in a line: byte i is i * 7 + i // 256, modulo 256."""
    period = bytes((place * 7 + place // 256) % 256 for place in range(min(size, 65_536)))
    return (period * (size // 65_536 + 1))[:size]


def frames_of(reference):
    """The manifest of the vectors: a folder, a bundle of two files, an empty one, a big one."""
    bundle, big = counted(1_000), counted(4_194_300)
    return [
        [1, GENERATION, BACKUP_ID, 1_800_000_000, "vectors 1"],
        [4, [b"messages.db"], 4_194_301, 1_799_999_999_123_456_789, 0o600],
        [2, reference.chunk_id(big), len(big)],
        [2, reference.chunk_id(bundle), len(bundle)],
        [5, [[0, 0, 4_194_300], [1, 0, 1]]],
        [3, [b"photos"], -1, 0o755],
        [4, [b"photos", b"caf\xc3\xa9.jpg"], 499, 1_000_000_000, 0o644],
        [5, [[1, 1, 499]]],
        [4, [b"photos", b"empty"], 0, 0, 0o644],
        [4, [b"photos", b"not-utf8-\xff"], 500, 0, 0o644],
        [5, [[1, 500, 500]]],
        [6, 4, 1, 4_195_300, 2],
    ]


def vectors():
    """What format_vectors.json holds; long values by their SHA-256."""
    reference = Reference(BACKUP_KEY)
    chunks = []
    for size in (1, 4_092, 4_093, 1_048_516, 1_048_517, 4_194_300):
        content = counted(size)
        obj = reference.chunk_object(content, SALT, PREFIX)
        chunks.append(
            {
                "content_bytes": size,
                "content_sha256": hashlib.sha256(content).hexdigest(),
                "chunk_id": reference.chunk_id(content).hex(),
                "name": reference.chunk_name(reference.chunk_id(content)),
                "object_bytes": len(obj),
                "object_sha256": hashlib.sha256(obj).hexdigest(),
            }
            | ({"object": obj.hex()} if size == 1 else {})
        )
    plain = framed(frames_of(reference))
    manifest = reference.manifest_object(GENERATION, BACKUP_ID, plain, SALT, PREFIX)
    aad = enc(b"backup-chunk", reference.key_id, reference.chunk_id(counted(1)))
    return {
        "about": "docs/format.md; byte i of a content is (i * 7 + i // 256) mod 256; hex",
        "backup_key": BACKUP_KEY.hex(),
        "key_id": reference.key_id.hex(),
        "name_key": reference.name_key.hex(),
        "chunk_key": reference.chunk_key.hex(),
        "manifest_key": reference.manifest_key.hex(),
        "folder": reference.folder,
        "salt": SALT.hex(),
        "nonce_prefix": PREFIX.hex(),
        "padme": [[size, padme(size)] for size in (0, 1, 2, 9, 100, 4_097, 5_000, 1_000_000)]
        + [[size, padme(size)] for size in (4_194_303, 4_194_304, 4_194_305, 2**40 + 1)],
        "streams": [
            {"plaintext": plain.hex(), "sealed": sealed.hex()}
            for plain in (b"", b"x", counted(40))
            for sealed in [stream_seal(reference.chunk_key, aad, plain, SALT, PREFIX)]
        ],
        "stream_aad": aad.hex(),
        "chunks": chunks,
        "manifest": {
            "generation": GENERATION,
            "backup_id": BACKUP_ID.hex(),
            "name": reference.manifest_name(GENERATION, BACKUP_ID),
            "frames": [pack(frame).hex() for frame in frames_of(reference)],
            "object_bytes": len(manifest),
            "object_sha256": hashlib.sha256(manifest).hexdigest(),
            "object": manifest.hex(),
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vectors(), indent=1) + "\n")
