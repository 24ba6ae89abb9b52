"""Check sums put right after bytes were changed, so that a change gets past the first look and deeper in."""

from __future__ import annotations

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_BLOCK = 512


def repaired(data: bytes) -> bytes:
    """The same bytes, with the check sums of a PNG's chunks or of a tar's headers as they should be."""
    if data.startswith(_PNG):
        return _png(data)
    return _tar(data) if data[257:262] == b"ustar" else data


def _png(data: bytes) -> bytes:
    content, place = bytearray(data), len(_PNG)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        end = place + 8 + length
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[place + 4 : end]))
        place = end + 4
    return bytes(content)


def _tar(data: bytes) -> bytes:
    content = bytearray(data)
    for place in range(0, len(content) - _BLOCK + 1, _BLOCK):
        header = content[place : place + _BLOCK]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            content[place + 148 : place + 156] = f"{sum(header):06o}\0 ".encode()
    return bytes(content)
