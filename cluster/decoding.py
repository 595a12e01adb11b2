"""msgpack from outside, with one kind of refusal (I9).

msgspec refuses most of what is malformed with a DecodeError; text that is not UTF-8 and nesting
beyond the stack leave it as other exceptions. Nobody who decodes a peer's bytes may be surprised
by those: uncaught, one frame of one owned node ended every node that read it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Decoder(Generic[T]):
    """Decodes one type; to be made once per module."""

    __slots__ = ("_decoder",)

    def __init__(self, kind: type[T]) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)

    def decode(self, data: bytes) -> T:
        """The value of `data`.

        Raises:
            msgspec.DecodeError: malformed in any way, or out of the type's limits.

        """
        try:
            return self._decoder.decode(data)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"text that is not UTF-8 ({error.reason})") from error
        except RecursionError as error:
            raise msgspec.DecodeError("nested too deep") from error
