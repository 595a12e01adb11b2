"""The msgpack of docs/format.md, from its specification: integers, str, bin, arrays, no more."""

from __future__ import annotations

import struct
from typing import Any

_INTEGERS = dict(zip(range(0xCC, 0xD4), "BHIQbhiq", strict=True))
_LENGTHS = dict(zip((0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD), "BHIBHIHI", strict=True))


class Unpacker:
    """Reads one value; ValueError for what the format does not have."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        if self.at + length > len(self.data):
            raise ValueError("msgpack ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack(f">{form}", self.take(struct.calcsize(form)))[0])

    def value(self) -> Any:
        byte = self.take(1)[0]
        if byte < 0x80 or byte >= 0xE0:
            return byte if byte < 0x80 else byte - 256
        if byte in _INTEGERS:
            return self.number(_INTEGERS[byte])
        if 0x90 <= byte <= 0x9F:
            return [self.value() for _ in range(byte & 15)]
        if 0xA0 <= byte <= 0xBF:
            return self.text(byte & 31)
        if byte not in _LENGTHS:
            raise ValueError(f"msgpack of a type {byte:02x} that the format does not have")
        length = self.number(_LENGTHS[byte])
        if byte in (0xC4, 0xC5, 0xC6):
            return self.take(length)
        if byte in (0xD9, 0xDA, 0xDB):
            return self.text(length)
        if length > len(self.data):
            raise ValueError("an array longer than its frame")
        return [self.value() for _ in range(length)]

    def text(self, length: int) -> str:
        return self.take(length).decode()


def pack(value: Any) -> bytes:
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, str):
        data = value.encode()
        if len(data) < 32:
            return bytes([0xA0 | len(data)]) + data
        return _counted((0xD9, 0xDA, 0xDB), len(data)) + data
    if isinstance(value, bytes):
        return _counted((0xC4, 0xC5, 0xC6), len(value)) + value
    long = len(value) > 15
    head = struct.pack(">BH", 0xDC, len(value)) if long else bytes([0x90 | len(value)])
    return head + b"".join(pack(item) for item in value)


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    forms = "BHIQ" if value >= 0 else "bhiq"
    for number, form in enumerate(forms):
        bits = 8 * struct.calcsize(form)
        low, high = (0, 2**bits) if value >= 0 else (-(2 ** (bits - 1)), 0)
        if low <= value < high:
            return bytes([(0xCC if value >= 0 else 0xD0) + number]) + struct.pack(f">{form}", value)
    raise OverflowError(value)


def _counted(types: tuple[int, int, int], length: int) -> bytes:
    for kind, form in zip(types, "BHI", strict=True):
        if length < 2 ** (8 * struct.calcsize(form)):
            return struct.pack(f">B{form}", kind, length)
    raise OverflowError(length)
