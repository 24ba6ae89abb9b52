"""The origin of a run and how to reproduce it, for the report's last section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tellapart.report.input import ReportInput
from tellapart.runs.history import HistoryRow

_MOST_LETTERS = 60_000


def origin(report: ReportInput) -> dict[str, Any]:
    """The values of the section: command, seed, digests, environment, and the long texts, truncated if very long."""
    config, catalog = report.config, report.catalog
    texts = [("Configuration", config.to_toml()), ("Network", report.network), ("Epochs", _epochs(report.history))]
    return {
        "command": report.command,
        "made_from": [("Seed", config.seed), ("Images", f"{len(catalog):,} under {catalog.root}")],
        "digests": [
            ("Digest of the images, labels and splits", catalog.digest),
            ("Digest of the configuration", config.digest),
        ],
        "environment": list(report.environment.items()),
        "onnx_check": [(name.replace("_", " ").capitalize(), value) for name, value in report.onnx_check.items()],
        "texts": [(name, _cut(text)) for name, text in texts if text],
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}\n… the rest is in the files of the run."


def _epochs(history: Sequence[HistoryRow]) -> str:
    """The history as a table of plain text."""
    if not history:
        return ""
    rows = [row.to_dict() for row in history]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["  ".join(f"{name:>{max(len(name), 9)}}" for name in columns)]
    for row in rows:
        cells = (_cell(row.get(name, "")) for name in columns)
        lines.append("  ".join(f"{cell:>{max(len(name), 9)}}" for name, cell in zip(columns, cells, strict=True)))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)
