"""An untrusted ONNX file -> refused if the runtime would read other files for it.

An ONNX network is only arithmetic, but the format allows weights in other files, named by any path: a stranger's file
could leak parts of this machine's files into its outputs. tellapart writes every network into one file, so a file that
names another is refused, whatever the runtime's version makes of the path. Imports no onnx, which prediction does not
need.
"""

from __future__ import annotations

from collections.abc import Iterator

from tellapart.errors import ExportError

# Which fields of a message contain which messages, from onnx.proto of the ONNX specification.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_OPERATOR, _CONTEXT = 4, b"EPContext"  # of a node: a compiled engine, which may be in another file
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_DEEPEST = 64


def refuse_other_files(content: bytes | memoryview, name: str) -> None:
    """Raise ExportError for an ONNX model whose tensors or engines are in other files, or that is not an ONNX model.

    name: of the file, for the message.
    """
    try:
        for found in _outside(memoryview(content), "model", _DEEPEST):
            raise ExportError(
                f"{name} is refused: it keeps {found} in another file. tellapart writes a network into a single file; "
                "ask for a single file, or export the run again."
            )
    except (IndexError, ValueError) as error:
        raise ExportError(f"{name} cannot be read as an ONNX model: {error}.") from None


def _outside(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    """What is stored in another file, in words, for a message and all messages in it."""
    if not depth:
        raise ValueError("its graphs are nested too deeply")
    for number, wire, value in _fields(message):
        if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            yield "weights"
        elif kind == "node" and number == _OPERATOR and isinstance(value, memoryview) and bytes(value) == _CONTEXT:
            yield "a compiled engine"
        elif wire == _BYTES and number in _INSIDE[kind] and isinstance(value, memoryview):
            yield from _outside(value, _INSIDE[kind][number], depth - 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of each field: protocol buffers' encoding, https://protobuf.dev/programming-guides/encoding."""
    place = 0
    while place < len(message):
        key = message[place]
        place += 1
        if key > 0x7F:  # most keys are one byte, and a network has thousands
            key, place = _varint(message, place - 1)
        number, wire = (key & 0xFFFFFFFF) >> 3, key & 7  # readers use 32 bits of a key and ignore the others
        value: int | memoryview = 0
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
        yield number, wire, value


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
