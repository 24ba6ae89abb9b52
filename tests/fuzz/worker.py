"""One target in a process of its own, guided by coverage: what __main__.py starts.

    python -m tests.fuzz.worker TABLE NAME RUN FAULTS [options of libFuzzer and its folders]

TABLE: the module that holds TARGETS. Atheris (libFuzzer for Python) mutates inputs and keeps those that reach a new
branch. A fault that is an exception is written to FAULTS, once for each place, and the search goes on; a crash, a hang
and too much memory end the process, with the input left as libFuzzer leaves it.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import atheris

from tests.fuzz.oracle import fault
from tests.fuzz.repair import repaired


def main(table: str, name: str, run: Path, faults: Path, options: list[str]) -> None:
    target = next(row for row in importlib.import_module(table).TARGETS if row.name == name)
    # What is not Python's to bound is bounded here; what was compiled for the fuzzer is not kept.
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=list(target.guided)) if target.guided else warnings.catch_warnings():
        for module in target.guided:
            importlib.import_module(module)
        if target.prepare is not None:
            target.prepare(run)
        work = Path(tempfile.mkdtemp(prefix="fuzz-", dir=faults.parent))
        seeds = [path for option in options if not option.startswith("-") for path in sorted(Path(option).iterdir())]
        for path in seeds:  # so that what is imported late is guided too, and no import is taken for the input's doing
            fault(target, path.read_bytes(), _emptied(work))

    def one(data: bytes) -> None:
        place, what = fault(target, data, _emptied(work))
        if place:
            kept = faults / f"fault-{zlib.crc32(place.encode()):08x}"
            if not kept.exists():
                kept.write_bytes(data)
                kept.with_suffix(".txt").write_text(f"{place}\n{what}", encoding="utf-8", errors="replace")

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        changed: bytes = atheris.Mutate(data, most)
        return repaired(changed)[:most] if seed % 2 else changed

    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutated)
    atheris.Fuzz()


def _emptied(folder: Path) -> Path:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)  # noqa: PTH108 - thousands a second
    return folder


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
