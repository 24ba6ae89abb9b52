"""`python -m benchmarks.trust [--write]`: which known faults `check --deep` finds, and how long it takes for many
images.

Makes the tables of docs/trust.md. The faults are made from real images by tests/faults.py, once for each seed; the time
is for 100,000 synthetic features, as no collection of that size is available.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.images import default_data
from benchmarks.process import ROOT
from tests.faults import COPYING, Found, count_found, make_faults

SEEDS = (0, 1, 2)
MANY = 100_000
LOOKED_AT = 300
WIDTH, CLASSES, COPIES = 1280, 10, 1000
BEGIN, END = "<!-- made by: python -m benchmarks.trust --write -->", "<!-- end -->"
PAGE = ROOT / "docs" / "trust.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", nargs="*", default=_default(), help="what `tellapart check` takes  [%(default)s]")
    parser.add_argument("--many", type=int, default=MANY, help="synthetic features to time  [%(default)s]")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/trust.md")
    given = parser.parse_args(arguments)
    lines = [line for data in given.data for line in _table(data)]
    lines += [*(line for data in given.data[:1] for line in _by_looks(data)), *_times(given.many)]
    text = "\n".join(lines)
    print(text)
    if given.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def _default() -> list[str]:
    first = default_data(ROOT)
    pets = ROOT.parent / "shared" / "data" / "pets-three-breeds"
    return [first, str(pets)] if pets.is_dir() else [first]


def _table(data: str) -> Iterator[str]:
    """The figures of one collection, summed over the seeds."""
    import tellapart as ta
    from tellapart.evaluation.intervals import proportion

    sums: dict[str, Found] = {}
    count = 0
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="tellapart-trust-") as folder:
            os.environ["TELLAPART_CACHE"] = f"{folder}/cache"
            faults = make_faults(data, Path(folder) / "photos", seed=seed)
            found = count_found(faults, ta.check(Path(folder) / "photos", deep=True))
        count = faults.images
        for row in found:
            known = sums.get(row.what, Found(row.what, 0, 0))
            sums[row.what] = Found(row.what, known.hits + row.hits, known.n + row.n)
    seeds = ", ".join(map(str, SEEDS))
    yield f"{Path(data).name}, {count} images each of seeds {seeds}, {datetime.now(UTC).date()}:"
    yield ""
    yield "| what | found | of | share (95 % interval) |"
    yield "|---|--:|--:|---|"
    for row in sums.values():
        share = proportion(row.hits, row.n)
        digits = 1 if row.n < 10_000 else 4
        low, value, high = (f"{100 * part:.{digits}f}" for part in (share.low, share.value, share.high))
        yield f"| {row.what} | {row.hits} | {row.n:,} | {value} % ({low} to {high}) |"
    yield ""


def _by_looks(data: str) -> Iterator[str]:
    """The reach of fingerprints alone, as without --deep."""
    from PIL import Image

    from tellapart.config import DataConfig
    from tellapart.data.perceptual_hash import ALIKE, BITS, SURELY, distances, fingerprint, unpacked

    surely = SURELY[BITS // 4]
    from tellapart.data.pixels import decode
    from tellapart.data.sources import read_source
    from tellapart.evaluation.intervals import proportion

    def looks(image: Image.Image) -> str:
        small = decode(np.asarray(image), None, thumbnail=True).thumbnail
        return "" if small is None else fingerprint(small)

    source = read_source(data, DataConfig())
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(source.rows))[:LOOKED_AT]
    images = [Image.open(source.root / source.rows[i].path).convert("RGB") for i in chosen]
    own = unpacked([looks(image) for image in images])
    yield f"Fingerprints alone, {len(images)} images of {Path(data).name}, a copy of each kind:"
    yield ""
    yield f"| copy | kept on one side ({ALIKE} bits) | reported ({surely} bits) |"
    yield "|---|---|---|"
    for kind, change in COPYING.items():
        found = distances(own, unpacked([looks(change(image, generator)) for image in images]))
        shares = [proportion(int((found <= bound).sum()), len(found)) for bound in (ALIKE, surely)]
        cells = " | ".join(f"{100 * s.value:.0f} % ({100 * s.low:.0f} to {100 * s.high:.0f})" for s in shares)
        yield f"| {kind} | {cells} |"
    yield ""


def _times(many: int) -> Iterator[str]:
    """Seconds of each step over synthetic features and fingerprints, a hundredth of them copies of others."""
    from tellapart.data.label_errors import held_out_probabilities, suspect_labels
    from tellapart.data.neighbours import neighbours, reduced
    from tellapart.data.perceptual_hash import BITS, close_pairs, distances, unpacked
    from tellapart.parallel import cores

    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, many)
    kinds = generator.normal(0, 0.5, (CLASSES, WIDTH)).astype(np.float32)
    shared = generator.normal(0, 0.1, (100, WIDTH)).astype(np.float32)
    features = np.empty((many, WIDTH), np.float16)
    for start in range(0, many, 10_000):
        part = labels[start : start + 10_000]
        own = generator.normal(0, 1, (len(part), 100)).astype(np.float32) @ shared
        noise = generator.normal(0, 0.5, (len(part), WIDTH)).astype(np.float32)
        features[start : start + 10_000] = np.abs(1 + kinds[part] + own + noise)
    looks = generator.random((many, BITS)) < 0.5
    copies, originals = np.arange(COPIES), many // 2 + np.arange(COPIES)
    features[copies] = features[originals] + generator.normal(0, 0.2, (COPIES, WIDTH)).astype(np.float16)
    looks[copies] = looks[originals] ^ (generator.random((COPIES, BITS)) < 0.05)
    prints = tuple(row.tobytes().hex() for row in np.packbits(looks, axis=1))
    yield f"{many:,} synthetic images, {WIDTH} features each, {CLASSES} classes, {cores()} cores:"
    yield ""
    yield "| step | seconds | of processor time | |"
    yield "|---|--:|--:|---|"
    clock = _Clock()
    pairs = {pair[:2] for pair in close_pairs(prints)}
    packed = unpacked(prints)
    alike = int((distances(packed[copies], packed[originals]) <= 26).sum())
    hits = sum((one, other) in pairs for one, other in zip(copies.tolist(), originals.tolist(), strict=True))
    yield f"| fingerprints compared | {clock} | {hits} of {alike} copies |"
    clock = _Clock()
    values = reduced(features)
    yield f"| features reduced | {clock} | to {values.shape[1]} |"
    clock = _Clock()
    near = neighbours(values)
    hits = int((near.places[copies] == originals[:, None]).any(axis=1).sum())
    yield f"| neighbours found | {clock} | {hits} of {COPIES} copies |"
    clock = _Clock()
    suspect_labels(labels, held_out_probabilities(values, labels, np.arange(many), CLASSES))
    yield f"| labels judged | {clock} | five heads |"
    yield ""


class _Clock:
    """Seconds since its creation, of wall time and of all processors, as two cells."""

    def __init__(self) -> None:
        self._started, self._used = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        return f"{time.perf_counter() - self._started:.0f} | {time.process_time() - self._used:.0f}"


if __name__ == "__main__":
    main()
