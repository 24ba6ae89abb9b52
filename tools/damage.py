"""How many damaged JPEGs are detected: a run of bytes in each is overwritten with noise, once per file and length.

    python -m tools.damage [FOLDER]

Without a folder: the photographs in the package. The table is in docs/security-model.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tellapart.data import pixels
from tellapart.errors import ImageError
from tellapart.task import ImageSpec

LENGTHS = (1, 4, 16, 64, 256, 1024)
"""Number of overwritten bytes."""
SPEC = ImageSpec(224, 224, fit="crop")
SEEN = 1.0
"""Mean difference of the pixels in grey levels from which damage counts as visible."""
PHOTOGRAPHS = Path(pixels.__file__).parent / "builtin" / "pets"


def told(contents: Sequence[bytes], length: int) -> tuple[int, int, int]:
    """For JPEGs with a run of noise in their last scan: how many there were, how many were reported as damaged or
    refused, and in how many of the others the damage is visible."""
    generator = random.Random(length)
    count = noticed = seen = 0
    for content in contents:
        first, last = content.rfind(b"\xff\xda") + 14, len(content) - length - 2
        if first >= last:
            continue
        count += 1
        start = generator.randrange(first, last)
        hurt = content[:start] + generator.randbytes(length) + content[start + length :]
        try:
            found = pixels.decode(hurt, SPEC)
        except ImageError:
            noticed += 1
            continue
        if found.warning:
            noticed += 1
        elif found.pixels is not None:
            whole = pixels.read(content, SPEC)
            seen += bool(np.abs(found.pixels.astype(np.int16) - whole).mean() > SEEN)
    return count, noticed, seen


def table(contents: Sequence[bytes]) -> str:
    """In Markdown, a row per length."""
    rows = ["| bytes of noise | reported | not reported, visible | not reported, hardly visible |", "|---|---|---|---|"]
    for length in LENGTHS:
        count, noticed, seen = told(contents, length)
        shares = (noticed / count, seen / count, (count - noticed - seen) / count)
        rows.append(f"| {length:,} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many damaged JPEGs are told.")
    parser.add_argument("folder", nargs="?", type=Path, default=PHOTOGRAPHS)
    folder = parser.parse_args().folder
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    print(f"{len(paths):,} JPEGs of {folder}\n\n{table([path.read_bytes() for path in paths])}")


if __name__ == "__main__":
    main()
