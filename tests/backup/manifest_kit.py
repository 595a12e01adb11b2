"""Manifests to try: written by the product, or sealed as only the holder of the key can."""

import io

from msgspec import msgpack

from engines.encoding import enc, u32, u64
from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import ManifestWriter, read_manifest
from quorumvault.backup.manifest_frames import Chunk, End, File, Folder, Head, Parts
from quorumvault.backup.objects import KIND_MANIFEST, preamble
from quorumvault.backup.padding import padded
from quorumvault.backup.stream import seal

KEYS = Keys.of(bytes(range(32)))
ID = bytes(range(16))
GENERATION = 7
HEAD = Head(GENERATION, ID, 1_800_000_000, "test 1")
ONE = Chunk(b"1" * 32, 9)
TWO = Chunk(b"2" * 32, 4_194_300)


def written(tell, generation=GENERATION, backup_id=ID, keys=KEYS):
    out = io.BytesIO()
    writer = ManifestWriter(
        keys, generation, backup_id, out, created_s=HEAD.created_s, tool=HEAD.tool
    )
    tell(writer)
    assert writer.finish() == len(out.getvalue())
    return out.getvalue()


def read(obj):
    return list(read_manifest(KEYS, GENERATION, ID, io.BytesIO(obj)))


def small(writer):
    writer.folder((b"photos",), 1, 0o755)
    writer.file((b"photos", b"a.jpg"), 5, -1, 0o644)
    number = writer.chunk(ONE.id, ONE.length)
    writer.parts([(number, 0, 5)])
    writer.file((b"photos", b"\xff.jpg"), 0, 3, 0o600)
    writer.file((b"z.db",), 4, 3, 0o600)
    writer.parts([(number, 5, 4)])


SMALL = [
    HEAD,
    Folder((b"photos",), 1, 0o755),
    File((b"photos", b"a.jpg"), 5, -1, 0o644),
    ONE,
    Parts(((0, 0, 5),)),
    File((b"photos", b"\xff.jpg"), 0, 3, 0o600),
    File((b"z.db",), 4, 3, 0o600),
    Parts(((0, 5, 4),)),
    End(3, 1, 9, 1),
]


def raw(*frames):
    return [frame if isinstance(frame, bytes) else msgpack.encode(frame) for frame in frames]


def plain_of(*frames):
    data = b"".join(u32(len(frame)) + frame for frame in raw(*frames))
    return data + bytes(padded(len(data)) - len(data))


def sealed_plain(plain):
    """What only the holder of the key can make."""
    aad = enc("backup-manifest", KEYS.key_id, u64(GENERATION), ID)
    return preamble(KIND_MANIFEST) + seal(KEYS.manifest_key, aad, plain)
