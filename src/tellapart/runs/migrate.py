"""Contents of runs in earlier formats -> the current format. Changes nothing on disk.

Format 1 called images pictures. There is one step per earlier format; each leaves newer contents unchanged, since a run
that was started by one version and resumed by another has rows of both.
"""

from __future__ import annotations

from typing import Any

FORMAT = 2
OLDEST = 1

_KEYS = {"pictures_per_second": "images_per_second", "verified_pictures": "verified_images"}
_SECTIONS = {"pictures": "images"}
_REASONS = {
    "interrupted in epoch": "interrupted", "no better": "no-better", "all epochs done": "epochs-done",
    "regularisation chosen": "converged", "The ": "not-a-number",
}  # fmt: skip
"""How format 1 began the sentence on why training stopped."""


def record(found: dict[str, Any]) -> dict[str, Any]:
    """run.json of format OLDEST to FORMAT. Raises KeyError or TypeError if it is not a record."""
    findings = [{**finding, "kind": _kind(finding["kind"])} for finding in found["findings"]]
    made = row(found) | {"tellapart_run": FORMAT, "findings": findings}
    if "stopped" in made:
        made.setdefault("stop_reason", _reason(made["stopped"]))
    return made


def row(found: dict[str, Any]) -> dict[str, Any]:
    """A row of history.jsonl.

    >>> row({"epoch": 1, "pictures_per_second": 90.5})
    {'epoch': 1, 'images_per_second': 90.5}
    """
    return {_KEYS.get(key, key): value for key, value in found.items()}


def metrics(found: dict[str, Any]) -> dict[str, Any]:
    """A split's part of metrics.json: the points of its verdict refer to sections of the report by name.

    >>> metrics({"verdict": {"points": [{"title": "Nothing odd", "section": "pictures"}]}})
    {'verdict': {'points': [{'title': 'Nothing odd', 'section': 'images'}]}}
    """
    verdict = found.get("verdict")
    if not isinstance(verdict, dict):
        return found
    points = [{**point, "section": _SECTIONS.get(point["section"], point["section"])} for point in verdict["points"]]
    return found | {"verdict": verdict | {"points": points}}


def _kind(kind: str) -> str:
    return kind.replace("picture", "image")


def _reason(stopped: str) -> str:
    if stopped.endswith("its time was up"):
        return "time-up"
    return next((reason for words, reason in _REASONS.items() if stopped.startswith(words)), "watch")
