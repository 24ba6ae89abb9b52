"""One photograph in every encoding."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tellapart.task import ImageSpec

HEIGHT, WIDTH = 180, 240

SPEC = ImageSpec(60, 80)


def photograph() -> np.ndarray:
    """Smooth shapes that differ in each corner and each channel."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    red = 40 + 180 * x
    green = 30 + 190 * y
    blue = 60 + 150 * np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) * 20)
    return np.rint(np.stack([red, green, blue], axis=-1)).astype(np.uint8)


PHOTO = photograph()

GREY = np.asarray(Image.fromarray(PHOTO).convert("L"))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(mode: str) -> Image.Image:
    """The photograph over white, encoded with transparency: half covered, so each colour is twice as far from white."""
    base = PHOTO if mode == "RGBA" else GREY[..., None]
    darker = np.clip(2 * base.astype(int) - 255, 0, 255)
    clipped = (base < 128).all(axis=-1, keepdims=True) | (base < 128)
    alpha = np.where(clipped.any(axis=-1, keepdims=True), 255, 128)
    colours = np.where(alpha == 255, base, darker)
    return Image.fromarray(np.concatenate([colours, alpha], axis=-1).astype(np.uint8), mode)


def paletted_with_hole() -> Image.Image:
    """A palette image whose white is one transparent, black entry."""
    quantised = Image.fromarray(PHOTO).quantize(200)
    indices = np.asarray(quantised).copy()
    indices[:30, :30] = 255
    image = Image.fromarray(indices, "P")
    image.putpalette((quantised.getpalette()[:600] + [0] * 768)[:768])
    return image


def table() -> dict[str, tuple[bytes, np.ndarray]]:
    rgb, grey = Image.fromarray(PHOTO), Image.fromarray(GREY)
    flat = np.repeat(GREY[..., None], 3, axis=-1)
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 257)
    holed = PHOTO.copy()
    holed[:30, :30] = 255
    other = Image.fromarray(255 - PHOTO)
    return {
        "jpeg": (encoded(rgb, "JPEG", quality=95), PHOTO),
        "jpeg-progressive": (encoded(rgb, "JPEG", quality=95, progressive=True), PHOTO),
        "jpeg-grey": (encoded(grey, "JPEG", quality=95), flat),
        "jpeg-cmyk": (encoded(rgb.convert("CMYK"), "JPEG", quality=95), PHOTO),
        "png-rgb": (encoded(rgb, "PNG"), PHOTO),
        "png-rgba": (encoded(with_alpha("RGBA"), "PNG"), PHOTO),
        "png-la": (encoded(with_alpha("LA"), "PNG"), flat),
        "png-palette": (encoded(rgb.quantize(256), "PNG"), PHOTO),
        "png-palette-transparent": (encoded(paletted_with_hole(), "PNG", transparency=255), holed),
        "png-16": (encoded(sixteen, "PNG"), flat),
        "png-rgb-transparent-colour": (
            encoded(Image.fromarray(np.where(holed == 255, 0, holed).astype(np.uint8)), "PNG", transparency=(0, 0, 0)),
            holed,
        ),
        "tiff-16": (encoded(sixteen, "TIFF"), flat),
        "tiff-16-big-endian": (encoded(Image.fromarray((GREY.astype(">u2") * 257).astype(">u2")), "TIFF"), flat),
        "tiff-32-integer": (encoded(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"), flat),
        "tiff-float": (encoded(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"), flat),
        "webp": (encoded(rgb, "WEBP", quality=95), PHOTO),
        "gif": (encoded(rgb, "GIF"), PHOTO),
        "bmp": (encoded(rgb, "BMP"), PHOTO),
        "tga": (encoded(rgb, "TGA"), PHOTO),
        "ppm": (encoded(rgb, "PPM"), PHOTO),
        "jpeg-2000": (encoded(rgb, "JPEG2000"), PHOTO),
        "gif-animated": (encoded(rgb, "GIF", save_all=True, append_images=[other]), PHOTO),
        "webp-animated": (encoded(rgb, "WEBP", quality=95, save_all=True, append_images=[other]), PHOTO),
    }


TABLE = table()
