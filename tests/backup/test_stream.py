"""The stream is that of Tink: each opens what the other sealed, and neither a change of it."""

import io
import json
import tracemalloc
from base64 import b64encode
from itertools import pairwise

import pytest
from tink import json_proto_keyset_format, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2

from quorumvault.backup.stream import (
    FIRST_PLAIN_BYTES,
    HEADER_BYTES,
    PLAIN_BYTES,
    SEGMENT_BYTES,
    Opener,
    Sealer,
    open_,
    open_into,
    opened_length,
    seal,
    seal_into,
    sealed_length,
)

streaming_aead.register()

KEY = bytes(range(32))
AAD = b"what it is for"
BORDERS = (FIRST_PLAIN_BYTES, FIRST_PLAIN_BYTES + PLAIN_BYTES)
SIZES = [0, 1, 4096, *(border + step for border in BORDERS for step in (-1, 0, 1)), 4 * 1_048_576]


def of_tink(key=KEY):
    """Tink's own primitive with our parameters."""
    proto = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=key)
    proto.params.ciphertext_segment_size = SEGMENT_BYTES
    proto.params.derived_key_size = 32
    proto.params.hkdf_hash_type = common_pb2.SHA256
    keyset = {
        "primaryKeyId": 1,
        "key": [
            {
                "keyId": 1,
                "status": "ENABLED",
                "outputPrefixType": "RAW",
                "keyData": {
                    "typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
                    "value": b64encode(proto.SerializeToString()).decode(),
                    "keyMaterialType": "SYMMETRIC",
                },
            }
        ],
    }
    handle = json_proto_keyset_format.parse(json.dumps(keyset), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Kept(io.BytesIO):
    """Tink closes what it writes to; the bytes are wanted all the same."""

    def close(self):
        self.kept = self.getvalue()
        super().close()


def tink_seals(plaintext, aad=AAD):
    out = Kept()
    with of_tink().new_encrypting_stream(out, aad) as stream:
        stream.write(plaintext)
    return out.kept


def tink_opens(sealed, aad=AAD):
    with of_tink().new_decrypting_stream(io.BytesIO(sealed), aad) as stream:
        return stream.read()


def content(size):
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_what_we_seal(size):
    sealed = seal(KEY, AAD, content(size))
    assert len(sealed) == sealed_length(size)
    assert tink_opens(sealed) == content(size)


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_tink_seals(size):
    sealed = tink_seals(content(size))
    assert len(sealed) == sealed_length(size)
    assert open_(KEY, AAD, sealed) == content(size)


@pytest.mark.parametrize("step", [1_000, SEGMENT_BYTES, 2_500_000])
def test_a_stream_may_come_in_pieces_of_any_size(step):
    plaintext = content(3_000_000)
    sealer = Sealer(KEY, AAD)
    sealed = b"".join(map(sealer.write, pieces(plaintext, step))) + sealer.finish()
    assert tink_opens(sealed) == plaintext
    opener = Opener(KEY, AAD)
    assert b"".join(map(opener.feed, pieces(sealed, step))) + opener.finish() == plaintext


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_of_any_length_may_come_in_pieces(size):
    sealer = Sealer(KEY, AAD)
    sealed = sealer.write(content(size)) + sealer.finish()
    assert open_(KEY, AAD, sealed) == content(size)
    opener = Opener(KEY, AAD)
    assert opener.feed(seal(KEY, AAD, content(size))) + opener.finish() == content(size)


def pieces(data, step):
    return [data[start : start + step] for start in range(0, len(data), step)]


def segments(sealed):
    """Header and first segment apart, then the others."""
    cuts = [0, HEADER_BYTES, *range(SEGMENT_BYTES, len(sealed), SEGMENT_BYTES), len(sealed)]
    return [sealed[start:end] for start, end in pairwise(cuts)]


def spliced():
    """Name of a change and the changed stream: no byte is new, only their order."""
    header, first, second, third = segments(seal(KEY, AAD, content(2_500_000)))
    other = segments(seal(KEY, AAD, content(2_500_000)))
    return {
        "the last segment dropped": [header, first, second],
        "all but the header dropped": [header],
        "nothing left": [],
        "two segments swapped": [header, second, first, third],
        "a segment twice": [header, first, second, second, third],
        "a segment left out": [header, first, third],
        "the last segment twice": [header, first, second, third, third],
        "bytes appended": [header, first, second, third, b"0"],
        "a segment of zeros appended": [header, first, second, third, bytes(SEGMENT_BYTES)],
        "a segment of another stream of the same plaintext": [header, first, other[2], third],
        "the header of another stream": [other[0], first, second, third],
        "the last byte cut off": [header, first, second, third[:-1]],
        "the tag alone": [header, first, second, third[-16:]],
        "cut in the header": [header[:20]],
        "a longer header": [b"\x29", header[1:], first, second, third],
    }


@pytest.mark.parametrize("change", spliced())
def test_no_splicing_opens(change):
    sealed = b"".join(spliced()[change])
    with pytest.raises(ValueError):
        open_(KEY, AAD, sealed)
    opener = Opener(KEY, AAD)
    with pytest.raises(ValueError):
        opener.feed(sealed) + opener.finish()


@pytest.mark.parametrize(("key", "aad"), [(bytes(32), AAD), (KEY, AAD + b"!"), (KEY, b"")])
def test_another_key_or_use_does_not_open(key, aad):
    with pytest.raises(ValueError):
        open_(key, aad, seal(KEY, AAD, b"x"))


def test_every_changed_byte_is_seen():
    sealed = seal(KEY, AAD, content(50))
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << place % 8
        with pytest.raises(ValueError):
            open_(KEY, AAD, changed)


def test_lengths_that_no_stream_has_are_refused():
    known = {sealed_length(size) for size in range(3_000)}
    for length in range(3_000):
        if length in known:
            assert sealed_length(opened_length(length)) == length
        else:
            with pytest.raises(ValueError):
                opened_length(length)
    for size in (*SIZES, 2**40):
        assert opened_length(sealed_length(size)) == size
    for tag in range(1, 17):
        with pytest.raises(ValueError):
            opened_length(SEGMENT_BYTES + tag)


def test_an_empty_segment_after_a_full_one_is_refused():
    """Only a writer that holds the key could make it; one content has one length."""
    sealer = Sealer(KEY, AAD)
    sealer.write(content(FIRST_PLAIN_BYTES))
    sealed = sealer._take(last=False) + sealer.finish()
    assert len(sealed) == SEGMENT_BYTES + 16
    with pytest.raises(ValueError, match="no sealed stream has"):
        open_(KEY, AAD, sealed)
    opener = Opener(KEY, AAD)
    opener.feed(sealed)
    with pytest.raises(ValueError, match="empty segment"):
        opener.finish()


def test_a_buffer_of_another_size_is_refused():
    sealed = seal(KEY, AAD, b"x")
    for size in (len(sealed) - 1, len(sealed) + 1):
        with pytest.raises(ValueError):
            seal_into(KEY, AAD, (b"x",), bytearray(size))
    for size in (0, 2):
        with pytest.raises(ValueError, match="not"):
            open_into(KEY, AAD, sealed, bytearray(size))


def test_two_seals_of_the_same_differ():
    assert seal(KEY, AAD, b"x") != seal(KEY, AAD, b"x")


def test_a_finished_stream_takes_no_more():
    sealer, opener = Sealer(KEY, AAD), Opener(KEY, AAD)
    opener.feed(sealer.finish())
    opener.finish()
    for late in (lambda: sealer.write(b"x"), sealer.finish, lambda: opener.feed(b"x")):
        with pytest.raises(ValueError, match="finished"):
            late()


def test_a_long_stream_needs_the_memory_of_a_few_segments():
    piece = content(1_000_000)
    sealer, opener = Sealer(KEY, AAD), Opener(KEY, AAD)
    tracemalloc.start()
    try:
        got = sum(len(opener.feed(sealer.write(piece))) for _ in range(64))
        got += len(opener.feed(sealer.finish())) + len(opener.finish())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == 64_000_000
    assert peak < 8 * SEGMENT_BYTES
