"""Bytes that nobody honest sent, and what every decoder owes them.

Three sources: noise; what an honest peer could send with bytes flipped, cut, spliced or doubled;
and well-formed trees with one value put out of range or encoded the long way. Valid values come
from the very types that decode them (`valid`), so a new field is fuzzed without a word here.

The examples are the same in every run. QUORUMVAULT_FUZZ_EXAMPLES=N draws N fresh ones per test
(`make fuzz`); a failure then prints what reproduces it.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

MORE = int(os.environ.get("QUORUMVAULT_FUZZ_EXAMPLES") or 0)
CPU_S = 2.0
"""Per example; an honest decode takes well under a millisecond."""


def fuzz(examples: int) -> settings:
    """`examples` fixed ones, or as many fresh ones as the environment asks for."""
    return settings(
        max_examples=MORE or examples,
        derandomize=not MORE,
        database=None,
        deadline=None,  # CPU time is checked by `decoded`; wall time depends on the neighbours
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def judged(
    decode: Callable[[Any], Any],
    refusals: type[Exception] | tuple[type[Exception], ...],
    data: Any,
) -> tuple[Any, Exception | None]:
    """(value, None), or (None, the documented refusal); any other exception fails the test."""
    began = time.thread_time()
    try:
        return decode(data), None
    except refusals as refusal:
        return None, refusal
    finally:
        assert time.thread_time() - began < CPU_S


def decoded(
    decode: Callable[[Any], Any],
    refusals: type[Exception] | tuple[type[Exception], ...],
    data: Any,
) -> Any:
    """The value, or None for the documented refusal."""
    return judged(decode, refusals, data)[0]


# ------------------------------------------------------------------ valid values from types

_EDGES = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**63 - 1]


def valid(kind: Any, *, most: int = 3) -> st.SearchStrategy[Any]:
    """Values that msgspec takes for `kind`; lists have at most `most` items beyond their least."""
    return _of(msgspec.inspect.type_info(kind), most)


def _of(info: Any, most: int) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0912 - one arm a type
    i = msgspec.inspect
    match info:
        case i.IntType():
            low = info.ge if info.ge is not None else -(2**63)
            high = info.le if info.le is not None else (info.lt or 2**64) - 1
            return st.sampled_from([e for e in _EDGES if low <= e <= high] or [low]) | st.integers(
                low, high
            )
        case i.BytesType():
            low = info.min_length or 0
            high = low + 40 if info.max_length is None else info.max_length
            return st.binary(min_size=low, max_size=min(high, low + 40))
        case i.StrType(pattern=None):
            return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 20, 40))
        case i.StrType():
            return st.from_regex(info.pattern).filter(lambda t: len(t) <= (info.max_length or 40))
        case i.BoolType():
            return st.booleans()
        case i.NoneType():
            return st.none()
        case i.FloatType():
            return st.floats(0, 600)
        case i.UUIDType():
            return st.uuids()
        case i.LiteralType():
            return st.sampled_from(info.values)
        case i.EnumType():
            return st.sampled_from(list(info.cls))
        case i.UnionType():
            return st.one_of([_of(each, most) for each in info.types])
        case i.ListType() | i.VarTupleType():
            low = info.min_length or 0
            items = st.lists(_of(info.item_type, most), min_size=low, max_size=low + most)
            return items if isinstance(info, i.ListType) else items.map(tuple)
        case i.TupleType():
            return st.tuples(*(_of(each, most) for each in info.item_types))
        case i.DictType():
            return st.dictionaries(
                _of(info.key_type, most), _of(info.value_type, most), max_size=most
            )
        case i.StructType():
            return st.builds(
                info.cls, **{field.name: _of(field.type, most) for field in info.fields}
            )
        case i.CustomType():  # quorumvault._wire.Octets
            size = info.cls.LENGTH
            return st.binary(min_size=size or 1, max_size=size or 60).map(info.cls)
    raise TypeError(f"no strategy for {info}")


# ------------------------------------------------------------------ bytes spoiled


@st.composite
def spoiled(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """A valid encoding after one to four accidents."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        end = at + draw(st.integers(1, 40))
        match draw(st.sampled_from(["flip", "cut", "double", "splice", "insert", "drop", "lie"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "double":
                data[end:end] = data[at:end]
            case "splice":
                data[at:] = draw(whole)[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "drop":
                del data[at:end]
            case "lie" if data:
                # Type bytes of msgpack and extremes: lengths of four billion, ext types, nil.
                lies = b"\x00\x80\x90\x9f\xc0\xc1\xc2\xc6\xc9\xcf\xd3\xdb\xdd\xdf\x7f\xff"
                data[at] = draw(st.sampled_from(lies))
    return bytes(data)


_WRONG = st.sampled_from(
    [
        None, True, -1, 0, 2**53 - 1, 2**53, 2**63, 2**64 - 1, -(2**63), 0.5, math.nan, math.inf,
        "", "a", "\0", b"", b"\0", bytes(31), bytes(33), bytes(32), b"\xff" * 32, bytes(2000),
        [], [[]], {}, {"a": 1}, [None] * 300, "x" * 5000,
    ]
)  # fmt: skip


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = range(len(tree)) if isinstance(tree, list) else tree if isinstance(tree, dict) else ()
    return [path, *(each for key in keys for each in _places(tree[key], (*path, key)))]


def _replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = _replaced(tree[path[0]], path[1:], value)
    return copy


@st.composite
def twisted(draw: Any, trees: st.SearchStrategy[Any]) -> Any:
    """A tree with one value replaced, one list or object longer or shorter by one, or intact."""
    tree = draw(trees)
    path = draw(st.sampled_from(_places(tree)))
    there = tree
    for key in path:
        there = there[key]
    if isinstance(there, list | dict) and draw(st.booleans()):
        there = there.copy()
        if there and draw(st.booleans()):
            there.pop(draw(st.sampled_from(list(_keys(there)))))
        elif isinstance(there, list):
            there.append(draw(_WRONG))
        else:
            there[draw(st.text(max_size=5))] = draw(_WRONG)
        return _replaced(tree, path, there)
    if isinstance(there, bytes | str) and draw(st.booleans()):
        return _replaced(tree, path, there[:-1] if draw(st.booleans()) else there + there[:1])
    return _replaced(tree, path, draw(_WRONG))


def _keys(tree: Any) -> Any:
    return range(len(tree)) if isinstance(tree, list) else tree


# ------------------------------------------------------------------ msgpack


def long_way(tree: Any) -> bytes:
    """The tree in msgpack with every length and number as wide as the format allows."""
    match tree:
        case None | bool() | float():
            return msgspec.msgpack.encode(tree)
        case int():
            return (
                b"\xd3" + struct.pack(">q", tree) if tree < 0 else b"\xcf" + struct.pack(">Q", tree)
            )
        case bytes():
            return b"\xc6" + struct.pack(">I", len(tree)) + tree
        case str():
            text = tree.encode()
            return b"\xdb" + struct.pack(">I", len(text)) + text
        case list():
            return b"\xdd" + struct.pack(">I", len(tree)) + b"".join(map(long_way, tree))
        case dict():
            pairs = b"".join(long_way(key) + long_way(value) for key, value in tree.items())
            return b"\xdf" + struct.pack(">I", len(tree)) + pairs
    raise TypeError(f"no msgpack for {tree!r}")


def foreign_msgpack(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Whatever may arrive where `whole` is expected."""
    trees = whole.map(msgspec.msgpack.decode)
    return st.one_of(
        whole,
        st.binary(max_size=200),
        spoiled(whole),
        spoiled(whole),
        twisted(trees).map(msgspec.msgpack.encode),
        twisted(trees).map(msgspec.msgpack.encode),
        trees.map(long_way),
        st.builds(lambda head, n: head * n, st.sampled_from([b"\x91", b"\x81", b"\xdd"]),
                  st.sampled_from([50, 5000])),
    )  # fmt: skip


# ------------------------------------------------------------------ JSON

DEEP = [b"[" * 3000, b'{"a":' * 3000, b'{"a":' + b"[" * 3000]


def foreign_json(trees: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Whatever may arrive where JSON of `trees` is expected; bytes stand as text in them."""

    def dump(tree: Any) -> bytes:
        return json.dumps(tree, default=lambda value: value.decode("latin-1")).encode()

    whole = trees.map(dump)
    members = st.sampled_from([
        b'"x":1', b'"x":' + b"[" * 3000 + b"]" * 3000, b'"x":' + b"9" * 5000, b'"x":1e999',
        b'"x":"\\ud800"', b'"\\ud800":1', b'"\xff":1', b'"x":NaN', b'"":{"":{}}',
    ])  # fmt: skip

    def with_member(text: bytes, member: bytes) -> bytes:
        return b"{" + member + b"," + text[1:] if text.startswith(b'{"') else member + text

    def doubled(text: bytes) -> bytes:
        return text[:-1] + b"," + text[1:] if text.startswith(b'{"') else text * 2

    return st.one_of(
        whole,
        st.binary(max_size=200),
        spoiled(whole),
        twisted(trees).map(dump),
        twisted(trees).map(dump),
        st.builds(with_member, whole, members),
        whole.map(doubled),
        st.sampled_from(DEEP),
    )
