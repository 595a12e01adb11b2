"""Bytes never change: golden vectors, made by another implementation of the page."""

import hashlib
import io
import json
import os
from pathlib import Path

import format_reference as reference
import pytest

from quorumvault.backup import stream
from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import ManifestWriter, read_manifest
from quorumvault.backup.manifest_frames import encode_frame
from quorumvault.backup.objects import CONTENT_BYTES, MAX_CHUNK_OBJECT_BYTES, open_chunk, seal_chunk
from quorumvault.backup.padding import padme
from quorumvault.backup.stream import FIRST_PLAIN_BYTES, PLAIN_BYTES

VECTORS = json.loads(Path(__file__).with_name("format_vectors.json").read_text())
MANIFEST = VECTORS["manifest"]
KEYS = Keys.of(bytes.fromhex(VECTORS["backup_key"]))
BACKUP_ID = bytes.fromhex(MANIFEST["backup_id"])


@pytest.fixture
def fixed_salt(monkeypatch):
    """The vectors' salt and nonce prefix; nothing but a test can ask for any."""
    header = b"\x28" + bytes.fromhex(VECTORS["salt"] + VECTORS["nonce_prefix"])
    monkeypatch.setattr(stream, "_fresh_header", lambda: header)


def test_the_vectors_are_what_the_reference_makes():
    assert reference.vectors() == VECTORS


def test_the_page_shows_the_values_of_the_vectors():
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    shortest = VECTORS["chunks"][0]
    shown = [VECTORS[name] for name in ("key_id", "name_key", "chunk_key", "manifest_key")]
    for value in (*shown, shortest["chunk_id"], shortest["object_sha256"]):
        assert value in page
    for size in (CONTENT_BYTES, MAX_CHUNK_OBJECT_BYTES, FIRST_PLAIN_BYTES, PLAIN_BYTES):
        assert f"{size:,}" in page
    for size, expected in ((9, 10), (100, 104), (5_000, 5_120), (4_194_305, 4_325_376)):
        assert f"{size:,} → {padme(size):,}" in page
        assert padme(size) == expected


def test_keys_and_folder():
    assert KEYS.key_id.hex() == VECTORS["key_id"]
    assert KEYS.chunk_key.hex() == VECTORS["chunk_key"]
    assert KEYS.manifest_key.hex() == VECTORS["manifest_key"]
    assert KEYS._name_key.hex() == VECTORS["name_key"]
    assert KEYS.folder == VECTORS["folder"]


@pytest.mark.parametrize(("size", "expected"), VECTORS["padme"])
def test_padded_sizes(size, expected):
    assert padme(size) == expected


@pytest.mark.parametrize("case", VECTORS["streams"])
def test_streams(case, fixed_salt):
    aad = bytes.fromhex(VECTORS["stream_aad"])
    plain = bytes.fromhex(case["plaintext"])
    assert stream.seal(KEYS.chunk_key, aad, plain).hex() == case["sealed"]
    assert stream.open_(KEYS.chunk_key, aad, bytes.fromhex(case["sealed"])) == plain


@pytest.mark.parametrize("case", VECTORS["chunks"], ids=lambda case: case["content_bytes"])
def test_chunks(case, fixed_salt):
    content = reference.counted(case["content_bytes"])
    chunk_id = KEYS.chunk_id(content)
    assert chunk_id.hex() == case["chunk_id"]
    assert KEYS.chunk_name(chunk_id) == case["name"]
    obj = seal_chunk(KEYS, chunk_id, content)
    assert len(obj) == case["object_bytes"]
    assert hashlib.sha256(obj).hexdigest() == case["object_sha256"]
    assert open_chunk(KEYS, chunk_id, len(content), obj, check_id=True) == content


def write(frames, out):
    writer = ManifestWriter(
        KEYS, frames[0][1], frames[0][2], out, created_s=frames[0][3], tool=frames[0][4]
    )
    for kind, *fields in frames[1:-1]:
        if kind == 5:
            writer.parts([tuple(part) for part in fields[0]])
        elif kind == 2:
            writer.chunk(*fields)
        else:
            add = writer.folder if kind == 3 else writer.file
            add(tuple(fields[0]), *fields[1:])
    return writer.finish()


def test_the_manifest(fixed_salt):
    out = io.BytesIO()
    size = write(reference.frames_of(reference.Reference(reference.BACKUP_KEY)), out)
    assert KEYS.manifest_name(MANIFEST["generation"], BACKUP_ID) == MANIFEST["name"]
    assert size == MANIFEST["object_bytes"]
    assert out.getvalue().hex() == MANIFEST["object"]


def test_the_manifest_is_read():
    source = io.BytesIO(bytes.fromhex(MANIFEST["object"]))
    frames = read_manifest(KEYS, MANIFEST["generation"], BACKUP_ID, source)
    assert [encode_frame(frame).hex() for frame in frames] == MANIFEST["frames"]


def test_the_reference_reads_what_we_write_with_fresh_salts():
    other = reference.Reference(reference.BACKUP_KEY)
    for size in (1, 5_000, 1_048_517):
        content = os.urandom(size)
        obj = bytes(seal_chunk(KEYS, KEYS.chunk_id(content), content))
        assert other.content(KEYS.chunk_id(content), obj) == content
    out = io.BytesIO()
    write(reference.frames_of(other), out)
    assert other.frames(3, BACKUP_ID, out.getvalue()) == reference.frames_of(other)


def test_salts_are_fresh_without_the_fixture():
    assert stream._fresh_header() != stream._fresh_header()
