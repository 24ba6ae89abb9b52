"""Small files that the project makes itself, from its own images: what the fuzzer begins with. No file of others."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SIDE = 20
_MODES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    # Pillow's name of the format -> modes and options of writing it.
    "JPEG": (
        ("RGB", {}),
        ("L", {"progressive": True}),
        ("CMYK", {"quality": 30}),
        ("RGB", {"progressive": True, "subsampling": 2, "restart_marker_rows": 1}),
    ),
    "PNG": (("RGB", {}), ("RGBA", {}), ("P", {"transparency": 3}), ("1", {}), ("I;16", {}), ("LA", {})),
    "GIF": (("P", {}), ("L", {"interlace": 1})),
    "WEBP": (("RGB", {"quality": 20}), ("RGBA", {"lossless": True})),
    "BMP": (("RGB", {}), ("P", {}), ("1", {})),
    "TIFF": (
        ("RGB", {}),
        ("L", {"compression": "tiff_deflate"}),
        ("RGB", {"compression": "tiff_lzw"}),
        ("RGB", {"compression": "jpeg"}),
        ("1", {"compression": "group4"}),
        ("F", {}),
        ("I", {}),
        ("I;16", {"compression": "packbits"}),
        ("CMYK", {}),
    ),
    "PPM": (("RGB", {}), ("L", {}), ("1", {}), ("I;16", {})),
    "JPEG2000": (("RGB", {}), ("L", {"irreversible": True, "quality_layers": [20]})),
    "TGA": (("RGB", {"compression": "tga_rle"}), ("RGBA", {}), ("P", {})),
    "ICO": (("RGBA", {"sizes": [(16, 16)]}), ("RGB", {"sizes": [(16, 16)], "bitmap_format": "bmp"})),
    "AVIF": (("RGB", {"speed": 10}),),
    "MPO": (("RGB", {}),),
    # Formats that are not to be read; the road must refuse them.
    "EPS": (("RGB", {}),),
    "PDF": (("RGB", {}),),
    "DDS": (("RGBA", {}),),
    "PCX": (("RGB", {}),),
    "SGI": (("RGB", {}),),
    "SPIDER": (("F", {}),),
    "ICNS": (("RGBA", {}),),
    "QOI": (("RGB", {}),),
    "MSP": (("1", {}),),
    "XBM": (("1", {}),),
}


def photograph(mode: str = "RGB", number: int = 0) -> Any:
    """A built-in photograph, small, in a mode of Pillow."""
    from PIL import Image

    import tellapart

    names = sorted((Path(tellapart.__file__).parent / "data" / "builtin" / "pets" / "Bengal").glob("*.jpg"))
    with Image.open(names[number]) as file:
        small = file.convert("RGB").resize((SIDE, SIDE))
    if mode in ("I;16", "I", "F"):
        wide = small.convert("L").convert("I").point(lambda value: value * 257)
        return wide if mode == "I" else wide.convert(mode)
    return small.convert(mode)


def images(_: Path | None = None) -> Mapping[str, bytes]:
    """One file of each format and mode that Pillow writes here."""
    from PIL import Image, features

    made = {}
    for kind, modes in _MODES.items():
        if kind == "AVIF" and not features.check("avif"):
            continue
        for mode, options in modes:
            file = io.BytesIO()
            photograph(mode).save(file, kind, **options)
            made[f"{kind} {mode} {' '.join(options)}".strip()] = file.getvalue()
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph().save(file, "JPEG", exif=exif, comment=b"a comment", icc_profile=bytes(200), dpi=(72, 72))
    made["JPEG with much beside its pixels"] = file.getvalue()
    file = io.BytesIO()
    photograph("P").save(file, "GIF", save_all=True, append_images=[photograph("P", 1)], comment=b"x", loop=0)
    made["GIF that moves"] = file.getvalue()
    return made


def archives(_: Path | None = None) -> Mapping[str, bytes]:
    """Zips and tars of two classes, in each packing, one in another, with a table, and with what is not taken."""
    members = {f"{label}/{number}.png": _png(number) for label in ("cat", "dog") for number in range(2)}
    table = b"path,label\nx/0.png,cat\nx/1.png,dog\n"
    tabled = {"labels.csv": table, "x/0.png": _png(0), "x/1.png": _png(1)}
    packings = {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}
    made = {f"zip, {name}": _zip(members, packing) for name, packing in packings.items()}
    made |= {f"tar {kind}".strip(): _tar(members, kind) for kind in ("", "gz", "bz2", "xz")}
    made["zip with a table"] = _zip(tabled, 8)
    made["zip in zips"] = _zip({"inside.zip": _zip({"train.tar.gz": _tar(members, "gz")}, 0)}, 8)
    made["zip with odd names"] = _zip({"a\\b/1.png": _png(0), "\u732b/1.png": _png(1), "__MACOSX/x": b""}, 8)
    made["zip that leads outside"] = _zip({"../../../../outside.png": _png(0)}, 0)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as bundle:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"cat/{kind.decode()}.png")
            info.type, info.linkname = kind, "../../../../tmp/outside"
            bundle.addfile(info)
        bundle.addfile(tarfile.TarInfo("n" * 300 + ".png"))
    made["tar of links"] = file.getvalue()
    return made


def _png(number: int) -> bytes:
    file = io.BytesIO()
    photograph("L", number).resize((4, 4)).save(file, "PNG")
    return file.getvalue()


def _zip(members: Mapping[str, bytes], packing: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as bundle:
        for name, content in members.items():
            bundle.writestr(zipfile.ZipInfo(name), content, compress_type=packing)
    return file.getvalue()


def _tar(members: Mapping[str, bytes], packing: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{packing}") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return file.getvalue()


TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".txt", ".tar", ".tfrecord", ".xlsx")
"""The first byte of an input says which of these it is."""


def tables(_: Path | None = None) -> Mapping[str, bytes]:
    """Tables of the images a.png, b.png and c.png, and shards with images inside, each kind with its leading byte."""
    rows = [("a.png", "cat", "train", "1"), ("b.png", "dog", "train", "2"), ("c.png", "dog", "test", "2")]
    text = "path,label,split,group\n" + "".join(",".join(row) + "\n" for row in rows)
    quoted = 'file;class\n"a.png";"cat; and dog"\n" b.png ";"1.0"\nc;"2"\n'
    made = {
        "csv": b"\0" + text.encode(),
        "csv of quotes": b"\0" + quoted.encode(),
        "csv in UTF-16": b"\0" + text.encode("utf-16"),
        "tsv": b"\1" + text.replace(",", "\t").encode("utf-8-sig"),
        "JSON Lines": b"\3"
        + b"".join(b'{"file_name": "%s", "label": "%s"}\n' % (a.encode(), b.encode()) for a, b, *_ in rows),
        "list": b"\4" + b"".join(f"{path} {label}\n".encode() for path, label, *_ in rows),
        "tar shard": b"\5" + _tar_shard(),
        **{name: b"\6" + content for name, content in _records().items()},
        **{name: b"\7" + content for name, content in _excel(rows).items()},
    }
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        return made
    columns = {name: [row[place] for row in rows] for place, name in enumerate(("path", "label", "split", "group"))}
    for packing in ("none", "snappy", "zstd"):
        file = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), file, compression=packing)
        made[f"parquet, {packing}"] = b"\2" + file.getvalue()
    file = io.BytesIO()
    image = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    images = pyarrow.array([{"bytes": b"GIF89a", "path": "a.gif"}, {"bytes": b"GIF89a", "path": None}], image)
    parquet.write_table(pyarrow.table({"image": images, "label": pyarrow.array([0, 1])}), file)
    made["parquet with images"] = b"\2" + file.getvalue()
    return made


def _tar_shard() -> bytes:
    file = io.BytesIO()
    members = {"1.jpg": b"GIF89a", "1.cls": b"0", "2.jpg": b"GIF89a", "2.json": b'{"label": 1}', "2.cls": b"1"}
    with tarfile.open(fileobj=file, mode="w") as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _records() -> dict[str, bytes]:
    """Two records with an image and a label; none without the library of the checksums."""
    try:
        import google_crc32c
    except ModuleNotFoundError:
        return {}

    def field(number: int, content: bytes) -> bytes:
        return bytes((number << 3 | 2, len(content))) + content

    def checked(content: bytes) -> bytes:
        crc = google_crc32c.value(content)
        return content + struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    made = b""
    for label in range(2):
        image = field(1, field(1, b"image") + field(2, field(1, field(1, b"GIF89a"))))
        number = field(1, field(1, b"label") + field(2, field(3, field(1, bytes((label,))))))
        example = field(1, image + number)
        made += checked(struct.pack("<Q", len(example))) + checked(example)
    return {"TFRecord": made}


def _excel(rows: Sequence[tuple[str, ...]]) -> dict[str, bytes]:
    try:
        import openpyxl
    except ModuleNotFoundError:
        return {}
    book = openpyxl.Workbook()
    for row in (("path", "label", "split", "group"), *rows):
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return {"Excel": file.getvalue()}


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz", "labels.txt")
"""The first byte of an input says which of these files it is."""


def idx(_: Path | None = None) -> Mapping[str, bytes]:
    """The parts of a small idx set, each with its leading byte."""
    whole = struct.pack(">4I", 0x803, 3, 4, 4) + bytes(range(48))
    return {
        "images": b"\0" + whole,
        "labels": b"\1" + struct.pack(">2I", 0x801, 3) + bytes((0, 1, 1)),
        "packed images": b"\2" + gzip.compress(whole),
        "names": b"\3cat\ndog\n",
    }


RUN_FILES = (
    "run.json",
    "config.toml",
    "catalog.csv",
    "metrics.json",
    "history.jsonl",
    "class_means.npy",
    "validation_traits.npy",
    "predictions.csv",
    "checkpoint/state.json",
    "checkpoint/weights-1.safetensors",
    "checkpoint/optimizer-1.safetensors",
)
"""The first byte of an input says which of these files of a run it is."""


def run_files(run: Path) -> Mapping[str, bytes]:
    """The files of a run, each with its leading byte. A finished run has no checkpoint: one is made."""
    import numpy as np
    from safetensors.numpy import save

    values = save({f"{number:05d}": np.full((2, 2), number, np.float32) for number in range(3)})
    checkpoint = [json.dumps({"epoch": 1, "best": 1}).encode(), values, values]
    content = [(run / name).read_bytes() for name in RUN_FILES[:-3]] + checkpoint
    return {name: bytes([number]) + content[number] for number, name in enumerate(RUN_FILES)}


def networks(run: Path) -> Mapping[str, bytes]:
    return {"model.onnx": (run / "model.onnx").read_bytes()}


def descriptions(run: Path) -> Mapping[str, bytes]:
    """What a network says of itself, as JSON: by the field numbers of onnx.proto, without the package onnx."""
    from tellapart.inference.predictor import Predictor

    said = Predictor(run / "model.onnx", threads=1).metadata.to_dict()
    bare = {**said, "thresholds": None}
    return {"as trained": json.dumps(said).encode(), "without thresholds": json.dumps(bare).encode()}


def described(network: bytes, key: bytes, said: bytes) -> bytes:
    """The network, with what it says of itself under the key replaced: of two entries of a map the later counts."""

    def field(number: int, value: bytes) -> bytes:
        length, digits = len(value), b""
        while length > 0x7F:
            digits += bytes([length & 0x7F | 0x80])
            length >>= 7
        return bytes([number << 3 | 2]) + digits + bytes([length]) + value

    return network + field(14, field(1, key) + field(2, said))


def bodies(_: Path | None = None) -> Mapping[str, bytes]:
    """Bodies of requests, each with its Content-Type in a line before it."""
    image = _png(0)
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\nContent-Type: image/png\r\n\r\n%s\r\n'
    form = part % (b"a", b'; filename="a.png"', image) + part % (b"b", b"; filename*=UTF-8''b%20c.png", image)
    written = {"images": [{"name": "a.png", "data": base64.b64encode(image).decode()}]}
    return {
        "form": b"multipart/form-data; boundary=x\n" + form + b"--x--\r\n",
        "form with a field": b'multipart/form-data; boundary="x"\n' + part % (b"c", b"", b"text") + form + b"--x--",
        "json": b"application/json\n" + json.dumps(written).encode(),
        "image": b"image/png\n" + image,
        "bytes": b"application/octet-stream; charset=x\n" + image,
        "another kind": b"text/html\n<html>",
    }


def requests(_: Path | None = None) -> Mapping[str, bytes]:
    """Whole requests of HTTP/1.1, some of several."""
    made = {}
    for name, content in bodies().items():
        kind, _, body = content.partition(b"\n")
        made[name] = (
            b"POST /v1/predict?top=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
        ) % (kind, len(body), body)
    get = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for path in (b"/healthz", b"/readyz", b"/metrics", b"/v1/runs", b"/", b"/openapi.json"):
        made[f"get {path.decode()}"] = get % path
    made["several"] = get % b"/healthz" + get % b"/nothing"
    chunked = (
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    made["in chunks"] = chunked + b"4\r\nabcd\r\n0\r\nX-Trailer: y\r\n\r\n"
    made["expecting"] = made["image"].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1)
    made["to be upgraded"] = (get % b"/").replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 1)
    return made
