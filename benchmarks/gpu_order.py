"""The input of a job of the GPU benchmark, and how it reports a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Order:
    """work: a folder that all jobs share; its images/ holds the files, in splits. precision: of training."""

    work: Path
    backend: str
    precision: str
    smoke: bool

    @property
    def run(self) -> Path:
        """What the first job leaves for predict and serve."""
        return self.work / "run"

    @property
    def side(self) -> int:
        return 64 if self.smoke else 224

    def files(self) -> list[Path]:
        return sorted(self.work.glob("images/*/*/*.jpg"))


def tell(order: Order, way: str, value: float | None, unit: str, note: str = "") -> None:
    """One row, printed at once, so that it is kept if the job is stopped later."""
    named = " ".join(part for part in (order.backend, order.precision, way) if part)
    print(json.dumps({"row": named, "value": value, "unit": unit, "note": note}), flush=True)
