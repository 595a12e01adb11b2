"""The manifest comes back frame by frame, and never otherwise."""

import io

import pytest

from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import ManifestWriter, parse_name, read_manifest
from quorumvault.backup.manifest_frames import Chunk, End, File, Folder, Head, Parts

KEYS = Keys.of(bytes(range(32)))
ID = bytes(range(16))


def written(tell, generation=7):
    out = io.BytesIO()
    writer = ManifestWriter(KEYS, generation, ID, out, created_s=1_800_000_000, tool="test 1")
    tell(writer)
    size = writer.finish()
    assert size == len(out.getvalue())
    return out.getvalue()


def small(writer):
    writer.folder((b"photos",), 1, 0o755)
    writer.file((b"photos", b"a.jpg"), 5, -1, 0o644)
    number = writer.chunk(b"c" * 32, 9)
    writer.parts([(number, 0, 5)])
    writer.file((b"photos", b"\xff.jpg"), 0, 3, 0o600)
    writer.file((b"z.db",), 4, 3, 0o600)
    writer.parts([(number, 5, 4)])


def test_every_frame_comes_back():
    frames = list(read_manifest(KEYS, 7, ID, io.BytesIO(written(small))))
    assert frames == [
        Head(7, ID, 1_800_000_000, "test 1"),
        Folder((b"photos",), 1, 0o755),
        File((b"photos", b"a.jpg"), 5, -1, 0o644),
        Chunk(b"c" * 32, 9),
        Parts(((0, 0, 5),)),
        File((b"photos", b"\xff.jpg"), 0, 3, 0o600),
        File((b"z.db",), 4, 3, 0o600),
        Parts(((0, 5, 4),)),
        End(3, 1, 9, 1),
    ]


def test_a_name_tells_generation_and_backup():
    assert parse_name(KEYS.manifest_name(7, ID)) == (7, ID)
    assert parse_name("0000000000000007-" + ID.hex()) == (7, ID)
    assert parse_name("0000000000000000-" + ID.hex()) is None
    assert parse_name("000000000000000A-" + ID.hex()) is None
    assert parse_name(KEYS.manifest_name(7, ID) + "\n") is None


def test_a_writer_that_breaks_a_rule_is_told():
    with pytest.raises(ValueError, match="ascend"):
        written(lambda writer: [writer.folder((name,), 0, 0) for name in (b"b", b"a")])
