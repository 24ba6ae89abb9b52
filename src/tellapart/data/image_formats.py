"""The table of supported image formats; no other format is ever tried.

Each row tells how a file begins, which suffixes are searched for in folders, and which single Pillow class opens it. So
no other Pillow reader runs: its Image.open would try all of them, among them one that starts Ghostscript (EPS) and one
that passes its content to Image.open again (IPTC).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from PIL import ImageFile

PREFIX = 64
"""Number of bytes at the beginning of a file that identify its format."""


@dataclass(frozen=True)
class ImageFormat:
    """name: as in Pillow. begins: whether a file's first PREFIX bytes are of this format. opener: `module:class` that
    opens it. suffixes: in lower case. extra: the extra of tellapart that provides the opener, if Pillow does not."""

    name: str
    begins: Callable[[bytes], bool]
    opener: str
    suffixes: tuple[str, ...]
    extra: str = ""

    def open(self, file: BinaryIO) -> ImageFile.ImageFile:
        """The image with its header read, its pixels not decoded. Raises what the opener raises for damaged files, and
        ModuleNotFoundError if the extra is not installed."""
        module, _, name = self.opener.partition(":")
        opener = getattr(importlib.import_module(module), name)
        file.seek(0)
        return cast("ImageFile.ImageFile", opener(file, ""))


def _with(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda prefix: prefix.startswith(marks)


def _is_webp(prefix: bytes) -> bool:
    return prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP"


def _is_avif(prefix: bytes) -> bool:
    """By its brand; a file with a generic brand also lists the brands it is compatible with."""
    brand = prefix[4:12]
    return brand in (b"ftypavif", b"ftypavis") or (brand in (b"ftypmif1", b"ftypmsf1") and b"avif" in prefix[16:])


def _is_heic(prefix: bytes) -> bool:
    brands = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
    return prefix[4:8] == b"ftyp" and prefix[8:12] in brands and not _is_avif(prefix)


def _is_tga(prefix: bytes) -> bool:
    """It has no signature: its header must have plausible values."""
    if len(prefix) < 18:
        return False
    colours, kind, depth = prefix[1], prefix[2], prefix[16]
    return (
        (colours, kind) in ((0, 2), (0, 3), (0, 10), (0, 11), (1, 1), (1, 9))
        and depth in (1, 8, 16, 24, 32)
        and prefix[12:14] != b"\0\0" != prefix[14:16]
    )


# MPO is a JPEG followed by more images; only the first one counts.
JPEG = ImageFormat(
    "JPEG", _with(b"\xff\xd8\xff"), "PIL.JpegImagePlugin:JpegImageFile", ("jpg", "jpeg", "jpe", "jfif", "mpo")
)

# The first matching row is the format of a file.
FORMATS = (
    JPEG,
    ImageFormat("PNG", _with(b"\x89PNG\r\n\x1a\n"), "PIL.PngImagePlugin:PngImageFile", ("png", "apng")),
    ImageFormat("GIF", _with(b"GIF87a", b"GIF89a"), "PIL.GifImagePlugin:GifImageFile", ("gif",)),
    ImageFormat("WEBP", _is_webp, "PIL.WebPImagePlugin:WebPImageFile", ("webp",)),
    ImageFormat("BMP", _with(b"BM"), "PIL.BmpImagePlugin:BmpImageFile", ("bmp",)),
    ImageFormat(
        "TIFF",
        _with(b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+"),
        "PIL.TiffImagePlugin:TiffImageFile",
        ("tif", "tiff"),
    ),
    ImageFormat(
        "PPM",
        _with(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"),
        "PIL.PpmImagePlugin:PpmImageFile",
        ("ppm", "pgm", "pbm", "pnm", "pfm"),
    ),
    ImageFormat(
        "JPEG2000",
        _with(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
        "PIL.Jpeg2KImagePlugin:Jpeg2KImageFile",
        ("jp2", "j2k", "jpc", "jpf", "jpx", "j2c"),
    ),
    ImageFormat("AVIF", _is_avif, "PIL.AvifImagePlugin:AvifImageFile", ("avif",)),
    ImageFormat("HEIF", _is_heic, "pillow_heif.as_plugin:HeifImageFile", ("heic", "heif", "hif"), extra="heif"),
    ImageFormat("ICO", _with(b"\0\0\1\0"), "PIL.IcoImagePlugin:IcoImageFile", ("ico",)),
    ImageFormat("TGA", _is_tga, "PIL.TgaImagePlugin:TgaImageFile", ("tga",)),
)
SUFFIXES = frozenset(suffix for row in FORMATS for suffix in row.suffixes)


def format_of(prefix: bytes) -> ImageFormat | None:
    """The format of a file, from its first PREFIX bytes.

    >>> format_of(bytes.fromhex("ffd8ffe0")).name, format_of(b"%!PS-Adobe-3.0 EPSF-3.0")
    ('JPEG', None)
    """
    return next((row for row in FORMATS if row.begins(prefix)), None)


# Other files found among images with an image suffix, by (offset, first bytes).
_FOREIGN = (
    (0, b"<", "it is a web page or other text"),
    (0, b"%PDF", "it is a PDF"),
    (0, b"%!PS", "it is a PostScript program, which is never run"),
    (0, b"PK\3\4", "it is a zip or an office document"),
    (4, b"ftypqt", "it is a video"),
    (4, b"ftypisom", "it is a video"),
    (4, b"ftypmp4", "it is a video"),
)


def foreign(prefix: bytes) -> str:
    """In words, what a file of none of the formats is."""
    found = (words for at, mark, words in _FOREIGN if prefix[at:].startswith(mark))
    return next(found, "it does not begin like any supported image format")
