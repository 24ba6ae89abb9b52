from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.config import DataConfig
from tellapart.data import perceptual_hash as prints
from tellapart.data import pixels
from tellapart.data.perceptual_hash import ALIKE, BITS, close_pairs, distances, fingerprint, unpacked
from tellapart.data.sources import read_source
from tellapart.task import ImageSpec
from tests.faults import COPYING

PETS = read_source("builtin:pets", DataConfig())
PHOTOS = [PETS.root / row.path for row in PETS.rows]


def looks(source: Path | Image.Image, spec: ImageSpec | None = None) -> str:
    if isinstance(source, Image.Image):
        decoded = pixels.decode(np.asarray(source.convert("RGB")), spec, thumbnail=True)
    else:
        decoded = pixels.decode(source, spec, thumbnail=True)
    assert decoded.thumbnail is not None
    return fingerprint(decoded.thumbnail)


def apart(one: str, other: str) -> int:
    return int(distances(unpacked([one]), unpacked([other]))[0])


@pytest.mark.parametrize(
    ("kind", "bound"), [("recompressed", 10), ("resized", 14), ("mirrored", 10), ("brightened", 20)]
)
def test_a_copy_has_nearly_the_same_fingerprint(kind: str, bound: int) -> None:
    generator = np.random.default_rng(0)
    for path in PHOTOS[::30]:
        copy = COPYING[kind](Image.open(path).convert("RGB"), generator)
        assert apart(looks(path), looks(copy)) <= bound


def test_different_photographs_are_far_apart() -> None:
    packed = unpacked([looks(path) for path in PHOTOS[::6]])
    first, second = np.triu_indices(len(packed), 1)
    found = np.sort(distances(packed[first], packed[second]))
    assert (found > ALIKE).mean() > 0.999
    assert np.median(found) > 50


def test_a_file_has_one_fingerprint_whatever_the_network_wants_of_it(tmp_path: Path) -> None:
    specs = (
        None,
        ImageSpec(64, 64),
        ImageSpec(224, 224, fit="crop"),
        ImageSpec(100, 50, 1, fit="pad"),
        ImageSpec(28, 28, interpolation="nearest"),
        ImageSpec(600, 600),
    )
    large = tmp_path / "large.jpg"
    Image.open(PHOTOS[0]).resize((1500, 1000), Image.Resampling.BICUBIC).save(large)
    for path in (*PHOTOS[::40], large):
        assert len({looks(path, spec) for spec in specs}) == 1


def test_a_turned_file_looks_as_it_is_shown(tmp_path: Path) -> None:
    image = Image.open(PHOTOS[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert apart(looks(tmp_path / "turned.jpg"), looks(PHOTOS[0])) <= 10


def test_a_flat_image_has_none_and_is_in_no_pair() -> None:
    assert looks(Image.new("RGB", (60, 60), "red")) == ""
    assert close_pairs(("", "", "0" * 32, "")) == ()


def test_a_mirrored_image_differs_in_its_odd_bits_alone() -> None:
    generator = np.random.default_rng(1)
    small = generator.integers(0, 255, (32, 32), np.uint8)
    one, other = unpacked([fingerprint(small)]), unpacked([fingerprint(np.ascontiguousarray(small[:, ::-1]))])
    turned = np.unpackbits(one ^ other)
    assert turned.sum() == BITS - prints._EVEN[:BITS].sum()
    assert apart(fingerprint(small), fingerprint(np.ascontiguousarray(small[:, ::-1]))) == 0


def scattered(count: int, seed: int = 0, share: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).random((count, BITS)) < share


def texts(bits: np.ndarray) -> tuple[str, ...]:
    return tuple(row.tobytes().hex() for row in np.packbits(bits, axis=1))


def test_bands_find_what_comparing_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = scattered(3000)
    # A tenth of the bits turned, every second copy mirrored.
    bits[:500] = bits[1000:1500] ^ scattered(500, 1, 0.1)
    bits[:500:2] ^= ~prints._EVEN[:BITS]
    every = set(close_pairs(texts(bits)))
    assert len(every) >= 490
    monkeypatch.setattr(prints, "_FEW", 100)
    banded = set(close_pairs.__wrapped__(texts(bits)))
    assert banded <= every
    assert len(banded) >= 0.9 * len(every)


def test_a_collection_that_looks_alike_takes_more_to_be_a_copy() -> None:
    """As X-rays do: all share most of their bits, so that a few that differ say nothing."""
    alike = scattered(1, 5) ^ scattered(400, 6, 0.1)
    assert close_pairs(texts(alike)) == ()
    assert len(close_pairs(texts(np.concatenate([alike, alike[:3]])))) <= 3
    assert len(close_pairs(texts(alike[:5]))) == 10, "of a handful nothing is known of the collection"
