"""The encoding of protocol buffers, in which ONNX files are written: a message -> its fields, and fields -> a message.

See https://protobuf.dev/programming-guides/encoding. Imports neither protobuf nor onnx, which prediction and training
without Keras do not need.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field: an integer, or the bytes of a string or message; 0 for a number of fixed length,
    which is not read. Raises ValueError for what is no message."""
    return ((number, value) for number, value, _, _ in _spans(message))


def encoded_fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, the field as it is encoded, with its key) of each field. Raises ValueError for what is no message.

    >>> [(number, bytes(field).hex()) for number, field in encoded_fields(memoryview(integer(1, 150) + block(2, "a")))]
    [(1, '089601'), (2, '120161')]
    """
    return ((number, message[begin:end]) for number, _, begin, end in _spans(message))


def _spans(message: memoryview) -> Iterator[tuple[int, Value, int, int]]:
    """(number, value, where the field begins, where it ends) of each."""
    place = 0
    while place < len(message):
        begin, key = place, message[place]
        place += 1
        if key > 0x7F:  # most keys are one byte, and a network has thousands
            key, place = _varint(message, place - 1)
        number, wire = (key & 0xFFFFFFFF) >> 3, key & 7  # readers use 32 bits of a key and ignore the others
        value: Value = 0
        if wire == _VARINT:
            value, place = _varint(message, place)
        elif wire in (_EIGHT, _FOUR):
            place += 8 if wire == _EIGHT else 4
        elif wire == _BYTES:
            length, place = _varint(message, place)
            value, place = message[place : place + length], place + length
        else:
            raise ValueError(f"it holds a field of the kind {wire}, which the format does not have")
        if place > len(message):
            raise ValueError("it is truncated")
        yield number, value, begin, place


def numbers(value: Value) -> list[int]:
    """A field that may be repeated: one signed number, or several packed into bytes.

    >>> numbers(7), numbers(memoryview(bytes([1, 200, 1])))
    ([7], [1, 200])
    """
    if isinstance(value, int):
        return [_signed(value)]
    found, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        found.append(_signed(number))
    return found


def integer(number: int, value: int) -> bytes:
    """The field of this number with an integer of at most 64 bits.

    >>> integer(1, 150).hex(), next(fields(memoryview(integer(1, -2))))[1] - 2**64
    ('089601', -2)
    """
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def real(number: int, value: float) -> bytes:
    """The field of this number with a float of 32 bits."""
    return _encoded(number << 3 | _FOUR) + struct.pack("<f", value)


def block(number: int, *parts: bytes | memoryview | str) -> bytes:
    """The field of this number with a string, bytes, or the fields of a message, joined.

    >>> block(2, "testing").hex()
    '120774657374696e67'
    """
    content = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join((_encoded(number << 3 | _BYTES), _encoded(sum(map(len, content))), *content))


def block_of(number: int, parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same, not joined, so that what is large is not copied. parts: views are of bytes."""
    return [_encoded(number << 3 | _BYTES) + _encoded(sum(map(len, parts))), *parts]


def _encoded(value: int) -> bytes:
    value &= 2**64 - 1
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it is truncated")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise ValueError("it holds a number longer than the format allows")
